"""Arrays kept on disk, each made once: what is slow to make is read back instead.

Arrays are appended to one data file; a manifest beside it tells where each lies. Conventions:

* A manifest is saved whole, after the data that it tells of; what follows its last entry is left over from
  a process that was killed, and is cut off by the next one that writes. Bytes of an entry never change, so
  reading takes no lock; writing does, and looks first at what others have written meanwhile.
* An entry's checksum covers its bytes, its key, its shape and its record, so that neither a damaged data
  file nor a damaged or foreign manifest can give other values. It is compared when a process first asks for
  the entry.
* Arrays are read into the caller's memory and not mapped: what was read does not stay in the process.
* The folder may be deleted at any time: a process that has it open goes on reading (not on Windows).
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from abaw_emi.core.arrays import Float32
from abaw_emi.core.datafile import NUMBER, DataFile, StoredArray
from abaw_emi.core.errors import Problem
from abaw_emi.core.manifest import Entry, compute_checksum, read_manifest, write_manifest

FORMAT = 1
"""Stands in the folder's name: a release that writes another format begins another folder."""

SAVE_SECONDS = 5.0
"""How much work a killed process loses at most."""

RESERVE_BYTES = 2 * 2**30
"""What is left free on the disk: a cache is worth less than the run that is to be saved there."""


