"""The lock of a run folder: one process at a time makes, continues or replaces a run.

It is `flock` on the file `.NAME.lock` beside the folder, which holds the process and its machine as text:

* The kernel frees it when its holder ends, however that happens; a lock by the mere existence of a file would
  stay after `kill -9`, and on a network disk nobody could tell whether its holder lives.
* It works between machines where their disk has such locks: NFS, Lustre mounted with `flock`, GPFS, CephFS. A
  disk without any is reported, and training goes on.
* The file is deleted when it is let go, and marked: a process that opened it before, perhaps on another
  machine, and locks it after that sees that it is gone, and opens the new one.
* The package filelock is not used: until its version 4, each process that tries empties the file.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from abaw_emi.core.errors import Problem
from abaw_emi.runs.run import Run

_ATTEMPTS, _SECONDS = 10, 0.05
"""A lock is tried again so often, after so long: `find_holder` may have it for a moment."""

_GONE = "gone"
"""What a deleted file holds."""


def lock_runs(runs: Sequence[Run], locks: ExitStack) -> tuple[dict[Run, Problem], list[Problem]]:
    """Locks the run folders, which need not exist yet, until `locks` is closed.

    Returns:
        Which process holds it, for each run that is locked already; and a warning for each that cannot be.
    """
    held: dict[Run, Problem] = {}
    warnings: list[Problem] = []
    for run in runs:
        path = _lock_file(run)
        made = [folder for folder in path.parents if not folder.exists()]
        try:
            file = _open(path)
            if file is None:
                found = f"in use by {find_holder(run) or 'another process'}"
                held[run] = Problem(str(run.folder), found, next_step="wait for it, or end it")
                continue
        except OSError as error:
            step = "see that no other process trains this run"
            warnings.append(Problem(str(path), f"cannot be locked: {error.strerror}", next_step=step))
            continue
        locks.callback(_let_go, path, file, made)
        _write(file, f"process {os.getpid()} on {socket.gethostname()}")
    return held, warnings


def find_holder(run: Run) -> str:
    """The process that holds the lock of a run; "" if none does, or if that cannot be found out."""
    try:
        with _lock_file(run).open("rb") as file:
            holder = _read(file)
            return holder if holder and not _flock(file, shared=True) else ""
    except OSError:
        return ""


def _lock_file(run: Run) -> Path:
    folder = run.folder.resolve()
    return folder.with_name(f".{folder.name}.lock")


def _open(path: Path) -> IO[bytes] | None:
    """The file, locked; None if another process has it."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_SECONDS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except FileNotFoundError:  # another process, which had made the folder, has just let go
            continue
        file.seek(0)
        if _flock(file) and _read(file) != _GONE:
            return file
        file.close()
    return None


def _let_go(path: Path, file: IO[bytes], made: Sequence[Path]) -> None:
    """Deletes the file, and the folders that were made for it where nothing else lies there now."""
    with file, suppress(OSError):
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            path.unlink()
            _write(file, _GONE)
        for folder in made:
            folder.rmdir()


def _flock(file: IO[bytes], *, shared: bool = False) -> bool:
    """Locks the file, if no other process has; OSError where there are no locks."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[bytes]) -> str:
    return file.read(300).decode(errors="replace").strip()


def _write(file: IO[bytes], holder: str) -> None:
    with suppress(OSError):  # a full disk: it is locked all the same
        file.truncate(0)
        file.write(holder.encode())
        file.flush()
