"""Probes many files, in several processes, and keeps the results: a second audit takes seconds.

They are kept by the file's content, as in `cache`. A file that cannot be used is decoded again
each time. Whatever ends an audit, what was probed up to then is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from abaw_emi.audio.cache import VERSIONS
from abaw_emi.audit.probe import VERSION, ProbeResult, SoundProperties, probe_file
from abaw_emi.core.cache import Cache
from abaw_emi.core.errors import CorpusError, Problem
from abaw_emi.core.hashing import FileHashes
from abaw_emi.core.prefetch import count_cores
from abaw_emi.core.progress import Reporter, Track, track_nothing
from abaw_emi.core.signals import blocked_signals

WORTH_FILES = 800
"""Files from which on other processes are started: each takes a second of work to come up, and a file some
5 ms to be probed (both measured)."""

_MOST_WORKERS = 61
"""Windows waits for no more processes at once (Python's documentation of `ProcessPoolExecutor`)."""


class ProbeCache:
    """Listens to files, to each at most once.

    Args:
        reporter: Receives warnings about the cache.
        folder: Where caches lie; `cache_folder()` if not given.

    Attributes:
        decoded: how many files were decoded, and not found.
        hashes: SHA-256 of each file asked for, by path; without those that cannot be read.
    """

    def __init__(self, reporter: Reporter | None = None, folder: Path | None = None) -> None:
        self.decoded = 0
        self.hashes: dict[Path, str] = {}
        self._cache = Cache(f"facts-{VERSION}-{VERSIONS}", reporter, folder)
        self._files = FileHashes(self._cache.folder / "files.json")

    def probe(
        self, paths: Sequence[Path], *, jobs: int | None = None, track: Track = track_nothing
    ) -> dict[Path, ProbeResult]:
        """What each of these files sounds like.

        Args:
            paths: Of sound or video files.
            jobs: Processes that decode; by default one for each core where there is enough to do.
            track: Puts a bar over the files.

        Raises:
            CorpusError: processes cannot be started.
        """
        found: dict[Path, ProbeResult] = {}
        try:
            for path in track(paths, "reading files", len(paths)):
                file_hash = self._files.get(path)
                if file_hash is not None:
                    self.hashes[path] = file_hash
                    probed = self._find(path)
                    if probed is not None:
                        found[path] = probed
            missing = [path for path in paths if path not in found]
            if missing:
                enough = len(missing) >= WORTH_FILES
                found |= self._probe_missing(missing, jobs or (count_cores() if enough else 1), track)
        finally:
            self._files.save()
        return found

    def _probe_missing(self, paths: Sequence[Path], jobs: int, track: Track) -> dict[Path, ProbeResult]:
        found: dict[Path, ProbeResult] = {}
        with self._cache.lock():
            for path, probed in track(_probe_all(paths, jobs), "decoding", len(paths)):
                self.decoded += 1
                found[path] = probed
                self._keep(path, probed)
        return found

    def _find(self, path: Path) -> ProbeResult | None:
        kept = self._cache.get(self._key(path))
        return None if kept is None else ProbeResult(SoundProperties(**kept[1]), kept[0])

    def _keep(self, path: Path, probed: ProbeResult) -> None:
        """Keeps what was probed, unless the file changed meanwhile."""
        if probed.sound is not None and path in self.hashes and self._files.get(path) == self.hashes[path]:
            self._cache.keep(self._key(path), probed.rows, asdict(probed.sound))

    def _key(self, path: Path) -> str:
        return f"{self.hashes[path]}{path.suffix.lower()}"


def _probe_all(paths: Sequence[Path], jobs: int) -> Iterator[tuple[Path, ProbeResult]]:
    """Each path with what was probed, as soon as it was.

    A file that crashes the decoder takes the whole pool with it. Files are begun in order, so it is among
    the first that are not finished: each of these is decoded again in a process of its own.
    """
    if jobs <= 1 or not _can_start_processes():
        for path in paths:
            yield path, probe_file(path)
        return
    while paths:
        finished: set[Path] = set()
        with _workers(min(jobs, len(paths), _MOST_WORKERS)) as pool:
            running = _submit(pool, paths)
            for future in as_completed(running):
                path = running.pop(future)
                try:
                    probed = future.result()
                except BrokenProcessPool:
                    continue
                finished.add(path)
                yield path, probed
        paths = [path for path in paths if path not in finished]
        for path in paths[:jobs]:
            yield path, _probe_alone(path)
        paths = paths[jobs:]


def _can_start_processes() -> bool:
    """Whether several processes can work together: they need a semaphore, which a full /dev/shm denies."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (ImportError, NotImplementedError, OSError):
        return False
    return True


def _submit(pool: ProcessPoolExecutor, paths: Iterable[Path]) -> dict[Future[ProbeResult], Path]:
    running = {}
    with blocked_signals(), suppress(BrokenProcessPool):  # one may crash while others are submitted
        for path in paths:
            running[pool.submit(probe_file, path)] = path
    return running


def _probe_alone(path: Path) -> ProbeResult:
    with _workers(1) as pool:
        try:
            with blocked_signals():
                ready = pool.submit(int)
            ready.result()
        except BrokenProcessPool as error:
            found, step = "its processes end before they have read a file", "try again with --jobs 1"
            raise CorpusError(Problem("audit", found, next_step=step)) from error
        try:
            return pool.submit(probe_file, path).result()
        except BrokenProcessPool:
            return ProbeResult(None, np.zeros(0, np.uint32), "damaged", "crashes the decoder")


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that are gone on leaving, however it is left."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start)
    try:
        yield pool
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
