"""The data file of a store, and the arrays in it: read into the caller's memory, by any thread."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abaw_emi.core.arrays import Float32

NUMBER = np.dtype("<f4")
"""What a data file holds."""


class DataFile:
    """A data file held open for reading, by any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self._file.fileno()).st_size

    def is_in_place(self) -> bool:
        """Whether the file still lies where it was opened."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except OSError:
            return False

    def read_into(self, offset: int, out: Float32) -> bool:
        """Fills `out` from `offset` on; whether the file was long enough."""
        if not out.size:
            return True
        rest = out.data.cast("B")
        while rest:
            count = self._read(offset, rest)
            if not count:
                return False
            offset, rest = offset + count, rest[count:]
        return True

    def _read(self, offset: int, out: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [out], offset)
        with self._lock:  # Windows: one place in the file for all threads
            self._file.seek(offset)
            return self._file.readinto(out) or 0


@dataclass(slots=True, eq=False)
class StoredArray:
    """An array of a store, whose checksum was right.

    Attributes:
        shape: its shape; its numbers are float32.
        record: what was noted beside it.
    """

    shape: tuple[int, ...]
    record: dict[str, Any]
    _file: DataFile | None
    _offset: int
    _held: Float32 | None = None

    @classmethod
    def in_memory(cls, array: Float32, record: dict[str, Any]) -> StoredArray:
        """An array that no store could be given."""
        return cls(array.shape, record, None, 0, array)

    def read(self) -> Float32:
        """The array, in memory of its own."""
        out = np.empty(self.shape, np.float32)
        self.read_into(out)
        return out

    def read_into(self, out: Float32) -> None:
        """Fills `out`, which is contiguous, float32 and of the same shape.

        Raises:
            OSError: the data file can no longer be read, or was cut while it was open.
        """
        if out.shape != self.shape or out.dtype != NUMBER:
            raise ValueError(f"an array {out.shape} of {out.dtype} cannot hold {self.shape} of float32")
        if self._held is not None:
            out[...] = self._held
            return
        assert self._file is not None
        if not self._file.read_into(self._offset, out):
            raise OSError(errno.EIO, "was cut while it was in use; start again", str(self._file.path))

    def hold(self) -> None:
        """Keeps the array in memory from now on."""
        self._held = self.read()
