"""Members of an ensemble: what each of them predicted, and what is known of where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from abaw_emi.core.constants import FILENAME, Split
from abaw_emi.core.errors import EmiError, Problem, ScoreError, attempt, collect_errors
from abaw_emi.data.align import check_rows
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.frames import Ids, Table, check_named, read_table, read_trained_on
from abaw_emi.data.provenance import find_prediction_file, read_prediction_file
from abaw_emi.data.tables import read_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an ensemble: what it predicted, and what is known of it.

    Attributes:
        name: the run folder or the file, for messages.
        table: its predictions.
        record: what the ensemble's provenance says of it.
        trained_on: ids that it is known to have been trained on.
        trained_on_complete: whether those are all.
        runs: names of the runs that a file comes from; none where its record does not say.
        skipped: ids that it leaves out because their clips cannot be read.
    """

    name: str
    table: pl.DataFrame
    record: Mapping[str, Any] = field(default_factory=dict)
    trained_on: frozenset[str] = frozenset()
    trained_on_complete: bool = False
    runs: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The members of an ensemble.

    Attributes:
        members: each with its predictions, in the order asked for.
        read_from_video: see `Provenance`.
    """

    members: Sequence[Member] = ()
    read_from_video: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """What each member predicted, by its name."""
        return {member.name: member.table for member in self.members}

    @property
    def skipped(self) -> list[str]:
        """The ids that any member leaves out because their clips cannot be read, sorted."""
        return sorted(frozenset().union(*(member.skipped for member in self.members)))


def _read_member(path: Path, split: str = "") -> tuple[Member, list[Problem], Sequence[Problem]]:
    """The prediction file of `path` as a member of an ensemble, what is wrong with its record, and warnings.

    Raises:
        UsageError: `path` is a folder, and not that of a run with predictions.
        TableError: the file is not a prediction file.
        ScoreError: its record says that it predicts another split than `split`, where that is given.
    """
    found = find_prediction_file(path)
    file, problems = read_prediction_file(found)
    record = file.record
    if split and record and record.split and record.split != split:
        raise ScoreError(Problem(str(path), f"its record says split {record.split}", f"split {split}"))
    member = Member(
        name=str(path),
        table=file.table,
        record={
            "file": found.name,
            "sha256": file.sha256,
            "provenance": record.to_json() if record else None,
        },
        trained_on=record.trained_on if record else frozenset(),
        trained_on_complete=bool(record and record.trained_on_complete),
        skipped=frozenset(record.skipped if record else ()),
        runs=frozenset(str(run["run"]) for run in record.runs()) if record else frozenset(),
    )
    return member, problems, file.warnings


def read_members(
    files: Sequence[Path], split: Split, data: DataFolder
) -> tuple[dict[str, Member], list[Problem]]:
    """The prediction files as members of an ensemble for `split`, by their names, and warnings.

    Raises:
        EmiError: a file is not a prediction file, its record says that it predicts another split, or its
            clips stand in the label file of another one; all such problems.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    members = collect_members({str(path): path for path in files}, problems, warnings, warnings, split=split)
    labelled: list[Split] = ["train", "valid"]
    known = [other for other in labelled if data.label_file(other).is_file()]
    for other in known:
        if other == split:
            continue
        file = data.label_file(other)
        ids = set(attempt(problems, read_ids, file) or ())
        for name, member in members.items():
            if strangers := ids.intersection(member.table[FILENAME]):
                count = f"{len(strangers):,} of its {len(member.table):,} clips stand in {file}"
                step = f"--split {other}, if that is meant"
                problems.append(Problem(name, count, f"clips of {split}", step))
    if problems:
        raise EmiError(problems)
    if members and not known:
        missing = ", ".join(f"no {data.label_file(other).name}" for other in labelled)
        unknown = f"whether its clips are of {split} is not known: {missing}"
        warnings.append(Problem(str(data.root), unknown, next_step="name the data folder with --data"))
    return members, warnings


def collect_members(
    sources: Mapping[str, Table],
    problems: list[Problem],
    doubts: list[Problem],
    warnings: list[Problem],
    trained_on: Mapping[str, Ids] | None = None,
    split: str = "",
) -> dict[str, Member]:
    """Tables and files as members, by the names of `sources`, without those that cannot be used.

    Args:
        sources: tables, or files, whose provenance records are read with them, by name.
        problems: where the problems of sources that cannot be used are added.
        doubts: where what is wrong with files' records is added: problems, or warnings.
        warnings: where what is doubtful of files themselves is added.
        trained_on: ids that a member was trained on, or a table of them, by its name; what a file's record
            names is known besides.
        split: what the files are to predict; one whose record names another is not used.
    """
    check_named(sources, "members")
    members = {}
    known = attempt(problems, read_trained_on, trained_on, sources) or {}
    for name, source in sources.items():
        with collect_errors(problems):
            if isinstance(source, (str, os.PathLike)):
                member, wrong, doubtful = _read_member(Path(source), split)
                doubts += wrong
                warnings += doubtful
            else:
                member = Member(name=name, table=read_table(source, name, "predictions").table)
                if wrong := check_rows(member.table, name):
                    raise ScoreError(wrong)
            members[name] = replace(member, trained_on=member.trained_on.union(known.get(name, ())))
    return members
