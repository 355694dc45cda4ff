"""Listens to many files, in several processes, and keeps what was heard: a second audit takes seconds.

What is kept is kept by the file's content, as in `cache`. A file that cannot be used is listened to again
each time. Whatever ends an audit, what was heard up to then is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TypeVar

from abaw_emi.audio.cache import VERSIONS
from abaw_emi.audit.probe import VERSION, Heard, SoundFacts, listen
from abaw_emi.core.cache import Cache
from abaw_emi.core.errors import CorpusError, Problem
from abaw_emi.core.hashing import FileHashes
from abaw_emi.core.progress import Reporter
from abaw_emi.core.signals import blocked_signals

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


class FactStore:
    """Listens to files, to each at most once.

    Args:
        reporter: Receives warnings about the cache.
        folder: Where caches lie; `cache_folder()` if not given.

    Attributes:
        listened: how many files were decoded, and not found.
        hashes: SHA-256 of each file asked for, by path; without those that cannot be read.
    """

    def __init__(self, reporter: Reporter | None = None, folder: Path | None = None) -> None:
        self.listened = 0
        self.hashes: dict[Path, str] = {}
        self._cache = Cache(f"facts-{VERSION}-{VERSIONS}", reporter, folder)
        self._files = FileHashes(self._cache.folder / "files.json")

    def hear(
        self,
        paths: Sequence[Path],
        *,
        jobs: int | None = None,
        track: Track = track_nothing,
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
        with self._cache.lock():
            for path, heard in track(_listen_to_all(paths, jobs), "listening", len(paths)):
                self.listened += 1
                found[path] = heard
                self._keep(path, heard)
        return found

    def _find(self, path: Path) -> Heard | None:
        kept = self._cache.get(self._key(path))
        return None if kept is None else Heard(SoundFacts(**kept[1]), kept[0])

    def _keep(self, path: Path, heard: Heard) -> None:
        """Keeps what was heard, unless the file changed meanwhile."""
        if heard.facts is not None and path in self.hashes and self._files.get(path) == self.hashes[path]:
            self._cache.keep(self._key(path), heard.rows, asdict(heard.facts))

    def _key(self, path: Path) -> str:
        return f"{self.hashes[path]}{path.suffix.lower()}"


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
