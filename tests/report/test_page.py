from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from abaw_emi.audit.finding import make_finding
from abaw_emi.audit.record import Audit, Histogram, fingerprint_listing, write_audit
from abaw_emi.core.constants import OFFICIAL_COUNTS, VERSION
from abaw_emi.core.errors import EmiError
from abaw_emi.data.folder import DataFolder
from abaw_emi.report.page import write_report
from abaw_emi.report.sources import ReportSources
from tests.report.conftest import (
    DATE,
    HOSTILE,
    TRAIN,
    VALID,
    Made,
    Page,
    make_folder,
    make_labels,
    make_ledger,
    make_predictions,
    make_run,
    sources_of,
)
from tests.simulated import draw_labels, name

SECTIONS = ["about", "data", "training", "validation", "comparison", "submissions", "provenance"]


def write(folder: Path, **changes: object) -> Page:
    written = write_report(ReportSources(**changes), folder / "report.html")  # type: ignore[arg-type]
    return Page(written.page.read_text(encoding="utf-8"))


def test_the_page_is_sound_html_with_ids_of_its_own(made: Made) -> None:
    page = Page(made.html)
    assert made.html.startswith("<!doctype html>")
    assert (page.unbalanced, page.open) == ([], [])
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for _, attrs in page.elements if attrs.get("href", "").startswith("#")}
    assert targets
    assert targets <= set(ids)
    assert [attrs["id"] for attrs in page.all("section")] == SECTIONS


def test_the_page_loads_nothing_but_the_clips(made: Made) -> None:
    page = Page(made.html)
    loaded = [
        value
        for tag, attrs in page.elements
        for key, value in attrs.items()
        if key in ("src", "srcset", "poster", "data", "action", "xlink:href")
        or (key == "href" and not (tag in ("a", "use") and value.startswith(("#", "data:text/csv"))))
    ]
    assert loaded
    for address in loaded:
        assert (made.folder / unquote(address)).is_file()
    styles = " ".join([*page.text_of("style"), *(attrs.get("style", "") for _, attrs in page.elements)])
    assert re.findall(r"url\((?!#)|@import|@font-face", styles + made.html) == []
    assert not page.all("link")
    assert not page.all("iframe")


def test_the_policy_allows_the_one_script_and_no_network(made: Made) -> None:
    page = Page(made.html)
    (script,) = re.findall(r"<script>(.*?)</script>", made.html, re.DOTALL)
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_headings_step_down_one_level_at_a_time(made: Made) -> None:
    levels = [int(tag[1]) for tag, _ in Page(made.html).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_figures_and_tables_are_described_for_readers_who_cannot_see_them(made: Made) -> None:
    page = Page(made.html)
    pictures = page.all("svg")
    assert len(pictures) > 20
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 15
    assert len({attrs["aria-label"] for attrs in pictures}) > 20
    for attrs in (*page.all("audio"), *page.all("video")):
        assert attrs["aria-label"].startswith("Clip ")
    assert len(page.all("caption")) == len(page.all("table"))
    assert {attrs["scope"] for attrs in page.all("th")} == {"col", "row"}
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("label")) == len(page.all("input"))


def test_the_page_shows_what_score_says_to_its_last_digit(made: Made) -> None:
    page = Page(made.html)
    best = made.written.results.best
    assert best is not None
    for value in (best.score.mean_pearson, *best.score.pearson.values()):
        assert value is not None
        assert f"{value:.4f}" in page.text_of("td")
    assert best.score.signature in page.text_of("code")
    assert "0.4321" in page.text_of("td")


def test_figures_are_numbered_and_bring_their_numbers_as_csv(made: Made) -> None:
    page = Page(made.html)
    numbers = [text for text in page.text_of("strong") if text.startswith("Figure ")]
    assert numbers == [f"Figure {i}." for i in range(1, len(made.written.report.charts) + 1)]
    links = {attrs["download"]: attrs["href"] for attrs in page.all("a") if "download" in attrs}
    assert len(links) == len(numbers)
    for file, address in links.items():
        content = unquote(address.removeprefix("data:text/csv;charset=utf-8,"))
        assert content + "\n" == (made.folder / "figures" / file).read_text(encoding="utf-8")


