from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from abaw_emi.core.errors import ScoreError, TableError
from abaw_emi.data.frames import write_predictions
from abaw_emi.data.tables import read_predictions
from abaw_emi.evaluation.bootstrap import Resampling
from abaw_emi.evaluation.score import score
from abaw_emi.runs.kfold import find_fold_runs, score_folds
from tests.simulated import draw_labels, name, predict


def write_run(folder: Path, table: pl.DataFrame | None, **record: Any) -> None:
    """A run folder as `abaw-emi train --fold k/K` leaves it."""
    folder.mkdir(parents=True)
    defaults = {"preset": "paper", "seed": 1, "fold": None, "train_plus_val": True, "finished": "2026-11-22"}
    (folder / "provenance.json").write_text(json.dumps({**defaults, **record}))
    if table is not None:
        write_predictions(table, folder / "valid_predictions.csv")


def write_folds(
    runs: Path, labels: pl.DataFrame, folds: int = 3, seed: int = 1, trainval: bool = True, **record: Any
) -> None:
    """K runs; the k-th is worse by a constant and on another scale, as runs are."""
    rng = np.random.default_rng([seed, folds])
    for k in range(folds):
        part = labels[k::folds]
        values = k + (1 + k) * predict(rng, part.select(pl.exclude("Filename")).to_numpy(), 0.8)
        table = part.with_columns(
            pl.Series(e, column) for e, column in zip(part.columns[1:], values.T, strict=True)
        )
        folder = runs / f"paper{'-trainval' if trainval else ''}-fold{k + 1}of{folds}-seed{seed}"
        write_run(folder, table, fold=f"{k + 1}/{folds}", seed=seed, train_plus_val=trainval, **record)


@pytest.fixture
def labels() -> pl.DataFrame:
    return name(draw_labels(np.random.default_rng(1), 150), start=0)


@pytest.fixture
def runs(tmp_path: Path, labels: pl.DataFrame) -> Path:
    folder = tmp_path / "runs"
    write_run(folder / "paper-trainval-seed1", None)
    write_run(folder / "other-fold1of3-seed1", labels, preset="other", fold="1/3")
    (folder / "notes").mkdir()
    write_folds(folder, labels)
    return folder


def test_each_fold_is_scored_on_its_own_clips_and_the_folds_are_averaged_by_their_size(
    runs: Path, labels: pl.DataFrame
) -> None:
    found, problems = find_fold_runs(runs, "paper")
    assert (len(found), problems) == (3, [])
    result, problems = score_folds(found, labels)
    assert problems == []
    assert result is not None
    alone = []
    for run in found:
        table = read_predictions(run.folder / "valid_predictions.csv")
        own = labels.filter(pl.col("Filename").is_in(table["Filename"].to_list()))
        alone.append(score(own, table, resamples=0))
    assert result.mean_pearson == pytest.approx(np.mean([one.mean_pearson for one in alone]))
    assert result.pearson["Joy"] == pytest.approx(np.mean([one.pearson["Joy"] for one in alone]))  # type: ignore[arg-type]
    assert (result.n, result.folds, result.seeds, result.train_plus_val) == (150, 3, (1,), True)
    low, high = result.interval["mean_pearson"]
    assert low < result.mean_pearson < high
    assert result.describe == (
        "3-fold runs of preset paper on train+val (seed 1), each on clips that it has not seen: "
        "of the recipe, not of this run; optimistic, since folds share speakers"
    )


def test_seeds_are_averaged_and_train_plus_val_comes_before_train(runs: Path, labels: pl.DataFrame) -> None:
    write_folds(runs, labels, seed=2)
    write_folds(runs, labels, seed=1, trainval=False, folds=5)
    both, _ = score_folds(find_fold_runs(runs, "paper")[0], labels)
    assert both is not None
    assert (both.seeds, both.folds, both.n) == ((1, 2), 3, 150)
    without, _ = score_folds([r for r in find_fold_runs(runs, "paper")[0] if not r.train_plus_val], labels)
    assert without is not None
    assert "5-fold runs of preset paper on train (seed 1)" in without.describe


def test_an_incomplete_set_stands_for_nothing_and_is_told(runs: Path, labels: pl.DataFrame) -> None:
    path = runs / "paper-trainval-fold2of3-seed1" / "provenance.json"
    path.write_text(path.read_text().replace('"2026-11-22"', "null"))
    found, problems = find_fold_runs(runs, "paper")
    assert [str(problem) for problem in problems] == [
        f"{path.parent}: the run is not finished; its fold is not counted"
    ]
    result, problems = score_folds(found, labels)
    assert result is None
    assert str(problems[0]) == "paper: 3-fold runs of seed 1 lack fold 2; expected every fold"
    path.write_text("{")
    assert str(find_fold_runs(runs, "paper")[1][0]).startswith(f"{path}: not a run's record (no JSON")
    path.write_text('{"preset": "paper", "fold": "4/3", "seed": 1, "train_plus_val": true}')
    (said,) = map(str, find_fold_runs(runs, "paper")[1])
    assert said == f"{path}: cannot be used (ValueError: fold '4/3'; expected k/K, such as 1/5)"
    assert find_fold_runs(runs / "nowhere", "paper") == ([], [])


def test_folds_that_share_clips_or_have_none_of_the_labels_are_refused(
    runs: Path, labels: pl.DataFrame
) -> None:
    found, _ = find_fold_runs(runs, "paper")
    with pytest.raises(TableError, match="clips without a label"):
        score_folds(found, labels[:100])
    table = read_predictions(found[0].folder / "valid_predictions.csv")
    write_predictions(table, found[1].folder / "valid_predictions.csv")
    with pytest.raises(ScoreError, match="50 of its clips stand in another fold, too"):
        score_folds(found, labels, Resampling(resamples=10))
