"""The record that an audit leaves, `audit.json`, and how other commands read it. Light: decodes nothing.

A record speaks for the data folder that it was made of as long as its files are the same by name and size,
and its split files the same to the byte: a check that takes a moment and reads no clip.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from abaw_emi.audit.finding import name_splits
from abaw_emi.audit.label_statistics import LabelShift, LabelStatistics
from abaw_emi.core.constants import MAX_SECONDS, SPLITS, Split
from abaw_emi.core.errors import SEVERITIES, CorpusError, Diagnostic, Problem, Severity
from abaw_emi.core.files import write_bytes
from abaw_emi.core.hashing import hash_file, sha256
from abaw_emi.data.folder import DataFolder

AUDIT = "audit.json"

FORMAT = 1

_KEYS = {"code": "kind", "next_step": "step"}
"""Attributes of a finding that have another name in the file; its place follows from its splits."""

EDGES = tuple(step / 2 for step in range(31))
"""Of the histogram's bins, in s: half seconds up to 15; the last bin holds whatever is longer, too."""

_WARNED_ANYWAY = {"counts", "no sound file"}
"""What every command that reads clips warns of by itself."""


def _rename(values: Any) -> Any:
    """A finding as the file holds it, under the names of `Diagnostic`."""
    if not isinstance(values, dict):
        return values
    named = {attribute: values[key] for attribute, key in _KEYS.items() if key in values}
    splits = values.get("splits")
    return {**values, **named, "where": name_splits(map(str, splits if isinstance(splits, list) else []))}


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationStatistics:
    """Of the clips of a split whose sound can be read.

    Attributes:
        clips: how many.
        seconds: in all.
        shortest: in s, and so are `mean` and `longest`.
        short: clips below 1 s.
        long: clips above the cut.
        lost: share of the sound that lies behind the cut.
    """

    clips: int
    seconds: float
    shortest: float
    mean: float
    longest: float
    short: int
    long: int
    lost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Clips by length: `counts[split][i]` from `edges[i]` up to `edges[i + 1]`, the last without end."""

    edges: tuple[float, ...] = EDGES
    counts: dict[Split, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found of a data folder.

    Attributes:
        root: the folder.
        listing: the hash that `fingerprint_listing` makes of it.
        content: SHA-256 over every clip's id and the SHA-256 of the file that its sound is read from.
        made: when, in UTC.
        versions: of what decoded the sound.
        clips: of each split.
        seconds: length of each clip by id, None where its sound cannot be read.
        durations: by split.
        histogram: of the lengths.
        labels: by split.
        shift: of the labels from train to valid, by emotion.
        compared: clips whose sound was compared with each other's; shorter ones only to the sample.
        findings: the worst first.
        max_seconds: the cut that lengths are held against.
        format: of this record.
    """

    root: str
    listing: str
    content: str
    made: str
    versions: dict[str, str]
    clips: dict[Split, int]
    seconds: dict[str, float | None]
    durations: dict[Split, DurationStatistics]
    histogram: Histogram
    labels: dict[Split, LabelStatistics]
    shift: dict[str, LabelShift]
    compared: int
    findings: list[Annotated[Diagnostic, BeforeValidator(_rename)]]
    max_seconds: float = MAX_SECONDS
    format: int = FORMAT

    def count(self, severity: Severity) -> int:
        """How many findings there are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def describe_counts(self) -> str:
        """How many findings there are of each severity: "1 error, 0 warnings, 2 notes"."""
        counts = [(self.count(severity), severity) for severity in SEVERITIES]
        return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts)


_AUDIT = TypeAdapter(Audit)


def audit_to_json(audit: Audit) -> dict[str, Any]:
    """The record as JSON values, under the names that its file has always had."""
    values = asdict(audit)
    for finding in values["findings"]:
        del finding["where"], finding["expected"]
        finding |= {key: finding.pop(attribute) for attribute, key in _KEYS.items()}
        if not finding["modality"]:  # as in all records of before
            del finding["modality"]
    return values


def write_audit(audit: Audit, path: Path) -> None:
    """Writes the record, whole or not at all.

    Raises:
        TableError: it cannot be written.
    """
    write_bytes(path, (json.dumps(audit_to_json(audit), indent=1, allow_nan=False) + "\n").encode())


def read_audit(path: Path) -> Audit:
    """The record at `path`.

    Raises:
        CorpusError: it cannot be read, or is no such record.
    """
    step = "make it with abaw-emi audit"
    try:
        audit = _AUDIT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        found = (
            f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "is no record of an audit"
        )
        raise CorpusError(Problem(str(path), found, next_step=step)) from error
    if audit.format != FORMAT:
        raise CorpusError(Problem(str(path), f"is of format {audit.format}", f"format {FORMAT}", step))
    return audit


def find_audit(data: DataFolder, folder: Path = Path()) -> tuple[Audit | None, list[Problem]]:
    """The record in `folder` that speaks for this data folder, or None, and what is wrong with it.

    A record of another data folder is passed over; one of this folder as it was before is a problem.
    """
    path = folder / AUDIT
    if not path.is_file():
        return None, []
    try:
        audit = read_audit(path)
    except CorpusError as error:
        return None, list(error.problems)
    if audit.listing == fingerprint_listing(data):
        return audit, []
    if Path(audit.root) != data.root.absolute():
        return None, []
    found = f"is of {data.root} as it was on {audit.made[:10]}; files have changed since"
    return None, [Problem(str(path), found, next_step="run abaw-emi audit again")]


def warnings_for(audit: Audit, *splits: Split, reads: Collection[str] | None = None) -> list[Problem]:
    """What the audit holds against working with these splits: its errors and warnings, a line each.

    Args:
        audit: the record.
        splits: that are worked with.
        reads: the inputs that are read, "sound" or names of feature folders; by default any.
    """
    return [
        replace(finding, where=f"{AUDIT}, {finding.where}")
        for finding in audit.findings
        if finding.severity != "note"
        and finding.code not in _WARNED_ANYWAY
        and set(splits) & set(finding.splits)
        and (reads is None or not finding.modality or finding.modality in reads)
    ]


def recall_audit(data: DataFolder, *splits: Split, reads: Collection[str]) -> list[Problem]:
    """What an audit in the current folder holds against reading these inputs of these splits of `data`."""
    audit, problems = find_audit(data)
    return problems if audit is None else warnings_for(audit, *splits, reads=reads)


def fingerprint_listing(data: DataFolder) -> str:
    """A hash of the split files, and of the name and size of every clip's files. Reads no clip.

    Raises:
        CorpusError: there is no data folder.
    """
    lines = []
    for split in SPLITS:
        path = data.label_file(split)
        lines.append(f"{split}:{hash_file(path) if path.is_file() else ''}")
    for files in data.files.values():
        present = [file for file in (files.audio, files.video) if file is not None]
        lines += [f"{file.relative_to(data.root).as_posix()}:{_size(file)}" for file in present]
    return sha256("\n".join(lines).encode())


def describe_durations(seconds: Sequence[float], max_seconds: float = MAX_SECONDS) -> DurationStatistics:
    """The statistics of one length at least, in s."""
    total = sum(seconds)
    return DurationStatistics(
        clips=len(seconds),
        seconds=total,
        shortest=min(seconds),
        mean=total / len(seconds),
        longest=max(seconds),
        short=sum(one < 1 for one in seconds),
        long=sum(one > max_seconds for one in seconds),
        lost=sum(max(0.0, one - max_seconds) for one in seconds) / total,
    )


def count_durations(seconds: Sequence[float]) -> list[int]:
    """How many of the lengths lie in each bin of `EDGES`.

    >>> count_durations([0.2, 0.5, 400.0])[:2], sum(count_durations([0.2, 0.5, 400.0]))
    ([1, 1], 3)
    """
    counts = [0] * (len(EDGES) - 1)
    for one in seconds:
        counts[min(int(one * 2), len(counts) - 1)] += 1
    return counts


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing
        return -1
