"""The validation score of what is to be submitted, and what it is: never one on clips seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError, Problem, collect_errors
from abaw_emi.data.align import align, compare_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.provenance import PredictionFile, Provenance, read_prediction_file
from abaw_emi.data.scope import find_scope
from abaw_emi.ensembling.combine import PLAIN_MEAN, combine_members
from abaw_emi.ensembling.fit import Recipe
from abaw_emi.ensembling.schemes import FITTED, SCHEMES
from abaw_emi.evaluation.diagnostics import diagnose_systems
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.evaluation.score import score
from abaw_emi.runs.kfold import find_fold_score
from abaw_emi.runs.run import Run

_ROUNDING = 1e-9
"""By which clipping may lower r and not be said to harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is known of a file to submit by its system's predictions of valid.

    Attributes:
        score: the validation score, and what it is; None for nothing.
        harmed: the emotions whose r is lower when the predictions are clipped; None where that is not known.
        warnings: what must be known of both.
    """

    score: dict[str, Any] | None
    harmed: list[str] | None
    warnings: tuple[Problem, ...]


def find_validation(
    record: Provenance | None,
    valid_preds: Path | None,
    runs: Path,
    data: DataFolder,
    limits: tuple[float, float],
) -> Validation:
    """What is known of a file to submit by its system's predictions of valid.

    Args:
        record: of the file to submit.
        valid_preds: the same system's predictions of valid.
        runs: the folder of runs, whose own predictions of valid are read otherwise.
        data: the data folder, for the labels.
        limits: lowest and highest value that is accepted.

    Raises:
        EmiError: `valid_preds` cannot be used.
    """
    found, warnings = _find_score(record, valid_preds, runs, data)
    harmed: list[str] | None = None
    with collect_errors(warnings):
        harmed = _find_harmed(record, valid_preds, runs, data, limits)
    return Validation(score=found, harmed=harmed, warnings=tuple(dict.fromkeys(warnings)))


def _find_score(
    record: Provenance | None, valid_preds: Path | None, runs: Path, data: DataFolder
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """What is known of the validation score of a file to submit, and what it is; None for nothing.

    In this order: of the predictions of valid that are named; the out-of-fold score of a fitted ensemble; of
    the runs' own predictions of valid, combined as the file is; of K-fold runs, where the runs saw valid.
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
    files, recipe = _find_own_files(record, runs), _find_recipe(record)
    if recipe is None:
        found = f"not known: the record of {record.scheme['scheme']} has no score out of fold"
        step = "name its predictions of valid with --valid-preds"
        problems.append(Problem("validation score", found, next_step=step))
    elif files:
        with collect_errors(problems):
            called = f"{len(files)} runs" if len(files) > 1 else "the run"
            plain = recipe.scheme == "mean" and len(files) == 1
            what = called if plain else f"the {recipe.scheme} of {called}"
            return _score(files, data, f"of {what} on valid", recipe)
    folds, more = find_fold_score(record, runs, data)
    return None if folds is None else _keep(folds.to_json()), [*problems, *more]


def _find_harmed(
    record: Provenance | None,
    valid_preds: Path | None,
    runs: Path,
    data: DataFolder,
    limits: tuple[float, float],
) -> list[str] | None:
    files: list[Path] = []
    recipe: Recipe | None = PLAIN_MEAN
    if valid_preds is not None:
        files = [valid_preds]
    elif record is not None:
        files, recipe = _find_own_files(record, runs), _find_recipe(record)
    if not files or recipe is None:
        return None
    read = {str(path): read_prediction_file(path)[0] for path in files}
    truth, tables, _ = find_scope(data.read_labels("valid"), read)  # noted with the score
    names = (str(data.label_file("valid")), " and ".join(tables))
    y, p = align(truth, combine_members(tables, recipe), names)
    raw, clipped = pearson(y, p), pearson(y, p.clip(*limits))
    return [
        emotion
        for emotion, before, after in zip(EMOTIONS, raw, clipped, strict=True)
        if not after >= before - _ROUNDING
    ]


def _find_own_files(record: Provenance, runs: Path) -> list[Path]:
    """The members' own predictions of valid, in order; [] unless each member is one run that has them."""
    files = [Run(runs / name).valid_predictions for name in record.run_of_each()]
    return files if all(path.is_file() for path in files) else []


def _find_recipe(record: Provenance) -> Recipe | None:
    """How the members of a file are combined; None where that is by weights that are not recorded."""
    scheme = record.scheme.get("scheme", "mean")
    if scheme in SCHEMES and scheme not in FITTED:
        return Recipe(scheme=scheme)
    reports = (record.scheme.get("out_of_fold") or {}).get("schemes", {})
    weights = reports.get(scheme, {}).get("weights")
    return None if weights is None else Recipe(scheme=scheme, weights=np.array(weights).T)


def _keep(values: dict[str, Any]) -> dict[str, Any]:
    kept = ("mean_pearson", "clipped_mean_pearson", "interval", "kind")
    return {key: values[key] for key in kept if key in values}  # records of before have no clipped one


def _score(
    files: Sequence[Path], data: DataFolder, kind: str, recipe: Recipe = PLAIN_MEAN
) -> tuple[dict[str, Any], list[Problem]]:
    """The score on valid of prediction files that have not seen it, combined by `recipe`, and warnings."""
    read: dict[str, PredictionFile] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for path in files:
        with collect_errors(problems):
            read[str(path)], found = read_prediction_file(path)
            warnings += read[str(path)].warnings
            problems += found
    truth, tables, notes = find_scope(data.read_labels("valid"), read)
    labels, clips = str(data.label_file("valid")), truth[FILENAME].to_list()
    for name, table in tables.items():
        problems += compare_ids(clips, table[FILENAME].to_list(), name, labels)
        record = read[name].record
        if seen := record.trained_on.intersection(clips) if record else ():
            problems.append(Problem(name, f"SEEN IN TRAINING: {len(seen):,} of its clips"))
    if problems:
        raise EmiError(problems)
    diagnostics = diagnose_systems(tables, truth)
    if copied := [found for found in diagnostics if found.code == "labels"]:
        raise EmiError(copied)
    result = score(truth, combine_members(tables, recipe), names=(labels, " and ".join(tables)))
    values = _keep({**result.numbers, "kind": kind})
    return {**values, "signature": result.signature}, [*warnings, *notes, *diagnostics, *result.problems]