class ArrayStore:
    """Float32 arrays by key, on disk.

    Args:
        folder: Where stores lie; this one's own folder in it is made when something is added.
        kind: What the arrays are, as part of a folder's name.

    Attributes:
        folder: the store's own folder.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.folder = folder / f"{kind}-v{FORMAT}"
        self._problems: dict[str, Problem] = {}
        self._file: DataFile | None = None
        self._entries: dict[str, Entry] = {}
        self._checked: dict[str, StoredArray] = {}
        self._damaged: set[tuple[str, int]] = set()
        self._unsaved: list[StoredArray] = []
        self._saved_at = 0.0
        self._writer: BinaryIO | None = None
        self._end = 0
        self._buffer = np.empty(0, np.float32)
        self._load()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def writable(self) -> bool:
        """Whether the store is inside `writing`."""
        return self._writer is not None

    @property
    def problems(self) -> list[Problem]:
        """What was found damaged; nothing that was is ever returned."""
        problems = list(self._problems.values())
        if self._damaged:
            found = f"{len(self._damaged):,} damaged entries"
            problems.append(Problem(str(self.folder), found, next_step="they are made anew"))
        return problems

    @property
    def _manifest_file(self) -> Path:
        return self.folder / "manifest.json"

    def get(self, key: str) -> StoredArray | None:
        """The array of `key`, checked when it is first asked for; None where none is there, or is whole."""
        if key in self._checked:
            return self._checked[key]
        entry = self._entries.get(key)
        if entry is None or self._file is None:
            return None
        array = StoredArray(entry.shape, entry.record, self._file, entry.offset)
        if self._is_whole(self._file, key, entry):
            self._checked[key] = array
            return array
        self._damaged.add((key, entry.offset))
        del self._entries[key]
        return None

    def _is_whole(self, file: DataFile, key: str, entry: Entry) -> bool:
        if entry.end > file.size:
            return False
        count = math.prod(entry.shape)
        if self._buffer.size < count:
            self._buffer = np.empty(count, np.float32)
        array = self._buffer[:count].reshape(entry.shape)
        try:
            whole = file.read_into(entry.offset, array)
        except OSError:
            return False
        return whole and entry.checksum == compute_checksum(self.kind, key, array, entry.record)

    @contextmanager
    def writing(self, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Lets `add` work, and keeps other processes from writing; what they added before is here then.

        Args:
            waiting: Called when another process is writing, before waiting for it.

        Raises:
            OSError: the folder cannot be written. What was added stays readable in this process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            with self._open_writer() as self._writer:
                try:
                    yield
                finally:
                    self._finish()
        finally:
            self._writer = None
            lock.release()

    def add(self, key: str, array: Float32, record: dict[str, Any] | None = None) -> StoredArray:
        """The array, appended; only inside `writing`. `record` is anything small that JSON can hold.

        Raises:
            OSError: it cannot be written.
        """
        assert self._writer is not None
        assert self._file is not None
        array = np.ascontiguousarray(array, NUMBER)
        record = record or {}
        self._save_now_and_then()
        offset = self._writer.tell()
        try:
            self._write(array)
        except OSError:
            self._writer.seek(offset)
            raise
        checksum = compute_checksum(self.kind, key, array, record)
        self._entries[key] = Entry(offset, array.shape, checksum, record)
        stored = StoredArray(array.shape, record, self._file, offset)
        self._checked[key] = stored
        self._unsaved.append(stored)
        return stored

    def _write(self, array: Float32) -> None:
        assert self._writer is not None
        rest = array.reshape(-1).data.cast("B") if array.size else memoryview(b"")
        while rest:
            rest = rest[self._writer.write(rest) :]

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at < SAVE_SECONDS:
            return
        with suppress(FileNotFoundError):  # the folder was deleted, but its file is still open
            if shutil.disk_usage(self.folder).free < RESERVE_BYTES:
                raise OSError(errno.ENOSPC, f"less than {RESERVE_BYTES / 2**30:.0f} GiB are free")
        self._save()

    def _save(self) -> None:
        assert self._writer is not None
        assert self._file is not None
        self._saved_at = time.monotonic()
        if not self._unsaved or not self._file.is_in_place():
            return
        os.fsync(self._writer.fileno())
        write_manifest(self._manifest_file, self._file.path.name, self._entries)
        self._unsaved.clear()

    def _finish(self) -> None:
        try:
            self._save()
        except OSError:
            for array in self._unsaved:  # the next to write will write over them
                array.hold()
            raise
        finally:
            self._unsaved.clear()

    def _open_writer(self) -> BinaryIO:
        """The data file, open where the last entry of the manifest ends."""
        self._load()
        self._saved_at = 0.0
        if self._file is None:
            for leftover in self.folder.glob("*.bin"):
                with suppress(OSError):  # Windows: open elsewhere
                    leftover.unlink()
            path = self.folder / f"{secrets.token_hex(8)}.bin"
            writer: BinaryIO = path.open("xb", buffering=0)
            self._file = DataFile(path)
            return writer
        writer = self._file.path.open("r+b", buffering=0)
        writer.truncate(self._end)
        writer.seek(self._end)
        return writer

    def _load(self) -> None:
        """Reads the manifest as it is now, and opens the data file that it names."""
        try:
            manifest = read_manifest(self._manifest_file)
        except (FileNotFoundError, NotADirectoryError):
            self._file, self._entries = None, {}
            return
        except OSError as error:
            self._start_anew(f"cannot be read ({error.strerror})")
            return
        except ValueError:
            self._start_anew("is damaged, or no manifest")
            return
        path = self.folder / manifest.data
        try:
            if self._file is None or self._file.path != path or not self._file.is_in_place():
                self._file = DataFile(path)
        except OSError as error:
            self._start_anew(f"names {manifest.data}, which cannot be read ({error.strerror})")
            return
        size = self._file.size
        self._entries, self._end = {}, 0
        for key, entry in manifest.entries.items():
            if entry.end > size:  # the data file was cut
                self._damaged.add((key, entry.offset))
                continue
            self._end = max(self._end, entry.end)  # of damaged ones too: others may have found them whole
            if (key, entry.offset) not in self._damaged:
                self._entries[key] = entry

    def _start_anew(self, found: str) -> None:
        where = str(self._manifest_file)
        self._problems[where] = Problem(where, found, next_step="all that it told of is made anew")
        self._file, self._entries = None, {}
