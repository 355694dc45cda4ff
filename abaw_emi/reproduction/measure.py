"""The scores of a row's finished runs, on clips that they were not trained on, and on test. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from typing_extensions import TypedDict

from abaw_emi.config.compare import compare_configs
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError, Problem, ScoreError, collect_errors
from abaw_emi.core.records import read_json
from abaw_emi.data.align import align
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import hold_out
from abaw_emi.data.provenance import PredictionFile, read_prediction_file
from abaw_emi.data.scope import find_scope
from abaw_emi.ensembling.combine import combine_members
from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, interval, mean_first
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.evaluation.score import score, sign
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.reproduction.rows import RowPlan, inspect_runs
from abaw_emi.reproduction.table import Measured, RowOutcome, State, Tested
from abaw_emi.runs.kfold import find_fold_runs, score_folds
from abaw_emi.runs.run import Run
from abaw_emi.submission.check import MANIFEST
from abaw_emi.submission.ledger import read_ledger


class _Origin(TypedDict):
    members: list[dict[str, Any]]


class _Manifest(TypedDict):
    """What is read of a submission's manifest."""

    provenance: _Origin


def read_outcome(
    plan: RowPlan, data: DataFolder, submissions: Path, failure: tuple[State, Sequence[Problem]] | None = None
) -> RowOutcome:
    """A row with its scores, as far as there are any.

    Args:
        plan: of the row.
        data: the data folder, for the labels.
        submissions: the folder of submissions.
        failure: the state and problems of runs that could not be trained.
    """
    state, problems = inspect_runs(plan)
    measured, tested = None, None
    if state == "finished":
        found: list[Problem] = []
        with collect_errors(found):
            measured, problems = measure_row(plan, data)
        with collect_errors(found):
            tested, more = find_test_score(plan, submissions)
            problems = [*problems, *more]
        if found:
            state, problems = "refused", [*found, *problems]
    elif failure is not None:
        state, problems = failure[0], list(failure[1])
    return RowOutcome(
        row=plan.row, runs=plan.run_names, state=state, measured=measured, tested=tested, problems=problems
    )


def measure_row(plan: RowPlan, data: DataFolder) -> tuple[Measured | None, list[Problem]]:
    """The score of a row's finished runs on the clips that they held out, and warnings.

    Runs on train+val hold no clip out. Their score is that of K-fold runs with the same config in the same
    folder, or None without such runs.

    Raises:
        EmiError: predictions are damaged, or are of other clips or of clips that were trained on.
    """
    if plan.row.train_plus_val:
        return _measure_folds(plan, data)
    truth, on = _read_truth(plan, data)
    files = _read_predictions(plan, truth)
    truth, tables, warnings = find_scope(truth, files)
    scores = {
        name: score(truth, table, resamples=0, names=("labels", name)) for name, table in tables.items()
    }
    warnings += [
        Problem(f"{name}, {problem.where}", problem.found)
        for name, result in scores.items()
        for problem in result.problems
    ]
    how = Resampling()
    estimate, bounds = _average(truth, list(tables.values()), how)
    together = None
    if len(tables) > 1:
        together = score(truth, combine_members(tables))
    precisions = {each for file in files.values() if file.record for each in file.record.precisions()}
    measured = Measured(
        mean_pearson=float(estimate[0]),
        pearson=dict(zip(EMOTIONS, map(float, estimate[1:]), strict=True)),
        interval=bounds,
        by_seed=dict(zip(plan.runs, (result.mean_pearson for result in scores.values()), strict=True)),
        ensemble=together.mean_pearson if together else None,
        ensemble_interval=together.interval[MEAN] if together else None,
        n=len(truth),
        on=on,
        signature=sign(len(truth), how, precisions=sorted(precisions)),
    )
    return measured, warnings


