"""Listens to many files, in several processes, and keeps what was heard: a second audit takes seconds.

What is kept is kept by the file's content, as in `cache`. A file that cannot be used is listened to again
each time. Whatever ends an audit, what was heard up to then is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TypeVar

import av
import numpy as np
import numpy.typing as npt
import soxr

from abaw_emi.audio.cache import cache_folder
from abaw_emi.audit.fingerprint import Print
from abaw_emi.audit.probe import VERSION, Heard, SoundFacts, listen
from abaw_emi.core.errors import CorpusError, Problem
from abaw_emi.core.hashing import FileHashes
from abaw_emi.core.keeping import CACHE_VARIABLE
from abaw_emi.core.signals import blocked_signals
from abaw_emi.core.store import ArrayStore

WORTH_FILES = 800
"""Files from which on other processes are started: each takes a second of work to come up, and a file some
5 ms to be heard (both measured)."""

_AT_ONCE = 16
"""Files that a process is given at a time."""


T = TypeVar("T")


class Track(Protocol):
    """Items with a bar over them, its description and their number, as `progress.Reporter.track`."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        """The same items."""
        ...


def track_nothing(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The same items, without a bar."""
    return items


def _name_listener() -> str:
    versions = f"av{av.__version__}-ffmpeg{av.ffmpeg_version_info}-soxr{soxr.__version__}"
    return re.sub(r"[^\w.-]", "_", f"facts-{VERSION}-{versions}-numpy{np.__version__}")


class FactStore:
    """Listens to files, to each at most once.

    Args:
        folder: Where caches lie; `cache_folder()` if not given.
        say: Told, in a line, what a person waits for.

    Attributes:
        listened: how many files were decoded, and not found.
        hashes: SHA-256 of each file asked for, by path; without those that cannot be read.
    """

    def __init__(self, folder: Path | None = None, say: Callable[[str], object] = lambda line: None) -> None:
        self.listened = 0
        self.hashes: dict[Path, str] = {}
        self._store = ArrayStore(folder or cache_folder(), _name_listener())
        self._files = FileHashes(self._store.folder / "files.json")
        self._say = say
        self._unwritable: list[Problem] = []

    @property
    def warnings(self) -> list[Problem]:
        """What was damaged in the store, and why it cannot be written."""
        return [*self._store.problems, *self._unwritable]

    def hear(
        self, paths: Sequence[Path], *, jobs: int | None = None, track: Track = track_nothing
    ) -> dict[Path, Heard]:
        """What each of these files sounds like.

        Args:
            paths: Of sound or video files.
            jobs: Processes that listen; by default one for each core where there is enough to do.
            track: Puts a bar over the files.

        Raises:
            CorpusError: one of the processes was killed.
        """
        found: dict[Path, Heard] = {}
        try:
            for path in track(paths, "reading files", len(paths)):
                file_hash = self._files.get(path)
                if file_hash is not None:
                    self.hashes[path] = file_hash
                    heard = self._find(path)
                    if heard is not None:
                        found[path] = heard
            missing = [path for path in paths if path not in found]
            if missing:
                enough = len(missing) >= WORTH_FILES
                found |= self._hear_missing(missing, jobs or (count_cores() if enough else 1), track)
        finally:
            self._files.save()
        return found

    def _hear_missing(self, paths: Sequence[Path], jobs: int, track: Track) -> dict[Path, Heard]:
        found: dict[Path, Heard] = {}
        with ExitStack() as stack:
            try:
                stack.enter_context(self._store.writing(self._wait))
            except OSError as error:
                self._give_up(error)
            try:
                for path, heard in track(_listen_to_all(paths, jobs), "listening", len(paths)):
                    self.listened += 1
                    found[path] = heard
                    self._keep(path, heard)
            finally:
                self._close(stack)
        return found

    def _find(self, path: Path) -> Heard | None:
        stored = self._store.get(self._key(path))
        if stored is None:
            return None
        return Heard(SoundFacts(**stored.record), _join_halves(stored.read()))

    def _keep(self, path: Path, heard: Heard) -> None:
        """Keeps what was heard, unless the file changed meanwhile or the store cannot be written."""
        if heard.facts is None or path not in self.hashes or not self._store.writable:
            return
        if self._files.get(path) != self.hashes[path]:
            return
        try:
            self._store.add(self._key(path), _split_halves(heard.rows), asdict(heard.facts))
        except OSError as error:
            self._give_up(error)

    def _key(self, path: Path) -> str:
        return f"{self.hashes[path]}{path.suffix.lower()}"

    def _close(self, stack: ExitStack) -> None:
        try:
            stack.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        found = f"cannot be written ({error.strerror})"
        step = f"the next audit listens to all files again; set ${CACHE_VARIABLE} to a folder with room"
        self._unwritable = [Problem(str(self._store.folder), found, next_step=step)]

    def _wait(self) -> None:
        self._say(f"waiting for another audit that writes into {self._store.folder}")


def count_cores() -> int:
    """The cores that this process may use: what its affinity and its container allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup of version 2, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def _listen_to_all(paths: Sequence[Path], jobs: int) -> Iterator[tuple[Path, Heard]]:
    """Each path with what was heard, as soon as it was."""
    if jobs <= 1:
        for path in paths:
            yield path, listen(path)
        return
    pieces = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    with _workers(min(jobs, len(pieces))) as pool:
        with blocked_signals():
            running = {pool.submit(_listen_to, piece): piece for piece in pieces}
        for future in as_completed(running):
            yield from zip(running.pop(future), future.result(), strict=True)


def _listen_to(paths: Sequence[Path]) -> list[Heard]:
    return [listen(path) for path in paths]


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; on leaving, however, they are gone."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start)
    try:
        yield pool
    except BrokenProcessPool:
        found, step = "one of its processes was killed, or crashed", "try again with --jobs 1"
        raise CorpusError(Problem("audit", found, next_step=step)) from None
    finally:
        with blocked_signals():
            for process in set(multiprocessing.active_children()) - others:
                process.kill()  # shutdown alone would wait for what they are doing
            pool.shutdown(cancel_futures=True)


def _start() -> None:
    """The first that each process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where signals cannot be blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _split_halves(rows: Print) -> npt.NDArray[np.float32]:
    """A print as a store holds it: (R, 2) halves of 16 bits, which float32 holds exactly."""
    return np.stack([rows >> 16, rows & 0xFFFF], axis=1).astype(np.float32)


def _join_halves(halves: npt.NDArray[np.float32]) -> Print:
    high, low = halves.astype(np.uint32).T
    return np.asarray(high << 16 | low, np.uint32)
