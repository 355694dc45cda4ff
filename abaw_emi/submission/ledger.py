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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abaw_emi.core.errors import Problem, SubmissionError

LEDGER = "ledger.jsonl"
_LOCK = ".ledger.lock"
_WAIT = 60.0
"""Seconds to wait for another writer; one takes well under a second."""


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
        value = self.record.get("val")
        return value if isinstance(value, dict) else None

    @property
    def hashes(self) -> frozenset[str]:
        """SHA-256 of the CSV that was sent, and of the file that it was made from."""
        source = self.record.get("source")
        given = [self.record.get("sha256"), source.get("sha256") if isinstance(source, dict) else ""]
        return frozenset(value for value in given if isinstance(value, str) and value)

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {**self.record, "test_score": self.test_score, "sent": self.sent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a ledger holds.

    Attributes:
        entries: the submissions, the oldest first.
        problems: lines that cannot be read; they are left as they are.
    """

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def used(self) -> int:
        """How many tries are used."""
        return sum(entry.sent for entry in self.entries)

    def find(self, name: str) -> Entry | None:
        """The submission of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


def read_ledger(out: Path) -> Ledger:
    """The ledger of the folder `out`; empty where there is none yet.

    Raises:
        SubmissionError: it is there and cannot be read.
    """
    path = out / LEDGER
    entries: dict[str, Entry] = {}
    problems = []
    lines = _read(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = record.get("amends") or record["name"]
            if "amends" in record:
                entries[name] = _amend(entries[name], record)
            elif not is_partial(out, name):
                entries[name] = Entry(name=name, created=str(record.get("created", "")), record=record)
        except (ValueError, KeyError, TypeError, AttributeError):
            if number < len(lines) or not any(out.glob(".*.partial")):  # else: half a line of one killed
                problems.append(
                    Problem(f"{path}, line {number}", "not a line of a ledger", "JSON with a name")
                )
    return Ledger(entries=tuple(entries.values()), problems=tuple(problems))


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
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
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
        known = ", ".join(entry.name for entry in read_ledger(out).entries) or "none yet"
        raise SubmissionError(Problem(str(out / LEDGER), f"no submission {name!r}", f"one of: {known}"))
    with locked(out):
        append(out, {"amends": name, "at": now(), **changes})
        entry = read_ledger(out).find(name)
    assert entry is not None
    return entry


def shorten(out: Path, size: int) -> None:
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


def now() -> str:
    """The time, in UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
            shorten(out, sum(map(len, whole)))
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _amend(entry: Entry, record: Mapping[str, Any]) -> Entry:
    score = record.get("test_score", entry.test_score)
    return Entry(
        name=entry.name,
        created=entry.created,
        record=entry.record,
        test_score=None if score is None else float(score),
        sent=bool(record.get("sent", entry.sent)),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SubmissionError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
