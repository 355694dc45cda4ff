from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import abaw_emi.submission.write as room
from abaw_emi.core.errors import SubmissionError, UsageError
from abaw_emi.data.provenance import Provenance
from abaw_emi.data.tables import read_predictions
from abaw_emi.submission.check import check_path
from abaw_emi.submission.format import SubmissionFormat, read_profile
from abaw_emi.submission.ledger import amend, read_ledger
from abaw_emi.submission.write import Submission, write_submission
from tests.csv_tables import EMOTIONS, to_table
from tests.simulated import draw_labels
from tests.simulated import name as with_ids


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ledger(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]


def listing(out: Path) -> list[str]:
    """What lies in the folder of submissions but the lock."""
    return sorted(path.name for path in out.iterdir() if path.name != ".ledger.lock")


def changed(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Other predictions of the same clips."""
    values = np.random.default_rng(seed).uniform(0, 1, (len(table), 6))
    return table.with_columns(pl.Series(e, column) for e, column in zip(EMOTIONS, values.T, strict=True))


def refusal(table: pl.DataFrame, test_ids: list[str], out: Path, **options: object) -> list[str]:
    """The lines with which a submission is refused."""
    with pytest.raises(SubmissionError) as caught:
        write_submission(table, test_ids, out, **options)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


@pytest.fixture
def labels() -> pl.DataFrame:
    return to_table({"00000": [0.0, 0.5, 0.1, 0.0, 0.0, 0.0], "00001": [1.0, 0.5, 0.2, 0.0, 0.0, 0.5]})


@pytest.fixture
def submission(predictions: pl.DataFrame, test_ids: list[str], out: Path) -> Submission:
    return write_submission(predictions, test_ids, out, name="first")


# What a submission holds.


def test_a_submission_is_found_sound_by_the_check(submission: Submission, test_ids: list[str]) -> None:
    for path in (submission.folder, submission.archive, submission.folder / "predictions.csv"):
        finding = check_path(path, test_ids)
        assert (finding.problems, finding.rows) == ((), 20)


def test_the_folder_holds_csv_manifest_and_zip_and_the_zip_exactly_the_csv_at_its_root(
    submission: Submission, out: Path
) -> None:
    assert submission.folder == out / "first"
    names = sorted(path.name for path in submission.folder.iterdir())
    assert names == ["first.zip", "manifest.json", "predictions.csv"]
    with zipfile.ZipFile(submission.archive) as archive:
        assert archive.namelist() == ["predictions.csv"]
        assert archive.read("predictions.csv") == (submission.folder / "predictions.csv").read_bytes()
    assert listing(out) == ["first", "ledger.jsonl"]


def test_values_are_clipped_cell_by_cell_counted_and_otherwise_untouched(
    predictions: pl.DataFrame, submission: Submission
) -> None:
    expected = {
        "Admiration": 2,
        "Amusement": 0,
        "Determination": 0,
        "Empathic Pain": 1,
        "Excitement": 0,
        "Joy": 0,
    }
    assert submission.clipped == expected
    written = read_predictions(submission.folder / "predictions.csv")
    raw = predictions.sort("Filename")
    assert written["Filename"].to_list() == raw["Filename"].to_list()
    values = raw.select(EMOTIONS).to_numpy()
    assert (written.select(EMOTIONS).to_numpy() == np.minimum(np.maximum(values, 0), 1)).all()


def test_the_manifest_tells_hashes_ids_clipping_source_and_provenance(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    record = Provenance(
        command="abaw-emi ensemble", trained_on=frozenset({"00000", "00001"}), members=[{"run": "r"}]
    )
    made = write_submission(
        predictions, test_ids, out, name="x", source={"file": "p.csv", "sha256": "ab"}, provenance=record
    )
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["name"] == "x"
    assert manifest["sha256"] == sha256(made.folder / "predictions.csv")
    assert manifest["zip_sha256"] == sha256(made.archive)
    assert manifest["ids"] == ["12660-12679"]
    assert manifest["rows"] == 20
    assert manifest["clipped"] == made.clipped
    assert manifest["source"] == {"file": "p.csv", "sha256": "ab"}
    assert manifest["provenance"]["trained_on"] == ["00000-00001"]
    assert manifest["provenance"]["members"] == [{"run": "r"}]
    assert "assumed" in manifest["format"]
    assert "rows:20|clip:auto|filled:0" in manifest["signature"]


def test_modalities_that_the_runs_did_without_are_repeated(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    runs = [{"run": "a", "missing": {"vit": ["12660-12669"]}}, {"run": "b", "missing": {"vit": ["12670"]}}]
    inner = Provenance(command="x", split="test", members=runs).to_json()
    record = Provenance(command="x", members=[{"file": "p.csv", "provenance": inner}])
    made = write_submission(predictions, test_ids, out, provenance=record)
    expected = "predictions: 11 of 20 clips were predicted without vit: 12660-12670"
    assert [str(warning) for warning in made.warnings] == [expected]


def test_the_same_predictions_give_the_same_bytes_in_any_folder(
    predictions: pl.DataFrame, test_ids: list[str], tmp_path: Path
) -> None:
    one = write_submission(predictions, test_ids, tmp_path / "a", name="x")
    two = write_submission(predictions.reverse(), test_ids[::-1], tmp_path / "b" / "c", name="y")
    assert one.archive.read_bytes() == two.archive.read_bytes()
    assert (one.folder / "predictions.csv").read_bytes() == (two.folder / "predictions.csv").read_bytes()


def test_the_zip_of_the_same_csv_has_the_same_bytes_on_every_machine_and_day() -> None:
    packed = room.pack(b"Filename\n00001\n", "predictions.csv")
    assert (
        hashlib.sha256(packed).hexdigest()
        == "4dd8845a17c23669c5a5c7ad8917b1403458e78efb81c454d249f20025e878ca"
    )


def test_missing_clips_are_filled_with_the_train_mean_when_asked_and_recorded(
    predictions: pl.DataFrame, test_ids: list[str], out: Path, labels: pl.DataFrame
) -> None:
    some = predictions.filter(~pl.col("Filename").is_in(["12661", "12670"]))
    made = write_submission(some, test_ids, out, fill=labels)
    assert made.filled == ("12661", "12670")
    assert made.manifest["filled"] == ["12661", "12670"]
    assert "filled:2" in made.manifest["signature"]
    written = {row[0]: row[1:] for row in read_predictions(made.folder / "predictions.csv").iter_rows()}
    mean = [float(np.float32(value)) for value in (0.5, 0.5, 0.15, 0.0, 0.0, 0.25)]
    assert written["12661"] == pytest.approx(mean, abs=1e-9)
    assert written["12670"] == written["12661"]
    assert len(written) == 20
    assert write_submission(changed(predictions, 3), test_ids, out, fill=labels).filled == ()


# Names and the ledger.


def test_names_are_counted_up_and_the_ledger_only_grows(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    before = b""
    for number in (1, 2, 3):
        table = predictions if number == 1 else changed(predictions, number)
        made = write_submission(table, test_ids, out, source={"file": "p.csv"})
        assert made.folder.name == f"submission-{number}"
        content = (out / "ledger.jsonl").read_bytes()
        assert content.startswith(before)
        assert content.count(b"\n") == number
        before = content
    lines = ledger(out)
    assert [line["name"] for line in lines] == ["submission-1", "submission-2", "submission-3"]
    assert lines[0]["sha256"] == sha256(out / "submission-1" / "predictions.csv")
    assert lines[0]["zip_sha256"] == sha256(out / "submission-1" / "submission-1.zip")
    assert lines[0]["source"] == {"file": "p.csv"}
    assert lines[0]["rows"] == 20
    assert sum(lines[0]["clipped"].values()) == 3  # type: ignore[attr-defined]


def test_what_stood_in_the_ledger_stays_whatever_it_is(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    out.mkdir()
    (out / "ledger.jsonl").write_text("a line by hand\n")
    write_submission(predictions, test_ids, out)
    first, second = (out / "ledger.jsonl").read_text().splitlines()
    assert first == "a line by hand"
    assert json.loads(second)["name"] == "submission-1"


def test_a_name_that_is_taken_is_refused_and_nothing_is_touched(
    submission: Submission, predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    lines = refusal(changed(predictions, 9), test_ids, out, name="first")
    assert lines == [
        f"{out / 'first'}: a submission of this name is already there; use --name (in Python name=NAME)"
    ]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".hidden", "..", "/x"])
def test_a_name_that_is_no_plain_folder_name_is_refused(
    predictions: pl.DataFrame, test_ids: list[str], out: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="expected a plain folder name"):
        write_submission(predictions, test_ids, out, name=name)
    assert not out.exists()


# Refusals. Nothing is left behind by any of them.


def test_without_clipping_values_outside_0_to_1_are_refused_by_emotion(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    assert refusal(predictions, test_ids, out, bounds="refuse") == [
        "predictions, Admiration: 2 values lie outside [0, 1]",
        "predictions, Empathic Pain: 1 values lie outside [0, 1]",
    ]
    assert not out.exists()
    inside = predictions.with_columns(pl.col(EMOTIONS).clip(0, 1))
    made = write_submission(inside, test_ids, out, bounds="refuse")
    assert set(made.clipped.values()) == {0}
    assert "clip:no" in made.manifest["signature"]


def test_a_column_that_is_constant_or_becomes_so_by_clipping_is_refused_by_name(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    table = predictions.with_columns(Joy=pl.lit(0.25), Excitement=pl.col("Excitement") + 1.5)
    joy, excitement = sorted(
        refusal(table, test_ids, out, bounds="clip"), key=lambda line: "Excitement" in line
    )
    assert joy.startswith("predictions, Joy: every clip has the same value")
    assert excitement.startswith("predictions, Excitement: every clip has the same value")
    assert "20 of its values were clipped to [0, 1]" in excitement
    assert not out.exists()


def test_missing_extra_and_duplicate_clips_are_refused_by_id(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    ordered = predictions.sort("Filename")
    strange = ordered[:1].with_columns(Filename=pl.lit("00042"))
    lines = refusal(pl.concat([ordered[:-2], ordered[3:4], strange]), test_ids, out)
    assert any("2 ids missing, against the test ids: 12678, 12679" in line for line in lines)
    assert any("1 id too many, against the test ids: 00042" in line for line in lines)
    assert any("1 id more than once: 12663" in line for line in lines)
    assert any("--fill train-mean" in line for line in lines)
    assert not out.exists()


def test_ids_and_values_are_refused_together(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    lines = refusal(predictions.sort("Filename")[:-1], test_ids, out, bounds="refuse")
    for part in ("12679", "Admiration: 2 values", "Empathic Pain: 1 values"):
        assert any(part in line for line in lines)


@pytest.mark.parametrize("bounds", ["auto", "refuse"])
@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_cell_that_is_no_number_is_refused(
    predictions: pl.DataFrame, test_ids: list[str], out: Path, value: float | None, bounds: str
) -> None:
    here = pl.col("Filename") == "12662"
    inside = predictions.with_columns(pl.col(EMOTIONS).clip(0, 1))
    broken = inside.with_columns(
        Joy=pl.when(here).then(pl.lit(value, dtype=pl.Float64)).otherwise(pl.col("Joy"))
    )
    (line,) = refusal(broken, test_ids, out, bounds=bounds)
    assert ", Joy: " in line
    assert not out.exists()


@pytest.mark.parametrize("step", ["write_bytes", "read_zip", "append", "rename"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_stopped_midway_it_leaves_nothing_behind(
    predictions: pl.DataFrame,
    test_ids: list[str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[BaseException],
) -> None:
    write_submission(predictions, test_ids, out, name="first")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def stop(*arguments: object, **_: object) -> None:
        if step == "write_bytes":  # the first file is there, the second is not
            path, content = arguments
            assert isinstance(path, Path)
            assert isinstance(content, bytes)
            if path.suffix == ".csv":
                path.parent.mkdir(parents=True)
                path.write_bytes(content)
                return
        raise error

    monkeypatch.setattr(Path if step == "rename" else room, step, stop)
    with pytest.raises(SubmissionError if error is OSError else error):
        write_submission(changed(predictions, 5), test_ids, out, name="second")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert listing(out) == ["first", "ledger.jsonl"]


def test_what_a_killed_run_left_is_no_hindrance(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    (out / ".first.partial").mkdir(parents=True)
    (out / ".first.partial" / "predictions.csv").write_text("half a f")
    write_submission(predictions, test_ids, out, name="first")
    assert listing(out) == ["first", "ledger.jsonl"]


def test_without_a_ledger_line_there_is_no_submission(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    (out / "ledger.jsonl").mkdir(parents=True)
    with pytest.raises(SubmissionError, match=r"ledger\.jsonl: cannot be read"):
        write_submission(predictions, test_ids, out, name="first")
    assert listing(out) == ["ledger.jsonl"]


def test_a_zip_that_does_not_read_back_as_meant_is_refused(
    predictions: pl.DataFrame, test_ids: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack_something_else(content: bytes, name: str) -> bytes:
        return pack(content.replace(b"0.1", b"0.2", 1), name)

    pack = room.pack
    monkeypatch.setattr(room, "pack", pack_something_else)
    with pytest.raises(SubmissionError, match="read back, it is not what was written"):
        write_submission(predictions, test_ids, out, name="first")
    assert listing(out) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_a_name(
    predictions: pl.DataFrame, test_ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SubmissionError, match="cannot be written"):
        write_submission(predictions, test_ids, tmp_path / "file" / "submissions")


# What is refused unless it is forced, and what the record forbids.


def test_one_try_too_many_is_refused_unless_forced(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    for number in range(5):
        write_submission(changed(predictions, number), test_ids, out)
    (line,) = refusal(predictions, test_ids, out)
    used = "5 of 5 tries (assumed) are used; expected one try left"
    assert line == f"{out / 'ledger.jsonl'}: {used}; --force (in Python force=True) to go on all the same"
    six = SubmissionFormat(tries=6, given=frozenset({"tries"}), source="rules.toml")
    write_submission(predictions, test_ids, out, profile=six)
    (line,) = refusal(changed(predictions, 8), test_ids, out, profile=six)
    assert "6 of 6 tries are used" in line
    forced = write_submission(changed(predictions, 8), test_ids, out, force=True)
    assert any("6 of 5 tries (assumed) are used" in str(warning) for warning in forced.warnings)
    amend(out, "submission-1", sent=False)
    assert read_ledger(out).used == 6


def test_an_earlier_submission_over_again_is_refused_unless_forced(
    submission: Submission, predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    assert submission.folder.name == "first"
    near = predictions.with_columns(pl.col("Joy") + 1e-7)
    (line,) = refusal(near, test_ids, out)
    assert "all but identical to (every r > 0.9999) submission first" in line
    assert line.endswith("--force (in Python force=True) to send it all the same")
    assert write_submission(near, test_ids, out, force=True).folder.name == "submission-1"
    amend(out, "first", sent=False)
    amend(out, "submission-1", sent=False)
    assert write_submission(near, test_ids, out).warnings == ()


def test_labels_in_place_of_predictions_are_refused(out: Path) -> None:
    table = with_ids(draw_labels(np.random.default_rng(2), 60), start=12660)
    (line,) = refusal(table, table["Filename"].to_list(), out)
    assert "values look like labels" in line


def test_predictions_of_another_split_or_of_mixed_splits_are_refused(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    inner = Provenance(command="x", split="fold 1/5 of train").to_json()
    outer = Provenance(command="x", split="valid", members=[{"file": "a.csv", "provenance": inner}])
    assert refusal(predictions, test_ids, out, provenance=outer) == [
        "predictions: its record says split valid; expected split test",
        "predictions: members of it predict split fold 1/5 of train; expected members that all predict test",
    ]
    other = Provenance(command="x", split="test", sha256="aa")
    (line,) = refusal(predictions, test_ids, out, provenance=other, source={"sha256": "bb"})
    assert line == "predictions: its provenance record was written for other bytes; expected its own record"
    seen = Provenance(command="x", split="test", trained_on=frozenset({"12661", "00001"}))
    assert refusal(predictions, test_ids, out, provenance=seen) == [
        "predictions: its runs were trained on 1 of the test clips"
    ]
    assert not out.exists()


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    dry = write_submission(predictions, test_ids, out, dry_run=True)
    assert not out.exists()
    made = write_submission(predictions, test_ids, out)
    assert made.folder == dry.folder
    for key in ("sha256", "zip_sha256", "clipped", "signature"):
        assert made.manifest[key] == dry.manifest[key]


def test_a_name_of_the_ledger_is_not_used_again_though_its_folder_is_gone(
    submission: Submission, predictions: pl.DataFrame, test_ids: list[str], out: Path
) -> None:
    shutil.rmtree(submission.folder)
    other = changed(predictions, 8)
    (line,) = refusal(other, test_ids, out, name="first")
    assert line.endswith("it already holds a submission 'first'; use --name (in Python name=NAME)")
    assert write_submission(other, test_ids, out).folder.name == "submission-1"


# Profiles.


def test_a_profile_decides_header_ids_decimals_range_and_names(
    predictions: pl.DataFrame, test_ids: list[str], out: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        'header = ["filename", "p1", "p2", "p3", "p4", "p5", "p6"]\nid_form = "plain"\nid_suffix = ".mp4"\n'
        'decimals = 4\nrange = [-0.5, 2.0]\ncsv_name = "result.csv"\n'
        'zip_name = "team_{name}.zip"\ntries = 3\n'
    )
    profile = read_profile(path)
    made = write_submission(predictions, test_ids, out, name="x", profile=profile)
    assert sorted(file.name for file in made.folder.iterdir()) == [
        "manifest.json",
        "result.csv",
        "team_x.zip",
    ]
    lines = (made.folder / "result.csv").read_text().splitlines()
    assert lines[0] == "filename,p1,p2,p3,p4,p5,p6"
    assert lines[3].startswith("12662.mp4,")
    assert all(re.fullmatch(r"\d+\.mp4(,-?\d\.\d{4}){6}", line) for line in lines[1:])
    assert set(made.clipped.values()) == {0}
    assert made.manifest["format"] == f"the format is that of {path}"
    for sound in (made.folder, made.archive):
        assert check_path(sound, test_ids, profile=profile).problems == ()
    assert check_path(made.archive, test_ids).problems != ()
    other = write_submission(changed(predictions, 1), test_ids, out, name="y")
    (problem,) = check_path(other.folder / "predictions.csv", test_ids, profile=profile).problems[:1]
    assert "expected filename,p1,p2,p3,p4,p5,p6, as" in str(problem)
    named = check_path(other.archive, test_ids, profile=profile).problems
    assert any("the CSV is named predictions.csv; expected result.csv" in str(problem) for problem in named)
