"""The numbers of a report, against values computed another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abaw_emi.core.constants import REFERENCE_SCORES
from abaw_emi.core.ids import pack_ids
from abaw_emi.evaluation.pearson import mean_pearson
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.clip_errors import FEWEST, compare_groups
from abaw_emi.report.history import Curve, Durations
from abaw_emi.report.sources import Material
from abaw_emi.reproduction.published import find_rows
from abaw_emi.runs.run import Run
from tests.report.conftest import Made


def test_the_gain_compares_the_mean_of_all_with_the_best_member(made: Made) -> None:
    results = made.written.results
    assert results.gain is not None
    runs = {s.name: s.score.mean_pearson for s in results.standings if s.name.startswith("tiny-seed")}
    difference = results.gain.difference
    assert difference.second == max(runs, key=lambda name: runs[name])
    together = next(s for s in results.standings if s.name == "mean of 3 runs")
    assert difference.difference[MEAN] == pytest.approx(together.score.mean_pearson - max(runs.values()))
    for size, (low, high) in results.gain.intervals.items():
        assert low < results.gain.scores[size].mean() < high
    assert results.gain.intervals[3] == pytest.approx(together.score.interval[MEAN], abs=0.02)


def test_the_clipped_score_is_that_of_predictions_in_the_range_of_submissions(made: Made) -> None:
    results = made.written.results
    assert results.truth is not None
    assert results.prediction is not None
    assert results.clipped is not None
    inside = np.minimum(1, np.maximum(0, results.prediction))
    assert results.clipped[0] == pytest.approx(mean_pearson(results.truth, inside))
    assert results.clipped[1] == np.mean(inside != results.prediction) > 0


def test_errors_are_compared_by_duration_and_by_missing_input() -> None:
    clips = [f"{i:05}" for i in range(20)]
    errors = np.array([0.4] * 8 + [0.1] * 12) + 0.01 * np.arange(20)
    seconds = {clip: 0.5 if place < 8 else 3.0 for place, clip in enumerate(clips)}
    durations = Durations(seconds={}, by_clip=seconds, unknown=0, source="")
    record = {"missing": {"vit": pack_ids(clips[10:16]), "gte": pack_ids(clips[: FEWEST - 1])}}
    run = Curve(run=Run(Path("run")), record=record, loss="", epochs=())
    groups = {g.group: g for g in compare_groups(clips, errors, Material(curves=[run]), durations)}
    assert list(groups) == ["0 to 1 s", "2 to 4 s", "without vit"]  # four clips without gte are too few
    short = groups["0 to 1 s"]
    assert (short.kind, short.n) == ("duration", 8)
    assert short.error == pytest.approx(errors[:8].mean())
    assert short.difference == pytest.approx(errors[:8].mean() - errors[8:].mean())
    assert short.interval[0] < short.difference < short.interval[1]
    assert short.interval[0] > 0
    assert groups["without vit"].difference == pytest.approx(
        errors[10:16].mean() - np.delete(errors, range(10, 16)).mean()
    )


def test_the_reference_scores_are_the_published_ones() -> None:
    rows = {row.name: row for row in find_rows("1", ["baseline-av", "paper"])}
    assert {"baseline": rows["baseline-av"].beside_valid, "paper": rows["paper"].valid} == REFERENCE_SCORES
