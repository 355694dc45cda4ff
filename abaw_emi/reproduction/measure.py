"""What a row's finished runs reached: on clips that they have not seen, and on test. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from abaw_emi.config.run import compare_configs
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError, Problem, ScoreError, gather
from abaw_emi.data.align import align
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import hold_out
from abaw_emi.data.provenance import Provenance, read_provenance
from abaw_emi.data.tables import read_predictions
from abaw_emi.ensembling.combine import combine_members
from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, interval, jackknife, mean_first
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.evaluation.score import score, sign
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.reproduction.rows import RowPlan, inspect_runs
from abaw_emi.reproduction.table import Measured, Outcome, State, Tested
from abaw_emi.runs.kfold import find_fold_runs, score_folds
from abaw_emi.runs.run import Run
from abaw_emi.submission.check import MANIFEST
from abaw_emi.submission.ledger import read_ledger


def read_outcome(
    plan: RowPlan, data: DataFolder, submissions: Path, failure: tuple[State, Sequence[Problem]] | None = None
) -> Outcome:
    """What there is of a row.

    Args:
        plan: of the row.
        data: the data folder, for the labels.
        submissions: the folder of submissions.
        failure: why its runs could not be made, where they could not.
    """
    state, problems = inspect_runs(plan)
    measured, tested = None, None
    if state == "finished":
        found: list[Problem] = []
        with gather(found):
            measured, problems = measure(plan, data)
        with gather(found):
            tested, more = find_test_score(plan, submissions)
            problems = [*problems, *more]
        if found:
            state, problems = "refused", [*found, *problems]
    elif failure is not None:
        state, problems = failure[0], list(failure[1])
    return Outcome(
        row=plan.row, runs=plan.run_names, state=state, measured=measured, tested=tested, problems=problems
    )


def measure(plan: RowPlan, data: DataFolder) -> tuple[Measured | None, list[Problem]]:
    """The score of a row's finished runs on what they held out, and warnings.

    None for runs on train+val without K-fold runs of the same recipe beside them: no score of theirs on
    valid is one of validation.

    Raises:
        EmiError: predictions are damaged, of other clips, or of clips that were trained on.
    """
    if plan.row.train_plus_val:
        return _measure_folds(plan, data)
    truth, on = _read_truth(plan, data)
    problems: list[Problem] = []
    tables: dict[int, pl.DataFrame] = {}
    skipped: set[str] = set()
    precisions: set[str] = set()
    for seed, run in plan.runs.items():
        with gather(problems):
            record = _read_record(run, truth)
            tables[seed] = read_predictions(run.valid_predictions)
            skipped |= set(record.skipped)
            precisions |= set(record.precisions())
    if problems:
        raise ScoreError(problems)
    truth = truth.filter(~truth[FILENAME].is_in(list(skipped)))
    how = Resampling()
    names = {seed: str(run.valid_predictions) for seed, run in plan.runs.items()}
    scores = {s: score(truth, table, resamples=0, names=("labels", names[s])) for s, table in tables.items()}
    arrays = [align(truth, table) for table in tables.values()]
    labels = arrays[0][0]
    # Of the mean over seeds: the same clips are drawn for all of them.
    systems = [predicted for _, predicted in arrays]
    draws = mean_first(bootstrap(labels, systems, how).mean(axis=1))
    estimate = mean_first(np.mean([np.nan_to_num(pearson(labels, each)) for each in systems], axis=0))
    bounds = interval(draws, estimate, how, mean_first(jackknife(labels, systems, how).mean(axis=1)))
    together = None
    if len(tables) > 1:
        together = score(truth, combine_members({names[s]: table for s, table in tables.items()}))
    warnings = [
        Problem(f"{names[seed]}, {problem.where}", problem.found)
        for seed, result in scores.items()
        for problem in result.problems
    ]
    measured = Measured(
        mean_pearson=float(estimate[0]),
        pearson=dict(zip(EMOTIONS, map(float, estimate[1:]), strict=True)),
        interval=(float(bounds[0][0]), float(bounds[0][1])),
        by_seed={seed: result.mean_pearson for seed, result in scores.items()},
        ensemble=together.mean_pearson if together else None,
        ensemble_interval=together.interval[MEAN] if together else None,
        n=len(truth),
        on=on,
        signature=sign(len(truth), how, precisions=sorted(precisions)),
    )
    return measured, warnings


def find_test_score(plan: RowPlan, submissions: Path) -> tuple[Tested | None, list[Problem]]:
    """The latest test score of a submission that was made of exactly a row's finished runs, and warnings.

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
            members = json.loads(path.read_bytes())["provenance"]["members"]
            made_of = {(leaf.get("run"), leaf.get("weights_sha256")) for leaf in _leaves(members)}
        except FileNotFoundError:
            continue  # a folder that was put away: what it was made of is not known
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            warnings.append(Problem(str(path), "does not tell what it was made of"))
            continue
        if made_of == runs:
            found = Tested(mean_pearson=entry.test_score, submission=entry.name)
    return found, warnings


def _measure_folds(plan: RowPlan, data: DataFolder) -> tuple[Measured | None, list[Problem]]:
    """What K-fold runs of the same recipe, and name, reached."""
    folder = next(iter(plan.runs.values())).folder.parent
    found, problems = find_fold_runs(folder, plan.row.preset or "")
    same = []
    for fold in found:
        config = Run(fold.folder).read_config()
        asked = plan.config_of(fold.seed)
        differences = [text for text in compare_configs(config, asked) if not text.startswith("data.fold ")]
        if differences:
            problems.append(Problem(str(fold.folder), "; ".join(differences), next_step="it is not counted"))
        else:
            same.append(fold)
    if not same:
        return None, problems
    folds, more = score_folds(same, data.read_labels("train", "valid"))
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


def _read_truth(plan: RowPlan, data: DataFolder) -> tuple[pl.DataFrame, str]:
    """The labels of what the runs held out, and what that is."""
    fold = plan.config.data.fold
    if not fold:
        return data.read_labels("valid"), "valid"
    labels = data.read_labels("train")
    held_out = hold_out(labels[FILENAME].to_list(), fold)
    return labels.filter(labels[FILENAME].is_in(list(held_out))), f"fold {fold} of train"


def _read_record(run: Run, truth: pl.DataFrame) -> Provenance:
    """The record of a run's predictions; EmiError where it does not say that they are of unseen clips."""
    path = run.valid_predictions
    if not path.is_file():
        raise ScoreError(Problem(str(path), "no such file", "the predictions of what the run held out"))
    record, problems = read_provenance(path)
    if problems:
        raise EmiError(problems)
    if record is None or not record.trained_on_complete:
        raise ScoreError(
            Problem(str(path), "what its run was trained on is not known", "a record that tells")
        )
    if seen := record.trained_on.intersection(truth[FILENAME]):
        found = f"SEEN IN TRAINING: {len(seen):,} of its clips; no score on them is one of validation"
        raise ScoreError(Problem(str(path), found))
    return record


def _leaves(members: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What predictions were made of in the end: runs, and files of which no run is known."""
    for member in members:
        own = (member.get("provenance") or {}).get("members") or []
        if own:
            yield from _leaves(own)
        else:
            yield member
