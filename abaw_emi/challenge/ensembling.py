"""Many predictions of the same clips, combined into one.

Members are matched by Filename, never by row. Weights of different runs are never averaged, only what
they predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from abaw_emi.challenge.facts import EMOTIONS, FILENAME
from abaw_emi.challenge.matching import compare_ids
from abaw_emi.challenge.provenance import (
    Provenance,
    read_provenance,
    sha256,
    write_with_provenance,
)
from abaw_emi.challenge.tables import read_predictions
from abaw_emi.errors import Problem, ScoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an ensemble: what it predicted, and what is known of it.

    Attributes:
        name: the run folder or the file, for messages.
        table: its predictions.
        record: what the ensemble's provenance says of it.
        trained_on: ids that it is known to have been trained on.
        trained_on_complete: whether those are all.
    """

    name: str
    table: pl.DataFrame
    record: dict[str, Any]
    trained_on: frozenset[str]
    trained_on_complete: bool


def read_member(path: Path, split: str) -> tuple[Member, list[Problem]]:
    """The prediction file `path` as a member of an ensemble for `split`, and warnings.

    Raises:
        TableError: the file is not a prediction file.
        ScoreError: its record says that it predicts another split.
    """
    table = read_predictions(path)
    record, warnings = read_provenance(path)
    if record and record.split and record.split != split:
        raise ScoreError(Problem(str(path), f"its record says split {record.split}", f"split {split}"))
    member = Member(
        name=str(path),
        table=table,
        record={
            "file": path.name,
            "sha256": sha256(path.read_bytes()),
            "provenance": record.to_json() if record else None,
        },
        trained_on=record.trained_on if record else frozenset(),
        trained_on_complete=bool(record and record.trained_on_complete),
    )
    return member, warnings


def write_ensemble(
    members: Sequence[Member],
    path: Path,
    *,
    split: str,
    command: str,
    skipped: Sequence[str] = (),
    read_from_video: Mapping[str, Sequence[str]] | None = None,
) -> pl.DataFrame:
    """Combines the members, writes the result with its provenance record, and returns it.

    Raises:
        ScoreError: see `ensemble`.
    """
    table = ensemble({member.name: member.table for member in members})
    record = Provenance(
        command=command,
        split=split,
        members=[member.record for member in members],
        trained_on=frozenset().union(*(member.trained_on for member in members)),
        trained_on_complete=all(member.trained_on_complete for member in members),
        skipped=skipped,
        read_from_video=read_from_video or {},
    )
    write_with_provenance(table, path, record)
    return table


def ensemble(members: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The mean of the members' predictions for each clip and emotion, sorted by id, in float64.

    Args:
        members: prediction tables (`tables.read_predictions`) by a name for messages; at least one.

    Raises:
        ScoreError: no member, a member lacks clips that another one has, or a clip is there twice; all named.
    """
    if not members:
        raise ScoreError(Problem("ensemble", "no member", "at least one prediction table"))
    first = next(iter(members))
    clips = sorted(members[first][FILENAME])
    problems = [
        problem
        for name, table in members.items()
        for problem in compare_ids(clips, table[FILENAME].to_list(), name, first)
    ]
    if problems:
        raise ScoreError(problems)
    stacked = np.stack([table.sort(FILENAME).select(EMOTIONS).to_numpy() for table in members.values()])
    mean = stacked.mean(axis=0, dtype=np.float64)  # (N, 6)
    return pl.DataFrame({FILENAME: clips, **dict(zip(EMOTIONS, mean.T, strict=True))})
