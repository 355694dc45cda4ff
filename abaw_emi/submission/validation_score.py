"""The validation score of what is to be submitted, and what it is: never one on clips seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError, Problem, collect_errors
from abaw_emi.data.align import compare_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.provenance import Provenance, read_prediction_file
from abaw_emi.ensembling.combine import combine_members
from abaw_emi.evaluation.diagnostics import diagnose_systems
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.evaluation.score import score
from abaw_emi.runs.kfold import find_fold_score
from abaw_emi.runs.run import Run

_ROUNDING = 1e-9
"""By which clipping may lower r and not be said to harm."""


def find_validation_score(
    record: Provenance | None, valid_preds: Path | None, runs: Path, data: DataFolder
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """What is known of the validation score of a file to submit, and what it is; None for nothing.

    In this order: of the predictions of valid that are named; the out-of-fold score of a fitted ensemble; the
    mean of the runs' own predictions of valid; K-fold runs, where the runs were trained on valid.

    Args:
        record: of the file to submit.
        valid_preds: the same system's predictions of valid.
        runs: the folder of runs.
        data: the data folder, for the labels.

    Raises:
        EmiError: `valid_preds` cannot be used.
    """
    if valid_preds is not None:
        return _score([valid_preds], data, f"of {valid_preds.name} on valid")
    if record is None:
        return None, []
    if report := record.scheme.get("out_of_fold"):
        scheme = record.scheme["scheme"]
        kind = f"of the {scheme} of {len(report['members'])} members on valid, out of fold"
        return _keep({**report["schemes"][scheme], "kind": kind}), []
    problems: list[Problem] = []
    members = record.runs()
    files = [Run(runs / str(run["run"])).valid_predictions for run in members]
    if files and all(path.is_file() for path in files) and len(record.members) == len(members):
        with collect_errors(problems):
            kind = f"of the mean of {len(files)} runs on valid" if len(files) > 1 else "of the run on valid"
            return _score(files, data, kind)
    folds, more = find_fold_score(record, runs, data)
    return None if folds is None else _keep(folds.to_json()), [*problems, *more]


def find_harmed(
    record: Provenance | None,
    valid_preds: Path | None,
    runs: Path,
    data: DataFolder,
    limits: tuple[float, float],
) -> list[str]:
    """The emotions whose r on valid is lower when the predictions are clipped; [] where that is not known.

    Args:
        record: of the file to submit.
        valid_preds: the same system's predictions of valid.
        runs: the folder of runs, whose own predictions of valid are read otherwise.
        data: the data folder, for the labels.
        limits: lowest and highest value that is accepted.

    Raises:
        EmiError: a file cannot be used.
    """
    files = [valid_preds] if valid_preds is not None else []
    if record is not None and not files:
        files = [Run(runs / str(run["run"])).valid_predictions for run in record.runs()]
    if not files or not all(path.is_file() for path in files):
        return []
    tables = {str(path): read_prediction_file(path)[0].table for path in files}
    combined = combine_members(tables)
    truth = data.read_labels("valid")
    raw = pearson(truth, combined)
    clipped = pearson(truth, combined.with_columns(pl.col(EMOTIONS).clip(*limits)))
    return [
        emotion
        for emotion, before, after in zip(EMOTIONS, raw, clipped, strict=True)
        if not after >= before - _ROUNDING
    ]


def _keep(values: dict[str, Any]) -> dict[str, Any]:
    kept = ("mean_pearson", "clipped_mean_pearson", "interval", "kind")
    return {key: values[key] for key in kept if key in values}  # records of before have no clipped one


def _score(files: Sequence[Path], data: DataFolder, kind: str) -> tuple[dict[str, Any], list[Problem]]:
    """The score on valid of the mean of prediction files that have not seen it, and warnings."""
    truth = data.read_labels("valid")
    labels, clips = str(data.label_file("valid")), truth[FILENAME].to_list()
    tables: dict[str, pl.DataFrame] = {}
    problems: list[Problem] = []
    for path in files:
        with collect_errors(problems):
            file, found = read_prediction_file(path)
            tables[str(path)] = file.table
            problems += [*found, *compare_ids(clips, file.table[FILENAME].to_list(), str(path), labels)]
            if seen := file.record.trained_on.intersection(clips) if file.record else ():
                problems.append(Problem(str(path), f"SEEN IN TRAINING: {len(seen):,} of its clips"))
    if problems:
        raise EmiError(problems)
    diagnostics = diagnose_systems(tables, truth)
    if copied := [found for found in diagnostics if found.code == "labels"]:
        raise EmiError(copied)
    result = score(truth, combine_members(tables), names=(labels, " and ".join(tables)))
    values = _keep({**result.to_json(), "kind": kind})
    return {**values, "signature": result.signature}, [*diagnostics, *result.problems]
