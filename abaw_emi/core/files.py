"""Files read and written whole, with errors that name them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from abaw_emi.core.errors import Problem, TableError
from abaw_emi.core.suggest import suggest_path, suggest_table

AnyPath = str | os.PathLike[str]
"""What public functions take for a path."""

_LEFT_SECONDS = 3600.0
"""So long after its last byte nobody is writing a part any more: it is what a killed process left."""


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The bytes of `path`; TableError if it cannot be read, or is larger than `limit` bytes."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                found = f"is too large to be read: {size:,} bytes"
                raise TableError(Problem(str(path), found, f"at most {limit:,}"))
            return file.read()
    except FileNotFoundError:
        raise TableError(Problem(str(path), "no such file", next_step=suggest_path(path))) from None
    except OSError as error:
        if path.is_dir():
            raise TableError(Problem(str(path), "is a folder", "a file", suggest_table(path))) from None
        raise TableError(Problem(str(path), f"cannot be read: {error.strerror}")) from error


def check_writable(path: Path) -> None:
    """Checks that a file can be written, before hours of work rather than after.

    Raises:
        TableError: `path` is a folder, or the folder that it is to lie in cannot be written to.
    """
    if path.is_dir():
        raise TableError(Problem(str(path), "is a folder", "the name of a file"))
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise TableError(Problem(str(path), f"cannot be written: {folder} is not a folder to write to"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all, making its folder; TableError if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_whole(path) as file:
            file.write(content)
    except OSError as error:
        raise TableError(Problem(str(path), f"cannot be written: {error.strerror}")) from error


@contextmanager
def open_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that is at `path` when the block has ended: whole and on the disk; else that is as before.

    Until then it has a name of its own, so of several that write `path` together each is whole, and the last
    stays. A process that is killed leaves its part, a file `*.part`, which nothing reads.

    Of our own: boltons' `atomic_save` leaves its part where a full disk shows when the file is closed.

    Raises:
        OSError: it cannot be written; it names `path`, and nothing of it is left.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # that of `write` names none
        raise


def drop_parts(folder: Path) -> None:
    """Deletes what killed processes left of files that they were writing into `folder`."""
    for part in folder.glob("*.part"):
        with suppress(OSError):  # another process was faster
            if time.time() - part.stat().st_mtime > _LEFT_SECONDS:
                part.unlink()
