"""What `score` and `compare` are given, taken as it is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw_emi.core.errors import Problem, TableError, UsageError
from abaw_emi.core.suggest import suggest_path

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder


def find_labels(predictions: Path, labels: Path | None, data: DataFolder) -> list[Path]:
    """The label files to score by: that given, or those of the split, or of its fold, that the record names.

    Raises:
        TableError: there are no such predictions.
        UsageError: none is given, and the record names no split with labels; or the two are swapped.
    """
    from abaw_emi.data.folds import parse_held_out
    from abaw_emi.data.provenance import read_provenance

    if labels is None:
        if not predictions.is_file():
            raise TableError(Problem(str(predictions), "no such file", next_step=suggest_path(predictions)))
        record, _ = read_provenance(predictions)
        split = "" if record is None else record.split
        files = [data.label_file(name) for name in parse_held_out(split)[0]]
        missing = [str(path) for path in files if not path.is_file()]
        if files and not missing:
            return files
        found = "no record says which clips these are"
        if missing:
            found = f"its record says split {split!r}, but {' and '.join(missing)} is not there"
        elif split:
            found = f"its record says split {split!r}"
        step = f"abaw-emi score {predictions} LABELS"
        raise UsageError(Problem(str(predictions), f"no labels are given, and {found}", next_step=step))
    refuse_swapped("score", [predictions], labels)
    if labels.is_dir():
        step = f"use --against {labels}, or abaw-emi compare {predictions} {labels} LABELS"
        found = f"{labels} in the place of the labels"
        raise UsageError(Problem("score", found, "a label file", step))
    return [labels]


def refuse_swapped(command: str, predictions: Sequence[Path], labels: Path) -> None:
    """Passes unless a label file stands among the predictions, and predictions in its place.

    Args:
        command: for the message.
        predictions: what stands in their place.
        labels: what stands in theirs.

    Raises:
        UsageError: it does.
    """
    from abaw_emi.data.provenance import read_provenance

    named = [path for path in predictions if path.name.endswith("_split.csv")]
    if named and (labels.is_dir() or (labels.is_file() and read_provenance(labels)[0] is not None)):
        found = f"{labels} holds predictions, and {named[0].name} is a label file"
        raise UsageError(Problem(command, found, "PREDS first, then LABELS"))