def find_test_score(plan: RowPlan, submissions: Path) -> tuple[Tested | None, list[Problem]]:
    """The latest test score of a submission that was made from exactly a row's finished runs, and warnings.

    Raises:
        SubmissionError: the ledger cannot be read.
    """
    runs = {(run.name, run.read_provenance().get("weights_sha256")) for run in plan.runs.values()}
    ledger = read_ledger(submissions)
    found = None
    warnings = list(ledger.problems)
    for entry in ledger.entries:
        if entry.test_score is None:
            continue
        path = submissions / entry.name / MANIFEST
        try:
            if not path.is_file():
                continue  # the folder was moved away, so the runs of the submission are not known
            members = read_json(path, _Manifest, "a manifest")["provenance"]["members"]
        except EmiError:
            warnings.append(Problem(str(path), "does not say from which runs it was made"))
            continue
        made_of = {(leaf.get("run"), leaf.get("weights_sha256")) for leaf in _leaves(members)}
        if made_of == runs:
            found = Tested(mean_pearson=entry.test_score, submission=entry.name)
    return found, warnings


def _read_truth(plan: RowPlan, data: DataFolder) -> tuple[pl.DataFrame, str]:
    """The labels of the clips that the runs held out, and a description of these clips."""
    fold = plan.config.data.fold
    if not fold:
        return data.read_labels("valid"), "valid"
    labels = data.read_labels("train")
    held_out = hold_out(labels[FILENAME].to_list(), fold)
    return labels.filter(labels[FILENAME].is_in(list(held_out))), f"fold {fold} of train"


def _read_predictions(plan: RowPlan, truth: pl.DataFrame) -> dict[str, PredictionFile]:
    """The predictions of each seed's run, in order, by their paths; every problem is raised together."""
    problems: list[Problem] = []
    files: dict[str, PredictionFile] = {}
    for run in plan.runs.values():
        with collect_errors(problems):
            files[str(run.valid_predictions)] = _read_file(run.valid_predictions, truth)
    if problems:
        raise ScoreError(problems)
    return files


def _read_file(path: Path, truth: pl.DataFrame) -> PredictionFile:
    """A run's predictions; EmiError unless their record says that none of the clips was trained on."""
    if not path.is_file():
        raise ScoreError(Problem(str(path), "no such file", "the predictions of the clips held out"))
    file, problems = read_prediction_file(path)
    if problems:
        raise EmiError(problems)
    record = file.record
    if record is None or not record.trained_on_complete:
        found = "the clips that its run was trained on are not known"
        raise ScoreError(Problem(str(path), found, "a record that names them"))
    if seen := record.trained_on.intersection(truth[FILENAME]):
        found = f"SEEN IN TRAINING: {len(seen):,} of its clips; a score on them is not a validation score"
        raise ScoreError(Problem(str(path), found))
    return file


def _average(
    truth: pl.DataFrame, tables: Sequence[pl.DataFrame], how: Resampling
) -> tuple[np.ndarray, tuple[float, float]]:
    """Mean over the tables of the mean Pearson and each r, (7,); and the interval of the first, over clips.

    Every resample draws the same clips for all tables.
    """
    arrays = [align(truth, table) for table in tables]
    labels, systems = arrays[0][0], [predicted for _, predicted in arrays]
    estimate = mean_first(np.mean([np.nan_to_num(pearson(labels, each)) for each in systems], axis=0))
    (low, high), *_ = interval(mean_first(bootstrap(labels, systems, how).mean(axis=1)), estimate, how)
    return estimate, (float(low), float(high))


def _measure_folds(plan: RowPlan, data: DataFolder) -> tuple[Measured | None, list[Problem]]:
    """The score of K-fold runs of the same preset and config."""
    folder = next(iter(plan.runs.values())).folder.parent
    found, problems = find_fold_runs(folder, plan.row.preset or "")
    same = []
    for fold in found:
        differences = compare_configs(Run(fold.folder).read_config(), plan.config_of(fold.seed))
        if other := [str(each) for each in differences if each.key != "data.fold"]:
            problems.append(Problem(str(fold.folder), "; ".join(other), next_step="it is not counted"))
        else:
            same.append(fold)
    folds, more = score_folds(same, data.read_labels("train", "valid")) if same else (None, [])
    if folds is None:
        return None, [*problems, *more]
    measured = Measured(
        mean_pearson=folds.mean_pearson,
        pearson=folds.pearson,
        interval=folds.interval.get(MEAN),
        by_seed={},
        n=folds.n,
        on=folds.describe,
    )
    return measured, [*problems, *more]


def _leaves(members: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The runs, and the files without a known run, that nested members come from."""
    for member in members:
        if inner := (member.get("provenance") or {}).get("members"):
            yield from _leaves(inner)
        else:
            yield member
