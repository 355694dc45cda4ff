"""Arrays kept on disk, so that what is slow to make is made once: `Cache(kind).cached(key, make)`.

Each entry is a file of its own, written under another name and then renamed. Several processes may therefore
read and write a cache together, any of them may be killed, and its folder may be deleted at any time: what is
missing is made again. Conventions:

* A key says everything that an array follows from, and the folder's name the versions of what makes it. Other
  versions have folders of their own; a folder that nobody has used for 90 days is deleted.
* A file holds the checksum of its first line; that line, which is JSON and holds the key, the form and the
  checksum of the array; and the array. Checksums are compared each time something is read.
* A damaged entry is reported and made again. A cache that cannot be written costs time and nothing else, and
  is reported once.

One file an entry, and no database: lmdb's reads count as memory of the process, and it does not work on
network file systems; diskcache writes at a third of the speed (benchmarks/README.md).
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from abaw_emi.core.errors import Problem
from abaw_emi.core.progress import Reporter

CACHE_VARIABLE = "ABAW_EMI_CACHE"

VERSION = 2
"""Of the files; raised with every change of their format."""

RESERVE_BYTES = 2 * 2**30
"""What is left free on the disk: a cache is worth less than the run that is to be saved there."""

UNUSED_DAYS = 90
"""Age at which a cache is deleted: a frozen encoder's frames are 11 GiB, and each encoder has a cache."""

_HEAD_BYTES = 2**20
"""The longest first line that is read."""

_CACHE_FILES = re.compile(r"[0-9a-f]{64}\.array|[0-9a-f]{16}\.part|files\.json(\.[-0-9a-f]+\.part)?|lock")
"""The files of a cache; a folder that holds others is never deleted."""

Record = dict[str, Any]
"""What is kept beside an array: anything small that JSON can hold."""

_Array = npt.NDArray[Any]


def cache_folder() -> Path:
    """The folder of all caches, `$ABAW_EMI_CACHE` or the user's; safe to delete at any time."""
    from platformdirs import user_cache_dir  # not in the light installation, as xxhash

    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("abaw-emi", appauthor=False))


@dataclass(frozen=True, slots=True, eq=False)
class CachedArray:
    """An array of a cache, read from the disk each time.

    Attributes:
        shape: its shape.
        dtype: of its numbers.
        record: what is kept beside it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    record: Record
    _fill: Callable[[_Array], object]

    @classmethod
    def hold(cls, array: _Array, record: Record | None = None) -> Self:
        """A copy of `array`, in memory."""
        held = array.copy()  # of a view too: not all that it was cut from
        return cls(held.shape, held.dtype, record or {}, lambda out: np.copyto(out, held))

    def read(self) -> _Array:
        """The array, in memory of its own; raises what `read_into` does."""
        out = np.empty(self.shape, self.dtype)
        self._fill(out)
        return out

    def read_into(self, out: _Array) -> None:
        """Fills `out`, which is contiguous and of the same shape and dtype.

        Raises:
            EmiError: the entry is gone or damaged, and cannot be made again.
        """
        if out.shape != self.shape or out.dtype != self.dtype:
            raise ValueError(f"an array {out.shape} of {out.dtype} cannot hold {self.shape} of {self.dtype}")
        self._fill(out)


class CacheEntry(NamedTuple):
    """What the first line of an entry says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    record: Record


