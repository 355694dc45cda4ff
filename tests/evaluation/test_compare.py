from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from abaw_emi.core.errors import ScoreError, UsageError
from abaw_emi.evaluation.compare import Comparison, compare
from abaw_emi.evaluation.pearson import mean_pearson, standardise
from abaw_emi.evaluation.score import score
from abaw_emi.evaluation.text_tables import FORMATS
from tests.csv_tables import EMOTIONS
from tests.simulated import draw_labels, name, predict


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(2)
    labels = draw_labels(rng, 500)
    errors = {"mid": 1.0, "best": 0.5, "worst": 3.0}
    return {"labels": name(labels)} | {key: name(predict(rng, labels, e)) for key, e in errors.items()}


@pytest.fixture(scope="module")
def comparison(tables: dict[str, pl.DataFrame]) -> Comparison:
    systems = {key: table[::-1] for key, table in tables.items() if key != "labels"}
    return compare(tables["labels"], systems, resamples=200, permutations=500)


def test_systems_are_ranked_with_the_scores_of_score(
    comparison: Comparison, tables: dict[str, pl.DataFrame]
) -> None:
    assert list(comparison.scores) == ["best", "mid", "worst"]
    for system, found in comparison.scores.items():
        alone = score(tables["labels"], tables[system], resamples=200)
        assert (found.pearson, found.interval) == (alone.pearson, alone.interval)


def test_who_beats_whom(comparison: Comparison) -> None:
    assert {system: comparison.beats(system) for system in comparison.scores} == {
        "best": ("mid", "worst"),
        "mid": ("worst",),
        "worst": (),
    }
    assert "holm:3" in comparison.signature


def test_correlations_and_the_gain_of_a_mean(comparison: Comparison, tables: dict[str, pl.DataFrame]) -> None:
    y, a, b = (tables[key].select(EMOTIONS).to_numpy() for key in ("labels", "best", "mid"))
    pair = comparison.pairs[0]
    assert pair.correlation["Joy"] == pytest.approx(np.corrcoef(a[:, 5], b[:, 5])[0, 1])
    assert pair.mean_correlation == pytest.approx(np.mean(list(pair.correlation.values())))  # type: ignore[arg-type]
    assert pair.mean_of_both == pytest.approx(mean_pearson(y, standardise(a) + standardise(b)))
    assert pair.gain == pytest.approx(pair.mean_of_both - mean_pearson(y, a))


def test_every_form_holds_every_system(comparison: Comparison) -> None:
    for form in FORMATS:
        text = comparison.render(form)
        assert all(system in text for system in comparison.scores)
    assert comparison.render("markdown").count("|---|") == 2
    assert comparison.render("latex").count(r"\begin{tabular}") == 2
    rows = list(csv.DictReader(comparison.render("csv").splitlines()))
    assert [row["system"] for row in rows] == ["best", "mid", "worst"]
    assert float(rows[0]["mean_pearson"]) == comparison.scores["best"].mean_pearson
    assert rows[0]["beats"] == "mid worst"
    values: dict[str, Any] = json.loads(comparison.render("json"))
    assert values["systems"][0]["interval"]["Joy"] == list(comparison.scores["best"].interval["Joy"] or ())
    assert values["pairs"][2]["verdict"] == "better"
    with pytest.raises(UsageError, match="one of table, markdown"):
        comparison.render("html")


def test_scores_of_clipped_predictions_stand_beside_the_raw_ones_where_they_differ(
    comparison: Comparison, tables: dict[str, pl.DataFrame]
) -> None:
    assert "Clipped" not in comparison.tables()[0].header
    shift = pl.col(EMOTIONS) - pl.col(EMOTIONS).mean()
    moved = {"best": tables["best"].with_columns(shift), "mid": tables["mid"]}
    found = compare(tables["labels"], moved, resamples=0, permutations=10)
    ranking = found.tables()[0]
    place = ranking.header.index("Clipped")
    clipped = score(tables["labels"], moved["best"].with_columns(pl.col(EMOTIONS).clip(0, 1)), resamples=0)
    assert ranking.rows[0][place] == f"{clipped.mean_pearson:.4f}" != ranking.rows[0][1]
    lines = found.scores["best"].table().rows
    assert lines[-1] == ["Mean, clipped", f"{clipped.mean_pearson:.4f}"]


def test_latex_and_markdown_escape_names(tables: dict[str, pl.DataFrame]) -> None:
    found = compare(
        tables["labels"], {"a_b&c": tables["best"], "x|y": tables["mid"]}, resamples=0, permutations=9
    )
    assert r"a\_b\&c" in found.render("latex")
    assert r"x\|y" in found.render("markdown")


def test_one_system_and_other_clips_are_refused(tables: dict[str, pl.DataFrame]) -> None:
    with pytest.raises(ScoreError, match="1 system; expected two at least"):
        compare(tables["labels"], {"a": tables["best"]})
    with pytest.raises(ScoreError) as caught:
        compare(tables["labels"], {"a": tables["best"][1:], "b": tables["mid"][:-1]})
    assert len(str(caught.value).splitlines()) == 2


def test_a_system_that_saw_the_clips_is_marked(tables: dict[str, pl.DataFrame]) -> None:
    systems = {key: tables[key] for key in ("best", "mid")}
    found = compare(tables["labels"], systems, resamples=0, permutations=9, trained_on={"mid": {"08072"}})
    assert [entry["contaminated"] for entry in found.to_dict()["systems"]] == [False, True]
    assert "mid (SEEN IN TRAINING)" in found.render("markdown")
