"""The validation score that predictions stand on, and what it is: never one on clips seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw_emi.core.errors import EmiError, Problem

if TYPE_CHECKING:
    import polars as pl

    from abaw_emi.data.provenance import Provenance
    from abaw_emi.runs.kfold import FoldScore


def find_fold_score(
    record: Provenance | None, runs: Path, data: Path
) -> tuple[FoldScore | None, list[Problem]]:
    """The score of K-fold runs of the preset that the predictions come from, None where there is none.

    Args:
        record: of the predictions. Runs of several presets have no common score.
        runs: the folder of runs.
        data: the data folder, for the labels of train and valid.
    """
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.runs.kfold import find_fold_runs, score_folds

    presets = {str(run["preset"]) for run in record.runs() if run.get("preset")} if record else set()
    if len(presets) != 1:
        return None, []
    found, problems = find_fold_runs(runs, presets.pop())
    if not found:
        return None, problems
    try:
        splits = ("train", "valid") if any(run.train_plus_val for run in found) else ("train",)
        score, more = score_folds(found, DataFolder(data).read_labels(*splits))
    except EmiError as error:
        return None, [*problems, *error.problems]
    return score, [*problems, *more]


def find_val(
    record: Provenance | None, valid_preds: Path | None, runs: Path, data: Path
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """What is known of the validation score of a file to submit, and what it is; None for nothing.

    In this order: the file that `--valid-preds` names; the out-of-fold score of a fitted ensemble; K-fold
    runs, where the runs were trained on valid; the mean of the runs' own predictions of valid.

    Raises:
        EmiError: `--valid-preds` cannot be used.
    """
    if valid_preds is not None:
        return _score([valid_preds], data, f"of {valid_preds.name} on valid")
    if record is None:
        return None, []
    if told := record.scheme.get("out_of_fold"):
        chosen = told["schemes"][record.scheme["scheme"]]
        kind = f"of the {record.scheme['scheme']} of {len(told['members'])} members on valid, out of fold"
        return {key: chosen[key] for key in ("mean_pearson", "interval")} | {"kind": kind}, []
    problems: list[Problem] = []
    members = record.runs()
    files = [runs / str(run["run"]) / "valid_predictions.csv" for run in members]
    if files and all(path.is_file() for path in files) and len(record.members) == len(members):
        try:
            kind = f"of the mean of {len(files)} runs on valid" if len(files) > 1 else "of the run on valid"
            return _score(files, data, kind)
        except EmiError as error:
            problems += error.problems
    folds, more = find_fold_score(record, runs, data)
    problems += more
    if folds is not None:
        values = folds.to_json()
        return {key: values[key] for key in ("mean_pearson", "interval", "kind")}, problems
    return None, problems


def _score(files: Sequence[Path], data: Path, kind: str) -> tuple[dict[str, Any], list[Problem]]:
    """The score on valid of the mean of prediction files that have not seen it, and what smells in them."""
    from abaw_emi.data.align import compare_ids
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.provenance import read_provenance
    from abaw_emi.data.tables import read_predictions
    from abaw_emi.ensembling.combine import ensemble
    from abaw_emi.evaluation.diagnostics import diagnose_systems
    from abaw_emi.evaluation.score import score

    folder = DataFolder(data)
    truth = folder.read_labels("valid")
    names = (str(folder.label_file("valid")), " and ".join(map(str, files)))
    tables: dict[str, pl.DataFrame] = {}
    problems: list[Problem] = []
    for file in files:
        tables[str(file)] = read_predictions(file)
        record, found = read_provenance(file)
        problems += found
        problems += compare_ids(
            truth["Filename"].to_list(), tables[str(file)]["Filename"].to_list(), str(file), names[0]
        )
        seen = record.trained_on.intersection(truth["Filename"]) if record else ()
        if seen:
            problems.append(Problem(str(file), f"SEEN IN TRAINING: {len(seen):,} of its clips"))
    if problems:
        raise EmiError(problems)
    diagnostics = diagnose_systems(tables, truth)
    if labels := [found for found in diagnostics if found.code == "labels"]:
        raise EmiError(labels)
    result = score(truth, ensemble(tables), names=names)
    values = {"mean_pearson": result.mean_pearson, "interval": result.interval}
    told = {**values, "kind": kind, "signature": result.signature}
    return told, [*diagnostics, *result.problems]
