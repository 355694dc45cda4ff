"""Where a prediction file comes from: the record that lies beside it as `X.provenance.json`.

The record names the file's hash, so that it cannot speak for another file, and the ids that the
predictor was trained on, so that a score on those ids is never taken for a validation score.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, Required

import polars as pl
from typing_extensions import TypedDict

from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import EmiError, Problem, UsageError, show_first
from abaw_emi.core.files import read_bytes, write_bytes
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids, unpack_ids
from abaw_emi.core.records import read_json
from abaw_emi.data.csv import MAX_BYTES, find_cut
from abaw_emi.data.tables import format_predictions, parse_table

SUFFIX = ".provenance.json"

HELD_OUT = "valid_predictions.csv"
"""A run folder's predictions of the clips that it held out: valid, or a fold."""


class _OutOfFold(TypedDict):
    members: list[str]
    schemes: dict[str, dict[str, Any]]


class _Scheme(TypedDict, total=False):
    scheme: Required[str]
    out_of_fold: _OutOfFold | None


class _Record(TypedDict):
    """A record as JSON holds it."""

    command: str
    split: str
    members: list[dict[str, Any]]
    trained_on: list[str]
    trained_on_complete: bool
    skipped: list[str]
    read_from_video: dict[str, list[str]]
    sha256: str
    version: str
    scheme: NotRequired[_Scheme]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record of one prediction file.

    Attributes:
        command: what made the file, such as "abaw-emi predict".
        split: the split predicted, "" where unknown.
        members: one entry for each run or file that the predictions come from.
        trained_on: ids that any member is known to have been trained on.
        trained_on_complete: whether every member says what it was trained on.
        skipped: ids left out because their clips cannot be read.
        read_from_video: ranges of ids whose sound came from the video, by what was wrong with the sound
            file ("missing", "broken").
        sha256: hash of the CSV that this record belongs to.
        version: of this package.
        scheme: how members were combined, where it was not their plain mean: the scheme, its weights, its
            score out of fold, clips that members lacked.
    """

    command: str
    split: str = ""
    members: Sequence[dict[str, Any]] = field(default=())
    trained_on: frozenset[str] = frozenset()
    trained_on_complete: bool = False
    skipped: Sequence[str] = field(default=())
    read_from_video: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sha256: str = ""
    version: str = VERSION
    scheme: Mapping[str, Any] = field(default_factory=dict)

    def splits_of_members(self) -> set[str]:
        """The splits that the members' own records name, and those of their members."""
        return {record.get("split", "") for record in _walk(self.members) if "split" in record}

    def runs(self) -> list[Mapping[str, Any]]:
        """What is recorded of every run that the predictions come from, however deep."""
        return [record for record in _walk(self.members) if "run" in record]

    def run_of_each(self) -> list[str]:
        """The name of the run that each member is the predictions of; [] where a member is anything else."""
        parts = [list(_walk([member])) for member in self.members]
        names = [[str(each["run"]) for each in found if "run" in each] for found in parts]
        combined = any(each.get("scheme") for found in parts for each in found)
        return [] if combined or any(len(own) != 1 for own in names) else [own[0] for own in names]

    @property
    def system(self) -> str:
        """The members and how they were combined, "mean of 2: a-seed1, a-seed2"; of one, its name; or "".

        >>> Provenance(command="ensemble", members=[{"run": "a-seed1"}, {"file": "b.csv"}]).system
        'mean of 2: a-seed1, b.csv'
        """
        names = [str(member.get("run") or member.get("file") or "unnamed") for member in self.members]
        if len(names) < 2:
            return "".join(names)
        return f"{self.scheme.get('scheme', 'mean')} of {len(names)}: {show_first(names)}"

    def missing(self) -> dict[str, set[str]]:
        """The clips that some run predicted without a modality that it reads, by the modality's name.

        Raises:
            ValueError: the record holds something else than ranges of ids.
        """
        missing: dict[str, set[str]] = {}
        for run in self.runs():
            for name, ranges in dict(run.get("missing") or {}).items():
                missing.setdefault(str(name), set()).update(unpack_ids(map(str, ranges)))
        return missing

    def precisions(self) -> tuple[str, ...]:
        """The arithmetic of the runs that the predictions come from, where it was not float32 ("bf16")."""
        return tuple(sorted({run.get("precision") or "fp32" for run in self.runs()} - {"fp32"}))

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; ids as ranges."""
        return {
            "sha256": self.sha256,
            "command": self.command,
            "version": self.version,
            "split": self.split,
            "trained_on": pack_ids(self.trained_on),
            "trained_on_complete": self.trained_on_complete,
            "skipped": list(self.skipped),
            "read_from_video": dict(self.read_from_video),
            "members": list(self.members),
            **({"scheme": dict(self.scheme)} if self.scheme else {}),
        }


def _walk(members: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Every member, and the records and members that a member which is a file brings along."""
    for member in members:
        if isinstance(member, dict):
            yield member
            record = member.get("provenance")
            if isinstance(record, dict):
                yield record
                yield from _walk(record.get("members", []))


