"""Clips that could not be read, and runs of one fold: what is predicted is scored, and that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import abaw_emi
from abaw_emi.config.presets import find_preset
from abaw_emi.core.errors import DiagnosticWarning, ScoreError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folds import hold_out
from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.data.tables import read_labels
from tests.cli.conftest import Shell, problems, values, write_csv
from tests.simulated import name, predict

TRAIN = [f"{i:05}" for i in range(40)]
VALID = [f"{i:05}" for i in range(40, 64)]
TEST = [f"{i:05}" for i in range(70, 76)]
BAD = "00049"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder: 40 clips to train on, 24 of valid, six of test."""
    rng = np.random.default_rng(1)
    for split, ids in (("train", TRAIN), ("valid", VALID)):
        rows = dict(zip(ids, rng.random((len(ids), 6)).tolist(), strict=True))
        write_csv(tmp_path / "data" / f"{split}_split.csv", rows)
    (tmp_path / "data" / "test_split.csv").write_text("\n".join(["Filename", *TEST]) + "\n")
    return tmp_path


def write_predictions(path: Path, labels: pl.DataFrame, seed: int = 1, **record: Any) -> Path:
    """Predictions of these clips, with a record; of those that it says were skipped there are none."""
    kept = labels.filter(~pl.col("Filename").is_in(record.get("skipped", [])))
    rng = np.random.default_rng(seed)
    cells = predict(rng, kept.select(pl.exclude("Filename")).to_numpy(), 0.8)
    table = name(cells).with_columns(Filename=kept["Filename"])
    known = {"command": "abaw-emi train", "split": "valid", "trained_on_complete": True}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_with_provenance(table, path, Provenance(**(known | record)))
    return path


def write_fold(folder: Path, fold: str, *splits: str, seed: int = 1, **record: Any) -> Path:
    """The run that held this fold out, as `train --fold` leaves its predictions."""
    labels = pl.concat([read_labels(folder / "data" / f"{split}_split.csv") for split in splits])
    held_out = hold_out(labels["Filename"], fold)
    run = folder / "runs" / f"tiny-fold{fold.replace('/', 'of')}-seed{seed}"
    record = {"split": f"fold {fold} of {'+'.join(splits)}", **record}
    record["trained_on"] = frozenset(labels["Filename"]) - held_out
    own = labels.filter(pl.col("Filename").is_in(list(held_out)))
    write_predictions(run / "valid_predictions.csv", own, seed, **record)
    return run.relative_to(folder)


@pytest.fixture
def valid(folder: Path) -> pl.DataFrame:
    return read_labels(folder / "data" / "valid_split.csv")


def test_a_clip_that_could_not_be_read_is_left_out_of_a_score_and_named(
    shell: Shell, folder: Path, valid: pl.DataFrame
) -> None:
    file = write_predictions(folder / "a.csv", valid, skipped=["00003", BAD])  # one of train, too
    done = shell("score", "a.csv", "--bootstrap", "0", "--json")
    found = json.loads(done.stdout)
    assert found["n"] == 23
    assert f"a.csv: 1 id left out as unreadable: {BAD}" in found["problems"]
    assert problems(done, 0)[0] == f"warning: a.csv: 1 id left out as unreadable: {BAD}"
    without = valid.filter(pl.col("Filename") != BAD)
    table = pl.read_csv(file, schema_overrides={"Filename": pl.String})
    assert found["mean_pearson"] == abaw_emi.mean_pearson(without, table)
    same = abaw_emi.score(folder / "data" / "valid_split.csv", file, resamples=0)
    assert (same.n, same.mean_pearson) == (23, found["mean_pearson"])
    assert str(same.problems[0]) == f"predictions: 1 id left out as unreadable: {BAD}"
    with pytest.warns(DiagnosticWarning, match=f"1 id left out as unreadable: {BAD}"):
        assert abaw_emi.mean_pearson(valid, file) == found["mean_pearson"]
    with pytest.warns(DiagnosticWarning, match=f"1 id left out as unreadable: {BAD}"):
        abaw_emi.diagnose(valid, file)


def test_what_is_missing_without_a_word_in_the_record_is_missing(
    shell: Shell, folder: Path, valid: pl.DataFrame
) -> None:
    few = valid.filter(pl.col("Filename") != "00050")
    write_predictions(folder / "a.csv", few, skipped=[BAD])
    (line,) = [line for line in problems(shell("score", "a.csv"), 1) if "missing" in line]
    assert line == "a.csv: 1 id missing, against data/valid_split.csv: 00050"


def test_systems_are_compared_on_the_clips_that_all_of_them_could_read(
    shell: Shell, folder: Path, valid: pl.DataFrame
) -> None:
    files = [
        write_predictions(folder / "a.csv", valid, 1, skipped=[BAD]),
        write_predictions(folder / "b.csv", valid, 2, skipped=[BAD]),
        write_predictions(folder / "c.csv", valid, 3, skipped=["00050"]),
        write_predictions(folder / "d.csv", valid, 4),
    ]
    done = shell("compare", *files, "data/valid_split.csv", "--bootstrap", "0", "--json")
    found = json.loads(done.stdout)
    assert found["n"] == 22
    assert found["problems"][:2] == [
        f"{files[0]} and 1 more: 1 id left out as unreadable, for all systems: {BAD}",
        f"{files[2]}: 1 id left out as unreadable, for all systems: 00050",
    ]
    against = json.loads(shell("score", "d.csv", "--against", "a.csv", "--json").stdout)
    assert against["n"] == 23
    python = abaw_emi.compare(valid, {path.stem: path for path in files}, resamples=0)
    assert python.n == 22
    assert "a and 1 more: 1 id left out as unreadable, for all systems" in str(python.problems[0])


