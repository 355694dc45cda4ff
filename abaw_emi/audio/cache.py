"""The cache of decoded sound: no file is decoded twice, and waveforms stay on disk.

It is a cache of files, not of clips: an entry's key is the file's own content (SHA-256, and the suffix that
says how to read it) and the length that it was cut to. A data folder may move, its files may be renamed
or changed, a video may take a sound file's place: each finds what belongs to it. A file that cannot be
read is never kept: it is tried, and reported, each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import soxr

from abaw_emi.audio import clips
from abaw_emi.audio.clips import Clips, Fallback, Sound, measure_waveform, read_sound
from abaw_emi.core import constants
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import Cache, CachedArray, Record
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.errors import ClipError, Problem
from abaw_emi.core.hashing import FileHashes
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles

DECODER = 2
"""Raised whenever `clips.read_sound` returns something else for the same file."""

VERSIONS = f"av{av.__version__}-ffmpeg{av.ffmpeg_version_info}-soxr{soxr.__version__}-numpy{np.__version__}"
"""Of everything else that shapes the samples; numpy computes their mean and variance."""

_SHOWN_WARNINGS = 20
"""Warnings about readable clips that are printed; a third of the test clips may have no sound file."""


class ClipCache:
    """Reads clips, each file at most once.

    Args:
        reporter: Shows how far things are, and receives warnings.
        folder: Where caches lie; `cache_folder()` if not given.

    Attributes:
        decoded: how many files were decoded, and not found.
    """

    def __init__(self, reporter: Reporter | None = None, folder: Path | None = None) -> None:
        self.decoded = 0
        self._reporter = reporter or Reporter(quiet=True)
        self._cache = Cache(f"sound-{DECODER}-{VERSIONS}", self._reporter, folder)
        self._hashes = FileHashes(self._cache.folder / "files.json")

    def read_clips(
        self,
        filenames: Sequence[str],
        files: Mapping[str, ClipFiles],
        *,
        max_seconds: float = constants.MAX_SECONDS,
    ) -> Clips:
        """What `clips.read_clips` returns, to the bit, but with the waveforms on disk.

        A cache that cannot be written is no error: the clips are then in memory.
        """
        try:
            return clips.read_clips(
                filenames,
                files,
                max_seconds=max_seconds,
                progress=lambda names: self._reporter.track(names, "reading clips", len(filenames)),
                read=self._read,
            )
        finally:
            self._hashes.save()

    def _read(self, source: Path, max_seconds: float) -> Sound:
        """The sound of a file, from the cache if it is there, and kept there if it is not."""
        source_hash = self._hashes.get(source)
        if source_hash is None:
            return read_sound(source, max_seconds)  # which says what is wrong with it
        key = f"{source_hash}{source.suffix.lower()}:{float(max_seconds)}"
        cached = self._cache.cached(key, partial(self._decode, source, source_hash, max_seconds))
        return _unpack(source, source_hash, cached)

    def _decode(self, source: Path, source_hash: str, max_seconds: float) -> tuple[Float32, Record]:
        sound = read_sound(source, max_seconds)
        if sound.source_hash != source_hash:
            raise ClipError(Problem(str(source), "changed while it was in use", next_step="start again"))
        self.decoded += 1
        assert isinstance(sound.array, np.ndarray)
        return sound.array, {  # no paths, since files move
            "moments": [float(moment) for moment in measure_waveform(sound.array)],
            "silent": sound.silent,
            "warnings": [[problem.found, problem.expected, problem.next_step] for problem in sound.warnings],
        }


def _unpack(source: Path, source_hash: str, cached: CachedArray) -> Sound:
    mean, variance = map(np.float32, cached.record["moments"])
    warnings = tuple(Problem(str(source), *texts) for texts in cached.record["warnings"])
    return Sound(source, source_hash, cached, (mean, variance), cached.record["silent"], warnings)


def pack_fallbacks(clips: Clips) -> dict[str, list[str]]:
    """Ranges of the ids that were read from video, by what was wrong: sound file "missing" or "broken"."""
    causes: tuple[Fallback, ...] = ("missing", "broken")
    return {cause: pack_ids(clips.fallbacks(cause)) for cause in causes if clips.fallbacks(cause)}


def read_split_clips(
    data: DataFolder, ids: Sequence[str], max_seconds: float, on_bad: OnBadClip, reporter: Reporter
) -> Clips:
    """The clips of `ids`, from the cache; reports how many were skipped, read from video, or silent.

    Raises:
        ClipError: with `on_bad="error"`, every problem of every clip that cannot be read.
    """
    cache = ClipCache(reporter)
    clips = cache.read_clips(ids, data.find_files(ids), max_seconds=max_seconds)
    misplaced = data.find_misplaced(clips.skipped)
    if clips.skipped and on_bad == "error":
        raise ClipError([*clips.problems, *misplaced])
    reporter.warn(clips.warnings, shown=_SHOWN_WARNINGS)
    reporter.warn([*clips.problems, *misplaced])
    seconds = sum(clip.samples for clip in clips.clips) / constants.SAMPLE_RATE
    text = f"{len(clips.clips):,} clips, {seconds / 3600:.2f} h"
    if cache.decoded:
        text += f" ({cache.decoded:,} decoded, {len(clips.clips) - cache.decoded:,} from the cache)"
    counted = {
        "skipped": len(clips.skipped),
        "read from video, no sound file": len(clips.fallbacks("missing")),
        "read from video, sound file broken": len(clips.fallbacks("broken")),
        "silent": clips.silent,
    }
    reporter.say(text + "".join(f"; {count:,} {what}" for what, count in counted.items() if count))
    return clips