def provenance_path(path: Path) -> Path:
    """Where the record of the prediction file `path` lies.

    >>> provenance_path(Path("predictions/ensemble-test.csv")).name
    'ensemble-test.provenance.json'
    """
    return path.with_name(path.stem + SUFFIX)


def write_with_provenance(table: pl.DataFrame, path: Path, record: Provenance) -> None:
    """Writes the prediction file and, beside it, the record that names its hash."""
    content = format_predictions(table)
    write_bytes(path, content)
    text = json.dumps(replace(record, sha256=sha256(content)).to_json(), indent=2)
    write_bytes(provenance_path(path), (text + "\n").encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFile:
    """A prediction file, read once: its table, the hash of its bytes, and the record that belongs to it.

    Attributes:
        table: the predictions.
        sha256: of its bytes.
        record: None where none belongs to it.
        warnings: of its form, such as a last line without an end; never a reason to refuse the file.
    """

    table: pl.DataFrame
    sha256: str
    record: Provenance | None
    warnings: tuple[Problem, ...] = ()


def find_prediction_file(path: Path) -> Path:
    """The prediction file that a path names: a run folder stands for its own of what it held out.

    Raises:
        UsageError: it is a folder without any.
    """
    if not path.is_dir():
        return path
    file = path / HELD_OUT
    if file.is_file():
        return file
    step = "a run on train+val has none; abaw-emi predict writes those of a split"
    if runs := sorted(path.glob(f"*/{HELD_OUT}")):
        step = f"did you mean {runs[0].parent}?"
    raise UsageError(Problem(str(path), f"a folder without {HELD_OUT}", "a CSV, or a run folder", step))


def read_prediction_file(path: Path) -> tuple[PredictionFile, list[Problem]]:
    """The prediction file `path`, and what is wrong with its record (see `read_provenance`).

    What rests on the record, as a submission does, refuses such a file; what does not, warns of it.

    Raises:
        TableError: the file is missing, or breaks the schema of predictions; all problems together.
    """
    content = read_bytes(path, MAX_BYTES)
    table = parse_table(content, str(path), "predictions")
    digest = sha256(content)
    record, problems = read_provenance(path, digest)
    warnings = tuple(find_cut(content, str(path)))
    return PredictionFile(table=table, sha256=digest, record=record, warnings=warnings), problems


def read_system(path: Path) -> str:
    """What the prediction file `path` is made of, as `Provenance.system` says; "" where there is no file."""
    if not path.is_file():
        return ""
    record, _ = read_provenance(path)
    return (record.system if record else "") or "a file without a record"


def read_provenance(path: Path, digest: str = "") -> tuple[Provenance | None, list[Problem]]:
    """The record of the prediction file `path`, None where there is none that belongs to it.

    A record that is damaged, or that was written for other bytes, is a problem and not believed.

    Args:
        path: of the prediction file.
        digest: SHA-256 of its bytes, where they were read already.
    """
    beside = provenance_path(path)
    if not beside.is_file():
        return None, []
    try:
        record = _parse_record(read_json(beside, _Record, "a provenance record"))
    except EmiError as error:
        return None, list(error.problems)
    except (TypeError, ValueError) as error:
        return None, [Problem(str(beside), f"not a provenance record ({error})")]
    if record.sha256 != (digest or sha256(read_bytes(path, MAX_BYTES))):
        found = f"it was written for other bytes than {path.name} holds now"
        return None, [Problem(str(beside), found, "the record of this file", "predict again, or remove it")]
    return record, []


def _parse_record(values: _Record) -> Provenance:
    record = Provenance(
        command=values["command"],
        split=values["split"],
        members=values["members"],
        trained_on=frozenset(unpack_ids(values["trained_on"])),
        trained_on_complete=values["trained_on_complete"],
        skipped=values["skipped"],
        read_from_video=values["read_from_video"],
        sha256=values["sha256"],
        version=values["version"],
        scheme=values.get("scheme", {}),
    )
    record.missing()
    return record
