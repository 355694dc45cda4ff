"""Members of an ensemble read from files, and the ensemble written with a record of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from abaw_emi.core.constants import OnMissing
from abaw_emi.core.errors import Problem, ScoreError
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids
from abaw_emi.data.provenance import Provenance, read_provenance, write_with_provenance
from abaw_emi.data.tables import read_predictions
from abaw_emi.ensembling.combine import PLAIN_MEAN, Recipe, ensemble, find_gaps
from abaw_emi.ensembling.schemes import FITTED

__all__ = ["Member", "ensemble", "read_member", "write_ensemble"]


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
    recipe: Recipe = PLAIN_MEAN,
    missing: OnMissing = "error",
    table: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Combines the members, writes the result with its provenance record, and returns it.

    Args:
        members: what is combined.
        path: the CSV to write.
        split: the split predicted.
        command: what made the file.
        skipped: ids left out because their clips cannot be read.
        read_from_video: see `Provenance`.
        recipe: how to combine. What fitted weights have seen counts as trained on.
        missing: see `ensemble`.
        table: the combined predictions, where they are made already (out of fold).

    Raises:
        ScoreError: see `ensemble`.
    """
    tables = {member.name: member.table for member in members}
    scheme: dict[str, Any] = {}
    if recipe.scheme != "mean" or recipe.report:
        scheme = {"scheme": recipe.scheme, "out_of_fold": recipe.report and recipe.report.to_json()}
    if gaps := find_gaps(tables):
        scheme |= {"missing": missing, "lacking": {name: pack_ids(ids) for name, ids in gaps.items()}}
    # Out of fold, a clip's own label shaped nothing of what is predicted for it.
    seen = recipe.labelled if table is None and recipe.scheme in FITTED else frozenset()
    combined = ensemble(tables, recipe=recipe, missing=missing) if table is None else table
    record = Provenance(
        command=command,
        split=split,
        members=[member.record for member in members],
        trained_on=seen.union(*(member.trained_on for member in members)),
        trained_on_complete=all(member.trained_on_complete for member in members),
        skipped=skipped,
        read_from_video=read_from_video or {},
        scheme=scheme,
    )
    write_with_provenance(combined, path, record)
    return combined