def test_the_validation_score_of_a_submission_is_that_of_the_clips_that_could_be_read(
    shell: Shell, folder: Path, valid: pl.DataFrame
) -> None:
    write_predictions(folder / "v.csv", valid, skipped=[BAD])
    write_csv(folder / "t.csv", values(TEST, 6))
    done = shell("submit", "--preds", "t.csv", "--valid-preds", "v.csv", "--dry-run", "--json")
    assert problems(done, 0)
    found = json.loads(done.stdout)
    assert "|n:23|" in found["val"]["signature"]
    assert found["harmed"] is not None
    assert f"v.csv: 1 id left out as unreadable: {BAD}" in found["problems"]


def test_a_search_says_how_good_its_choice_is_where_a_clip_could_not_be_read(
    folder: Path, valid: pl.DataFrame
) -> None:
    optuna = pytest.importorskip("optuna")
    from abaw_emi.experiments.search import summarise_search
    from abaw_emi.experiments.space import Dimension
    from abaw_emi.experiments.study import SearchPlan, open_study

    plan = SearchPlan(
        name="s",
        config=find_preset("tiny"),
        space=(Dimension(key="training.epochs", low=1, high=9, whole=True),),
        folder=folder / "search",
        labels=valid,
    )
    plan.folder.mkdir()
    study = open_study(plan)
    for number in (0, 1):
        plan.config_file(number).touch()
        study.add_trial(optuna.trial.create_trial(value=0.1 * number))
        write_predictions(plan.job(number, "").run.valid_predictions, valid, number, skipped=[BAD])
    reporter = Reporter(quiet=True)
    found = summarise_search(plan, study, reporter)
    assert found.estimate is not None
    assert f"1 id left out as unreadable, for all systems: {BAD}" in str(reporter.warnings[0])


def test_a_fold_is_scored_on_its_own_clips(shell: Shell, folder: Path) -> None:
    run = write_fold(folder, "1/5", "train")
    rival = write_fold(folder, "1/5", "train", seed=2)
    alone = shell("score", run, "--against", rival, "--json")
    found = json.loads(alone.stdout)
    assert (found["n"], found["contaminated"]) == (8, False)
    said = "scored on fold 1/5 of train, 8 of 40 clips: optimistic, since folds share speakers"
    assert f"{run}/valid_predictions.csv: {said}" in found["problems"]
    assert [each["second"] for each in found["against"]] == [f"{rival}/valid_predictions.csv"]
    given = shell("score", run, "data/train_split.csv", "--against", rival, "--json")
    assert given.stdout == alone.stdout
    both = json.loads(shell("compare", run, rival, "data/train_split.csv", "--json").stdout)
    assert both["n"] == 8


def test_a_fold_of_train_and_valid_is_scored_less_the_clips_that_could_not_be_read(
    shell: Shell, folder: Path
) -> None:
    bad = sorted(hold_out([*TRAIN, *VALID], "2/4"))[0]
    run = write_fold(folder, "2/4", "train", "valid", skipped=[bad])
    found = json.loads(shell("score", run, "--json").stdout)
    assert found["n"] == 15
    said = [problem for problem in found["problems"] if "valid_predictions.csv: " in problem]
    assert "scored on fold 2/4 of train+valid, 16 of 64 clips" in said[0]
    assert said[1].endswith(f"1 id left out as unreadable: {bad}")


def test_different_folds_have_no_clip_in_common(shell: Shell, folder: Path) -> None:
    runs = [write_fold(folder, fold, "train") for fold in ("1/5", "2/5")]
    done = shell("compare", *runs, "data/train_split.csv")
    missing = [line for line in problems(done, 1) if "32 ids missing" in line]
    assert len(missing) == 2
    with pytest.raises(ScoreError, match="ids missing"):
        abaw_emi.score(folder / "data" / "valid_split.csv", folder / runs[0])


def test_an_ensemble_of_files_says_which_clips_its_members_could_not_read(
    shell: Shell, folder: Path, valid: pl.DataFrame
) -> None:
    for seed, letter in enumerate("ab"):
        write_predictions(folder / f"{letter}.csv", valid, seed, skipped=[BAD])
    done = shell("ensemble", "--preds", "a.csv", "b.csv", "--split", "valid", "--out", "e.csv", "--json")
    assert json.loads(done.stdout)["skipped"] == [BAD]
    assert json.loads(shell("score", "e.csv", "--json").stdout)["n"] == 23
    fit = ("--labels", "data/valid_split.csv", "--method", "weights")
    fitted = shell("ensemble", "--preds", "a.csv", "b.csv", "--split", "valid", "--out", "f.csv", *fit)
    said = "warning: data/valid_split.csv: 23 of 24 clips are used, which all members have"
    assert said in problems(fitted, 0)
