"""The cache of decoded sound: no file is decoded twice, and waveforms stay on disk.

It is a cache of files, not of clips: an entry's key is the file's own content (SHA-256, and the suffix that
says how to read it) and the length that it was cut to. A data folder may move, its files may be renamed
or changed, a video may take a sound file's place: each finds what belongs to it. A file that cannot be
read is never kept: it is tried, and reported, each time.

The folder's name holds the versions of all that shapes the samples, so that it can be seen which are old.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import platformdirs
import soxr

from abaw_emi.audio import clips
from abaw_emi.audio.clips import Clips, Sound, measure, read_sound
from abaw_emi.core import constants
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.datafile import StoredArray
from abaw_emi.core.errors import Problem
from abaw_emi.core.hashing import FileHashes, look_at
from abaw_emi.core.keeping import CACHE_VARIABLE, Keeper
from abaw_emi.core.progress import Track
from abaw_emi.core.store import ArrayStore
from abaw_emi.data.layout import ClipFiles

DECODER = 2
"""Raised whenever `clips.read_sound` returns something else for the same file."""


def cache_folder() -> Path:
    """The folder of all caches, `$ABAW_EMI_CACHE` or the user's; safe to delete at any time."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("abaw-emi", appauthor=False))


def _name_decoder() -> str:
    """Everything that shapes the samples; numpy computes their mean and variance.

    >>> _name_decoder().startswith("sound-2-av")
    True
    """
    versions = f"av{av.__version__}-ffmpeg{av.ffmpeg_version_info}-soxr{soxr.__version__}"
    return re.sub(r"[^\w.-]", "_", f"sound-{DECODER}-{versions}-numpy{np.__version__}")


class ClipCache:
    """Reads clips, each file at most once.

    Args:
        folder: Where caches lie; `cache_folder()` if not given.
        say: Told, in a line, what a person waits for.

    Attributes:
        decoded: how many files were decoded, and not found.
    """

    def __init__(self, folder: Path | None = None, say: Callable[[str], object] = lambda line: None) -> None:
        self.store = ArrayStore(folder or cache_folder(), _name_decoder())
        self.decoded = 0
        self._hashes = FileHashes(self.store.folder / "files.json")
        self._keeper = Keeper(self.store, say, "decodes clips")

    @property
    def warnings(self) -> list[Problem]:
        """What was damaged in the cache, and why it cannot be written."""
        return self._keeper.warnings

    def read_clips(
        self,
        filenames: Sequence[str],
        files: Mapping[str, ClipFiles],
        *,
        max_seconds: float = constants.MAX_SECONDS,
        on_bad: OnBadClip = "error",
        track: Track = lambda items, description, total: items,
    ) -> Clips:
        """What `clips.read_clips` returns, to the bit, but with the waveforms on disk.

        A cache that cannot be written is no error: the clips are then held in memory.

        Raises:
            ClipError: with `on_bad="error"`, every problem of every clip that could not be read.
        """
        count = missing = len(filenames)
        if len(self.store):
            missing -= self._verify(track(filenames, "verifying", count), files, max_seconds)
        try:
            return clips.read_clips(
                filenames,
                files,
                max_seconds=max_seconds,
                on_bad=on_bad,
                progress=lambda names: track(names, "reading clips", count) if missing else names,
                read=self._read,
            )
        finally:
            self._keeper.stop()
            self._hashes.save()

    def _verify(self, filenames: Iterable[str], files: Mapping[str, ClipFiles], max_seconds: float) -> int:
        """How many of the clips are there and whole; those that are there are read once."""
        found = 0
        for filename in filenames:
            clip = files.get(filename, ClipFiles(filename=filename))
            source = clip.audio or clip.video
            found += source is not None and self._find(source, max_seconds) is not None
        return found

    def _read(self, source: Path, max_seconds: float) -> Sound:
        """The sound of a file, from the cache if it is there, and kept there if it is not."""
        found = self._find(source, max_seconds)
        if found is not None:
            return found
        before = look_at(source)
        sound = read_sound(source, max_seconds)
        self.decoded += 1
        if before is None or before != look_at(source):
            return sound  # it changed while it was read: who knows what of it was read
        self._hashes.remember(source, before, sound.source_hash)
        return self._keep(sound, max_seconds)

    def _find(self, source: Path, max_seconds: float) -> Sound | None:
        source_hash = self._hashes.get(source)
        if source_hash is None:
            return None
        stored = self.store.get(_make_key(source, source_hash, max_seconds))
        return None if stored is None else _unpack(source, source_hash, stored)

    def _keep(self, sound: Sound, max_seconds: float) -> Sound:
        """The same sound, on disk if it can be written there."""
        assert isinstance(sound.array, np.ndarray)
        key = _make_key(sound.source, sound.source_hash, max_seconds)
        stored = self._keeper.keep(key, sound.array, _pack(sound))
        return sound if stored is None else _unpack(sound.source, sound.source_hash, stored)


def _make_key(source: Path, source_hash: str, max_seconds: float) -> str:
    return f"{source_hash}{source.suffix.lower()}:{float(max_seconds)}"


def _pack(sound: Sound) -> dict[str, Any]:
    """What is kept of a sound beside its samples; paths are not, since files move."""
    assert isinstance(sound.array, np.ndarray)
    return {
        "moments": [float(moment) for moment in measure(sound.array)],
        "silent": sound.silent,
        "warnings": [[problem.found, problem.expected, problem.next_step] for problem in sound.warnings],
    }


def _unpack(source: Path, source_hash: str, stored: StoredArray) -> Sound:
    mean, variance = map(np.float32, stored.record["moments"])
    warnings = tuple(Problem(str(source), *texts) for texts in stored.record["warnings"])
    return Sound(source, source_hash, stored, (mean, variance), stored.record["silent"], warnings)
