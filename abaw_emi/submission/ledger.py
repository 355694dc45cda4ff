"""The ledger of submissions: `submissions/ledger.jsonl`, a line a submission, append-only.

What becomes known later (the test score; that a packed file was never sent) is a further line that amends an
earlier one by name. Whoever writes holds a lock, so that two processes wait for each other.

A submission is committed by the rename of its folder, which comes after its line. A line whose folder is
still the hidden one (`.<name>.partial`) was left by a process that was killed in between: it counts for
nothing, and the next one who writes takes it away.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from abaw_emi.core.errors import EmiError, Problem, SubmissionError
from abaw_emi.core.files import AnyPath
from abaw_emi.core.records import parse_json, timestamp
from abaw_emi.core.suggest import suggest_name

LEDGER = "ledger.jsonl"
_LOCK = ".ledger.lock"
_WAIT = 60.0
"""Seconds to wait for another writer; one takes well under a second."""


class _Source(TypedDict, total=False):
    file: str
    sha256: str


class _Validation(TypedDict, total=False):
    mean_pearson: Required[float]
    clipped_mean_pearson: float
    interval: dict[str, list[float] | None]
    kind: str


class _Line(TypedDict, total=False):
    """What is read of the line of a submission."""

    name: Required[str]
    created: str
    sha256: str
    signature: str
    source: _Source
    system: str
    val: _Validation | None


class _Amendment(TypedDict, total=False):
    """What is read of the line that amends one."""

    amends: Required[str]
    test_score: Annotated[float, Field(ge=-1, le=1)] | None
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One submission.

    Attributes:
        name: of the submission, and of its folder.
        created: when, in UTC.
        record: everything that its line holds.
        test_score: the organisers' mean Pearson; None while it is not known.
        sent: whether it counts as a try.
    """

    name: str
    created: str
    record: Mapping[str, Any]
    test_score: float | None = None
    sent: bool = True

    @property
    def val(self) -> Mapping[str, Any] | None:
        """What is known of its validation score: "mean_pearson", "interval", "kind"; None for nothing."""
        val: Mapping[str, Any] | None = self.record.get("val")
        return val

    @property
    def system(self) -> str:
        """The runs that it is made of; else, as for entries of before, its file's name; "" for neither."""
        return str(self.record.get("system") or self.record.get("source", {}).get("file", ""))

    @property
    def hashes(self) -> frozenset[str]:
        """SHA-256 of the CSV that was sent, and of the file that it was made from."""
        given = [self.record.get("sha256"), self.record.get("source", {}).get("sha256")]
        return frozenset(filter(None, given))

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {**self.record, "test_score": self.test_score, "sent": self.sent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a ledger holds.

    Attributes:
        entries: the submissions, the oldest first.
        unread: lines that cannot be read; they are left as they are.
        problems: these, and lines that say what others say, too.
    """

    entries: tuple[Entry, ...] = ()
    unread: int = 0
    problems: tuple[Problem, ...] = field(default=())

    @property
    def used(self) -> int:
        """How many attempts are used; a line that cannot be read may be one."""
        return sum(entry.sent for entry in self.entries) + self.unread

    def find(self, name: str) -> Entry | None:
        """The submission of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


def read_ledger(out: AnyPath) -> Ledger:
    """The ledger of the folder `out`, or that file of it; empty where there is none yet.

    Two submissions of one name, as in the joined ledgers of two people, are two attempts.

    Raises:
        SubmissionError: it is there and cannot be read, or `out` is another file.
    """
    out = Path(out)
    if out.is_file():
        if out.name != LEDGER:
            raise SubmissionError(Problem(str(out), "a file", "the folder of submissions"))
        out = out.parent
    path = out / LEDGER
    entries: list[Entry] = []
    problems: list[Problem] = []
    unread = 0
    lines = _read(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, amends = f"{path}, line {number}", b'"amends"' in line
        try:
            record = parse_json(line, where, _Amendment if amends else _Line, "a line of a ledger")
        except EmiError as error:
            if number < len(lines) or not any(out.glob(".*.partial")):  # else: half a line of one killed
                problems += error.problems if amends else [_count(problem) for problem in error.problems]
                unread += not amends
            continue
        name = record["amends" if amends else "name"]
        same = [place for place, entry in enumerate(entries) if entry.name == name]
        if amends and same:
            entries[same[-1]] = _amend(entries[same[-1]], record)
        elif amends:
            problems.append(Problem(where, f"no submission {name!r} before it"))
        elif any(entries[place].record == record for place in same):
            problems.append(
                Problem(where, f"submission {name!r} again, word for word", next_step="counted once")
            )
        elif not is_partial(out, name):
            entries.append(Entry(name=name, created=record.get("created", ""), record=record))
            if same:
                problems.append(Problem(where, f"another submission {name!r}", next_step="both count"))
    return Ledger(entries=tuple(entries), unread=unread, problems=tuple(problems))


def _count(problem: Problem) -> Problem:
    return replace(problem, next_step="it counts as an attempt, until it is mended")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the folder and holds its ledger's lock, after clearing up what a killed process left.

    Raises:
        SubmissionError: the folder cannot be written to, or another process holds the lock for a minute.
    """
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / _LOCK, timeout=_WAIT)
        lock.acquire()
    except Timeout:
        found = f"another abaw-emi has held {_LOCK} for {_WAIT:.0f} s"
        raise SubmissionError(Problem(str(out), found, next_step="wait for it, or end it")) from None
    except OSError as error:
        raise SubmissionError(Problem(str(out), f"cannot be written: {error.strerror}")) from error
    try:
        _clear_up(out)
        yield
    finally:
        lock.release()


def append(out: Path, record: Mapping[str, Any]) -> None:
    """Appends a line; to be called under the lock.

    Raises:
        SubmissionError: the ledger cannot be written.
    """
    path = out / LEDGER
    content = _read(path)
    gap = b"" if not content or content.endswith(b"\n") else b"\n"
    try:
        # O_BINARY: on Windows a line would else end in two characters.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags, 0o644)
        try:
            rest = gap + json.dumps(record).encode() + b"\n"
            while rest:  # a write may take a part only
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SubmissionError(Problem(str(path), f"cannot be written: {error.strerror}")) from error


def amend(out: Path, name: str, **changes: Any) -> Entry:
    """Notes what became known of a submission: `test_score`, `sent`; returns it as it is now.

    Raises:
        SubmissionError: no such submission, or the ledger cannot be written.
    """
    if read_ledger(out).find(name) is None:
        known = [entry.name for entry in read_ledger(out).entries]
        step = suggest_name(name, known) or "abaw-emi ledger lists them"
        raise SubmissionError(Problem(str(out / LEDGER), f"no submission {name!r}", next_step=step))
    with locked(out):
        append(out, {"amends": name, "at": timestamp(), **changes})
        entry = read_ledger(out).find(name)
    assert entry is not None
    return entry


def truncate(out: Path, size: int) -> None:
    """Takes away what was appended after the ledger had `size` bytes; to be called under the lock."""
    path = out / LEDGER
    if path.is_file() and path.stat().st_size > size:
        os.truncate(path, size)
        if size == 0:
            path.unlink()


def size_of(out: Path) -> int:
    """The ledger's bytes, 0 where there is none."""
    path = out / LEDGER
    return path.stat().st_size if path.is_file() else 0


def partial_folder(out: Path, name: str) -> Path:
    """The hidden folder in which a submission is made."""
    return out / f".{name}.partial"


def is_partial(out: Path, name: str) -> bool:
    """Whether a submission of that name was begun and not finished."""
    return partial_folder(out, name).is_dir() and not (out / name).exists()


def _clear_up(out: Path) -> None:
    """Takes away the hidden folders of killed processes, and the line that the last one may have left."""
    left = sorted(out.glob(".*.partial"))
    content = _read(out / LEDGER)
    *whole, last = content.splitlines(keepends=True) or [b""]
    if left and last:
        try:
            void = not last.endswith(b"\n") or is_partial(out, json.loads(last)["name"])
        except (ValueError, KeyError, TypeError):
            void = False
        if void:
            truncate(out, sum(map(len, whole)))
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _amend(entry: Entry, record: Mapping[str, Any]) -> Entry:
    known = {key: record[key] for key in ("test_score", "sent") if key in record}
    return replace(entry, **known)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SubmissionError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