def test_the_page_says_when_and_with_what_it_was_made(made: Made) -> None:
    text = Page(made.html).text
    assert "abaw-emi report, 2026-05-28" in text
    assert f"made on 2026-05-28 (UTC) by abaw-emi {VERSION}" in text
    assert f"numpy {np.__version__}" in text


@pytest.mark.usefixtures("no_pictures")
def test_the_title_is_that_of_the_user(tmp_path: Path) -> None:
    make_ledger(tmp_path / "submissions")
    sources = ReportSources(submissions=tmp_path / "submissions")
    written = write_report(sources, tmp_path / "report.html", title="Our <best> runs")
    page = Page(written.page.read_text(encoding="utf-8"))
    assert page.text_of("title") == page.text_of("h1") == ["Our <best> runs"]


def test_the_page_says_what_the_scores_are_selected_on_and_what_clipping_changes(made: Made) -> None:
    text = Page(made.html).text
    assert "The epoch of each run was selected on these clips (valid)" in text
    best, clipped = made.written.results.best, made.written.results.clipped
    assert best is not None
    assert clipped is not None
    assert f"scores {clipped[0]:.4f} instead of {best.score.mean_pearson:.4f}" in text
    for standing in made.written.results.standings:
        assert f"{standing.score.clipped_mean_pearson:.4f}" in Page(made.html).text_of("td")


def test_every_number_has_a_signature_that_names_the_version(made: Made) -> None:
    charts = made.written.report.charts
    assert len(charts) == 9
    shown = Page(made.html).text_of("code")
    for chart in charts:
        assert chart.signature in shown
        assert "abaw_emi:" in chart.signature


def test_every_file_read_is_listed_with_its_hash(made: Made) -> None:
    codes = Page(made.html).all("code")
    for path in (*made.folder.rglob("*.csv"), *made.folder.rglob("*.jsonl")):
        if "figures" not in path.parts:
            assert {"title": hashlib.sha256(path.read_bytes()).hexdigest()} in codes, path


def test_the_same_input_gives_the_same_bytes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", DATE)
    again = write_report(sources_of(made.folder), made.folder / "again.html", tmp_path / "figures")
    assert again.page.read_bytes() == made.written.page.read_bytes()
    for path in again.figures:
        assert path.read_bytes() == (made.folder / "figures" / path.name).read_bytes(), path.name


def test_names_that_are_markup_stay_names(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "runs" / "tiny-seed1").rename(tmp_path / "runs" / HOSTILE)
    (tmp_path / "predictions" / "theirs.csv").rename(tmp_path / "predictions" / f"{HOSTILE}.csv")
    ledger = tmp_path / "submissions" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"second"', '"<img src=x onerror=alert(1)>"'))
    written = write_report(sources_of(tmp_path), tmp_path / "report.html", tmp_path / "figures")
    html = written.page.read_text(encoding="utf-8")
    page = Page(html)
    assert (page.unbalanced, page.open) == ([], [])
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not page.all("b")
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert HOSTILE in page.text
    assert "<img src=x onerror=alert(1)>" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_a_data_folder_that_is_markup_still_plays(tmp_path: Path) -> None:
    folder = tmp_path / "a <b>#1%\" 'x"
    make_folder(folder)
    written = write_report(sources_of(folder), tmp_path / "pages" / "report.html")
    page = Page(written.page.read_text(encoding="utf-8"))
    players = page.all("audio")
    assert len(players) == 20
    for attrs in players:
        assert (tmp_path / "pages" / unquote(attrs["src"])).is_file()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        (("data",), {"training", "validation", "comparison", "submissions"}),
        (("runs",), {"data", "validation", "comparison", "submissions"}),
        (("predictions",), {"data", "training", "validation", "comparison", "submissions"}),
        (("submissions",), {"data", "training", "validation", "comparison"}),
        (("data", "runs"), {"submissions"}),
        (("data", "predictions"), {"training", "comparison", "submissions"}),
    ],
    ids=lambda names: "+".join(sorted(names)),
)
def test_what_is_missing_is_said_and_the_rest_is_there(
    tmp_path: Path, parts: tuple[str, ...], missing: set[str]
) -> None:
    make_folder(tmp_path)
    whole = sources_of(tmp_path)
    written = write_report(
        ReportSources(**{part: getattr(whole, part) for part in parts}),  # type: ignore[arg-type]
        tmp_path / "report.html",
    )
    assert set(written.report.missing) == missing
    page = Page(written.page.read_text(encoding="utf-8"))
    assert [attrs["id"] for attrs in page.all("section")] == SECTIONS
    for texts in written.report.missing.values():
        for text in texts:
            assert text in page.text


