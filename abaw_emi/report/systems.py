"""Systems: prediction files, of a run or from elsewhere, and the split that each is scored on.

A system is scored on the split whose clips it predicts: valid, or else train. Predictions of other clips, and
of clips that the predictor was trained on, are not scored; the page lists them with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from abaw_emi.core.constants import FILENAME, Split
from abaw_emi.core.errors import Problem
from abaw_emi.data.provenance import Provenance, read_prediction_file
from abaw_emi.data.scope import find_skipped
from abaw_emi.runs.run import Run

PREFERRED: tuple[Split, ...] = ("valid", "train")
"""The splits on which systems are scored: the first one that has predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A prediction file.

    Attributes:
        name: unique among the systems.
        path: the file.
        table: its predictions.
        run: the run that made it, None for another file.
        record: its provenance, None where there is none.
        split: the split whose clips, all but those that cannot be read and no others, it predicts; None for
            other clips.
        why_not: why it is not scored; "" where it is.
    """

    name: str
    path: Path
    table: pl.DataFrame
    run: Run | None
    record: Provenance | None
    split: Split | None
    why_not: str

    @property
    def complete(self) -> bool:
        """Whether all clips that the predictor was trained on are known."""
        return self.record is not None and self.record.trained_on_complete


def read_system(
    path: Path, name: str, run: Run | None, labels: Mapping[Split, pl.DataFrame]
) -> tuple[System, list[Problem]]:
    """A prediction file as a system, and the problems of its record.

    Args:
        path: the file.
        name: of the system.
        run: the run that made it, None for another file.
        labels: of the splits that have labels.

    Raises:
        TableError: the file cannot be read.
        RunError: the record of the run is damaged.
    """
    file, problems = read_prediction_file(path)
    record = file.record
    if record is None and run is not None and run.trained_on is not None:
        record = Provenance(
            command="abaw-emi train", trained_on=run.trained_on, trained_on_complete=run.trained_on_complete
        )
    clips = set(file.table[FILENAME])
    labelled = {split: set(rows[FILENAME]) for split, rows in labels.items()}
    whole = {split: ids - find_skipped(ids, file) for split, ids in labelled.items()}
    split = next((split for split in PREFERRED if whole.get(split) == clips), None)
    why_not = ""
    if split is None:
        some = any(clips & ids for ids in labelled.values())
        why_not = f"it predicts {'some, not all, clips of a split' if some else 'clips without labels here'}"
    elif record and (seen := len(record.trained_on & clips)):
        why_not = f"SEEN IN TRAINING: trained on {seen:,} of these {len(clips):,} clips"
    system = System(
        name=name, path=path, table=file.table, run=run, record=record, split=split, why_not=why_not
    )
    return system, problems


def make_unique(systems: Sequence[System]) -> list[System]:
    """The systems with unique names: files of the same name are called by their paths."""
    count = Counter(system.name for system in systems)
    named = [
        system if count[system.name] == 1 else replace(system, name=str(system.path)) for system in systems
    ]
    return list({system.name: system for system in named}.values())  # a file that is given twice counts once