class Cache:
    """Arrays of one kind by key, on disk; any thread and process may use it.

    Args:
        kind: What the arrays are, with the versions of all that makes them.
        reporter: Receives warnings, and what the user waits for.
        folder: Where caches lie; `cache_folder()` if not given.

    Attributes:
        folder: the cache's own folder, which is made when something is kept.
    """

    def __init__(self, kind: str, reporter: Reporter | None = None, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / re.sub(r"[^\w.-]", "_", f"{kind}-v{VERSION}")
        self._reporter = reporter or Reporter(quiet=True)
        self._lock = FileLock(self.folder / "lock")
        self._ready = self._failed = self._waited = False
        self._damaged: set[Path] = set()
        with suppress(OSError):  # it is not there yet, or belongs to someone else
            os.utime(self.folder)

    def cached(self, key: str, make: Callable[[], tuple[_Array, Record]]) -> CachedArray:
        """The array of `key`, which `make` makes if it is not there; only its first line is read now.

        Args:
            key: Everything that the array follows from.
            make: Returns the array and its record: the same each time, or it raises. It is kept, and called
                again if the entry is gone or damaged when it is read. Its errors are passed on.
        """
        if (entry := self.find(key)) is None:
            with self.lock():
                if (entry := self.find(key)) is None:  # no other process has made it meanwhile
                    array, record = make()
                    entry = self.keep(key, array, record)
        if entry is None:
            return CachedArray.hold(array, record)
        return CachedArray(*entry, partial(self._fill, key, make))

    def get(self, key: str) -> tuple[_Array, Record] | None:
        """The array of `key` and its record; None if there is none, or a damaged one."""
        if (entry := self.find(key)) is None:
            return None
        out = np.empty(entry.shape, entry.dtype)
        return (out, entry.record) if self.find(key, out) else None

    def find(self, key: str, out: _Array | None = None) -> CacheEntry | None:
        """What the first line of the entry of `key` says; None if there is none, or a damaged one.

        The array itself is read into `out` if that is given, and only then compared with its checksum.
        """
        path = self._path(key)
        try:
            with path.open("rb") as file:
                line = file.readline(_HEAD_BYTES)
                if line[:16] != b"%016x" % _checksum(line[16:]):
                    raise ValueError
                found, dtype, shape, record, checksum = json.loads(line[16:])
                entry = CacheEntry(tuple(shape), np.dtype(dtype), record)
                size = math.prod(shape) * entry.dtype.itemsize
                if found != key or os.fstat(file.fileno()).st_size != len(line) + size:
                    raise ValueError
                if out is not None and (file.readinto(out.data) != size or _checksum(out) != checksum):
                    raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):
            self._report_damage(path)
            return None
        return entry

    def keep(self, key: str, array: _Array, record: Record | None = None) -> CacheEntry | None:
        """Writes an entry; None if that is not possible, which is reported once and then not tried again."""
        if self._failed:
            return None
        array = np.ascontiguousarray(array)
        described = [key, array.dtype.str, array.shape, record or {}, _checksum(array)]
        head = json.dumps(described, separators=(",", ":")).encode() + b"\n"
        part = self.folder / f"{secrets.token_hex(8)}.part"
        try:
            self._prepare(array.nbytes)
            with part.open("xb") as file:
                file.write(b"%016x" % _checksum(head) + head)
                file.write(array.data)
            part.replace(self._path(key))
        except OSError as error:
            self._give_up(error)
            return None
        finally:
            with suppress(OSError):  # it is there only if it was not written whole
                part.unlink()
        return CacheEntry(array.shape, array.dtype, record or {})

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes can be written; reported if not."""
        try:
            self._prepare(size)
        except OSError as error:
            self._give_up(error)
        return not self._failed

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lets one process at a time make what is missing: others wait, and find it then.

        It saves work and nothing depends on it, so it is left out where there are no locks.
        """
        with ExitStack() as stack:
            with suppress(OSError, NotImplementedError):
                self.folder.mkdir(parents=True, exist_ok=True)
                try:
                    self._lock.acquire(timeout=0)
                except Timeout:
                    if not self._waited:
                        self._reporter.say(f"waiting for another process that fills {self.folder}")
                    self._waited = True
                    self._lock.acquire()
                stack.callback(self._lock.release)
            yield

    def _path(self, key: str) -> Path:
        return self.folder / f"{sha256(key.encode()).hexdigest()}.array"

    def _fill(self, key: str, make: Callable[[], tuple[_Array, Record]], out: _Array) -> None:
        if self.find(key, out) is None:
            array, record = make()
            self.keep(key, array, record)
            np.copyto(out, array)

    def _prepare(self, size: int) -> None:
        """Makes the folder; OSError if that is not possible, or if `size` bytes find no room."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < size + RESERVE_BYTES:
            needed = f"{size / 2**30:.1f} GiB, with {RESERVE_BYTES / 2**30:.0f} GiB to spare, are not free"
            raise OSError(errno.ENOSPC, needed)
        if not self._ready:
            self._delete_unused()
            self._ready = True

    def _delete_unused(self) -> None:
        for folder in self.folder.parent.glob("*-v[0-9]*"):
            with suppress(OSError):
                age = time.time() - folder.stat().st_mtime
                if age > UNUSED_DAYS * 86_400 and all(
                    _CACHE_FILES.fullmatch(file.name) for file in folder.iterdir()
                ):
                    shutil.rmtree(folder)
                    self._reporter.say(f"deleted {folder}: not used for {age / 86_400:.0f} days")

    def _give_up(self, error: OSError) -> None:
        if not self._failed:
            found = f"cannot be written ({error.strerror or error})"
            step = f"missing entries are made each time; set ${CACHE_VARIABLE} to a writable folder with room"
            self._reporter.warn([Problem(str(self.folder), found, next_step=step)])
        self._failed = True

    def _report_damage(self, path: Path) -> None:
        if path in self._damaged:
            return
        self._damaged.add(path)
        count = len(self._damaged)
        if str(count).rstrip("0") == "1":  # 1, 10, 100: a failing disk may have damaged thousands
            found = f"damaged entries: {count:,}" if count > 1 else f"a damaged entry, {path.name}"
            self._reporter.warn([Problem(str(self.folder), found, next_step="it is made again")])


def _checksum(content: bytes | _Array) -> int:
    """XXH3 of 64 bits: it meets accidents, not attacks, and is ten times as fast as CRC-32."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(content.data if isinstance(content, np.ndarray) else content)