def test_nothing_at_all_is_an_error_and_no_page(tmp_path: Path) -> None:
    with pytest.raises(EmiError, match="nothing to report"):
        write_report(ReportSources(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_everything_that_was_chosen_and_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("Filename\n1\n")
    chosen = ReportSources(
        data=tmp_path / "nowhere",
        runs=[tmp_path / "no-run"],
        predictions=[tmp_path / "bad.csv", tmp_path / "none.csv"],
        submissions=tmp_path / "no-ledger",
    )
    with pytest.raises(EmiError) as caught:
        write_report(chosen, tmp_path / "report.html")
    text = str(caught.value)
    for part in ("nowhere", "no-run", "bad.csv", "none.csv", "no-ledger"):
        assert part in text
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_what_was_only_found_and_is_wrong_is_left_out_with_a_warning(tmp_path: Path) -> None:
    make_labels(tmp_path / "data")
    (tmp_path / "bad.csv").write_text("Filename\n1\n")
    found = ReportSources(
        data=tmp_path / "data", predictions=[tmp_path / "bad.csv"], chosen=frozenset({"data"})
    )
    written = write_report(found, tmp_path / "report.html")
    assert any("bad.csv" in str(problem) for problem in written.material.warnings)
    assert "bad.csv" in Page(written.page.read_text(encoding="utf-8")).text


@pytest.mark.usefixtures("no_pictures")
def test_a_system_that_has_seen_the_clips_is_named_and_not_scored(tmp_path: Path) -> None:
    truth = make_labels(tmp_path / "data")
    make_predictions(tmp_path / "honest.csv", truth + 0.5 * np.arange(6))
    make_predictions(tmp_path / "cheat.csv", truth, seen=TRAIN + VALID)
    page = write(
        tmp_path, data=tmp_path / "data", predictions=[tmp_path / "honest.csv", tmp_path / "cheat.csv"]
    )
    assert f"SEEN IN TRAINING: trained on {VALID} of these {VALID} clips" in page.text
    rows = re.findall(r'id="systems".*?</table>', (tmp_path / "report.html").read_text(), re.DOTALL)
    assert "honest" in rows[0]
    assert "cheat" not in rows[0]


def test_constant_predictions_and_a_diverged_run_are_drawn_all_the_same(tmp_path: Path) -> None:
    truth = make_labels(tmp_path / "data")
    truth[:, 2] = 0.25
    make_predictions(tmp_path / "flat.csv", truth)
    make_run(tmp_path / "runs" / "diverged", loss=float("nan"))
    make_run(tmp_path / "runs" / "one-epoch", epochs=1)
    page = write(
        tmp_path,
        data=tmp_path / "data",
        predictions=[tmp_path / "flat.csv"],
        runs=[tmp_path / "runs"],
    )
    assert "undefined" in page.text_of("td")
    assert "Determination: the predictions are constant" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_is_still_training_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    make_run(tmp_path / "run", finished=None)
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"epoch": 4, "train_l')  # being written
    page = write(tmp_path, runs=[tmp_path / "run"])
    assert "not finished" in page.text_of("td")
    assert "3" in page.text_of("td")


@pytest.mark.usefixtures("no_pictures")
def test_k_fold_runs_are_scored_together(tmp_path: Path) -> None:
    labels = np.concatenate([draw_labels(np.random.default_rng(3), 40)])
    (tmp_path / "data").mkdir()
    name(labels, 0).write_csv(tmp_path / "data" / "train_split.csv")
    for fold in (1, 2):
        run = tmp_path / "runs" / f"tiny-fold{fold}of2-seed1"
        make_run(run, fold=f"{fold}/2", train_plus_val=False)
        part = labels[20 * (fold - 1) : 20 * fold]
        make_predictions(run / "valid_predictions.csv", part + 0.1, start=20 * (fold - 1), seen=0)
    page = write(tmp_path, data=tmp_path / "data", runs=[tmp_path / "runs"])
    assert any(text.startswith("2-fold runs of preset tiny on train") for text in page.text_of("td"))
    assert "1.0000" in page.text_of("td")


def test_the_page_of_the_official_number_of_clips_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    train, valid = OFFICIAL_COUNTS["train"], OFFICIAL_COUNTS["valid"]
    labels = draw_labels(rng, train + valid)
    (tmp_path / "data").mkdir()
    name(labels[:train], 0).write_csv(tmp_path / "data" / "train_split.csv")
    name(labels[train:], train).write_csv(tmp_path / "data" / "valid_split.csv")
    values = labels[train:] + 0.3 * rng.standard_normal((valid, 6))
    make_predictions(tmp_path / "a.csv", values, start=train)
    page = write(tmp_path, data=tmp_path / "data", predictions=[tmp_path / "a.csv"])
    assert len(page.all("svg")) > 10
    assert "published scores on the official valid, baseline 0.250, paper 0.386; they are shown" in page.text
    assert (tmp_path / "report.html").stat().st_size < 2**20


@pytest.mark.usefixtures("no_pictures")
def test_the_ledger_alone_makes_a_page(tmp_path: Path) -> None:
    make_ledger(tmp_path / "submissions")
    page = write(tmp_path, submissions=tmp_path / "submissions")
    assert {"first", "second"} <= set(page.text_of("span"))
    assert "2 of 2 count as attempts. Times are UTC." in page.text
    assert "0.4056" in page.text_of("td")
    assert "emi_submission|rows:9" in page.text_of("code")


def audit_of(folder: Path, seconds: float) -> Audit:
    finding = make_finding(
        "clipped", "warning", "{n} clips look clipped", "they are distorted", ids=["00061"]
    )
    return Audit(
        root=str((folder / "data").absolute()),
        listing=fingerprint_listing(DataFolder(folder / "data")),
        content="",
        made="2026-03-01T00:00:00+00:00",
        versions={},
        clips={},
        seconds={f"{i:05}": seconds for i in range(TRAIN + VALID)},
        durations={},
        histogram=Histogram(),
        labels={},
        shift={},
        compared=0,
        findings=[finding],
    )


@pytest.mark.usefixtures("no_pictures")
def test_an_audit_gives_durations_and_its_findings_until_the_data_changes(tmp_path: Path) -> None:
    make_labels(tmp_path / "data")
    write_audit(audit_of(tmp_path, 3.25), tmp_path / "audit.json")
    page = write(tmp_path, data=tmp_path / "data", audits=tmp_path)
    assert "1 clips look clipped" in page.text_of("td")
    assert f"{TRAIN + VALID} clips, 0.1 h, from 3.25 to 3.25 s, mean 3.25 s" in page.text
    (tmp_path / "data" / "audio").mkdir()
    (tmp_path / "data" / "audio" / "00000.mp3").touch()
    page = write(tmp_path, data=tmp_path / "data", audits=tmp_path)
    assert "look clipped" not in page.text
    assert "files have changed since" in page.text
