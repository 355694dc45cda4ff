"""Prediction files of the same clips, read with their labels and with the records of where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from abaw_emi.core.constants import FILENAME
from abaw_emi.core.errors import EmiError, Problem, UsageError, attempt
from abaw_emi.data.align import compare_ids
from abaw_emi.data.groups import number_groups, read_groups
from abaw_emi.data.provenance import PredictionFile, Provenance, read_prediction_file
from abaw_emi.data.scope import find_scope
from abaw_emi.data.tables import read_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Systems:
    """Prediction files of the same clips, and what they are scored against.

    Attributes:
        labels: what messages call the labels.
        truth: the labels, of the clips that are scored (`data.scope`).
        tables: the predictions of them, by the names of their files.
        records: the files' records; None where there is none.
        groups: the clips' groups, if any were given.
        warnings: what must be known of the records, and of labels that are left out.
    """

    labels: str
    truth: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    records: Mapping[str, Provenance | None]
    groups: pl.DataFrame | None
    warnings: list[Problem]

    @property
    def trained_on(self) -> dict[str, frozenset[str]]:
        """The ids that each system is known to have been trained on."""
        return {name: record.trained_on for name, record in self.records.items() if record}


def read_systems(labels: Sequence[Path], files: Sequence[Path], groups: Path | None = None) -> Systems:
    """The files, read and matched by their ids with the labels, which may lie in several files.

    Raises:
        UsageError: a file is given twice.
        EmiError: a file cannot be read, or its ids are not those of the labels; all such problems.
    """
    refuse_repeats(files, "predictions")
    problems: list[Problem] = []
    warnings: list[Problem] = []
    read: dict[str, PredictionFile] = {}
    tables: dict[str, pl.DataFrame] = {}
    truths = [table for path in labels if (table := attempt(problems, read_labels, path)) is not None]
    for path in files:
        if file_and_doubts := attempt(problems, read_prediction_file, path):
            file, doubts = file_and_doubts
            read[str(path)] = file
            warnings += [*file.warnings, *doubts, *_doubt(path, file.record)]
    grouped = None if groups is None else attempt(problems, read_groups, groups)
    called = " and ".join(map(str, labels))
    if len(truths) == len(labels):
        truth, tables, notes = find_scope(pl.concat(truths), read)
        warnings += notes
        clips = truth[FILENAME].to_list()
        for name, table in tables.items():
            problems += compare_ids(clips, table[FILENAME].to_list(), name, called)
        if grouped is not None:
            attempt(problems, number_groups, grouped, clips, (called, str(groups)))
    if problems:
        raise EmiError(problems)
    records = {name: file.record for name, file in read.items()}
    return Systems(
        labels=called, truth=truth, tables=tables, records=records, groups=grouped, warnings=warnings
    )


def refuse_repeats(paths: Sequence[Path], where: str) -> None:
    """Refuses a file that is given twice, however it is spelled.

    Raises:
        UsageError: it is; all such files are named.
    """
    places = [path.resolve() for path in paths]
    twice = {place: path for path, place in zip(paths, places, strict=True) if places.count(place) > 1}
    if twice:
        found = f"given twice: {', '.join(map(str, twice.values()))}"
        raise UsageError(Problem(where, found, "each once"))


def _doubt(path: Path, record: Provenance | None) -> list[Problem]:
    """A warning where it is not known what the predictor was trained on."""
    if record is not None and record.trained_on_complete:
        return []
    what = "not all of what the predictor was trained on is known"
    if record is None:
        what = "what the predictor was trained on is not known"
    return [Problem(str(path), what, next_step="make sure it has not seen these clips")]
