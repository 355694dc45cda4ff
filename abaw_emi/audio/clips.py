"""Clips: mono waveforms at the encoder's sampling rate, cut to the length that the model reads.

The sound file comes first; where it is missing or broken, the sound track of the video is used, with a
warning. Nothing else replaces sound: a clip without any is an error, or is left out and listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from abaw_emi.audio.decode import Waveform, blame, decode
from abaw_emi.core import constants
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.errors import ClipError, Problem, collect_errors, show_first
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.ids import pack_ids, summarise
from abaw_emi.data.layout import ClipFiles

SILENT_RANGE = 2e-4
"""A clip whose samples span less than this (of 2.0) is silent: +-1e-4 is -80 dB of full scale."""

Fallback = Literal["missing", "broken"]
"""Why the video's sound track was read: there is no sound file, or it cannot be used."""


_SHOWN_RANGES = 20
"""Ranges of ids that a warning names: a third of the test clips may have no sound file."""


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """What one file sounds like, in memory or in a cache."""

    source: Path
    source_hash: str
    """SHA-256 of the file, in hexadecimal digits; empty for a sound that was made."""
    array: Waveform | CachedArray
    """float32 (T,) at `constants.SAMPLE_RATE`, T >= `constants.MIN_SAMPLES`."""
    moments: tuple[np.float32, np.float32] | None = None
    """Mean and variance of a waveform that is not in memory."""
    silent: bool = False
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The sound of one clip."""

    filename: str
    """Id as the label files hold it: "00042"."""
    sound: Sound
    fallback: Fallback | None = None
    warnings: tuple[Problem, ...] = ()
    """What is wrong with the files of the clip, those of its sound included."""

    @classmethod
    def from_waveform(cls, filename: str, waveform: Waveform, source: Path = Path()) -> Clip:
        """A clip of a waveform (T,) that was made, or changed, in memory."""
        return cls(filename, Sound(source, "", waveform))

    @property
    def source(self) -> Path:
        """The file that it was read from."""
        return self.sound.source

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file that it was read from, in hexadecimal digits."""
        return self.sound.source_hash

    @property
    def silent(self) -> bool:
        """Whether its samples span less than `SILENT_RANGE`."""
        return self.sound.silent

    @property
    def samples(self) -> int:
        """The length T."""
        return self.sound.array.shape[0]

    @property
    def waveform(self) -> Waveform:
        """float32 (T,) at `constants.SAMPLE_RATE`; read from the cache each time if the clip lies there."""
        array = self.sound.array
        return array.read() if isinstance(array, CachedArray) else array

    @property
    def moments(self) -> tuple[np.float32, np.float32]:
        """Mean and variance of the waveform, as numpy computes them in float32."""
        return self.sound.moments or measure_waveform(self.waveform)

    def read_into(self, out: Waveform) -> None:
        """Fills `out`, float32 (T,) and contiguous, with the waveform; errors as `CachedArray.read_into`."""
        array = self.sound.array
        if isinstance(array, CachedArray):
            array.read_into(out)
        else:
            out[:] = array


def measure_waveform(waveform: Waveform) -> tuple[np.float32, np.float32]:
    """Mean and variance of a waveform (T,)."""
    return waveform.mean(), waveform.var()


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """The clips that could be read, in the order asked for, and what is to be said about the others."""

    clips: tuple[Clip, ...]
    skipped: Mapping[str, tuple[Problem, ...]]
    """Why each clip that was left out was left out, by id."""

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Every warning about the clips that were read; one for all that have no sound file."""
        missing = self.fallbacks("missing")
        shown = show_first(pack_ids(missing), _SHOWN_RANGES, "... (all in the provenance record)")
        summary = Problem(f"{len(missing):,} clips", f"no sound file, read from their videos: {shown}")
        others = tuple(problem for clip in self.clips for problem in clip.warnings)
        return (summary, *others) if missing else others

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem of a clip that was left out."""
        return tuple(summarise(self.skipped))

    @property
    def silent(self) -> int:
        """How many clips are silent."""
        return sum(clip.silent for clip in self.clips)

    def fallbacks(self, cause: Fallback) -> list[str]:
        """Ids of the clips that were read from their video because their sound file is `cause`."""
        return [clip.filename for clip in self.clips if clip.fallback == cause]


def read_sound(source: Path, max_seconds: float) -> Sound:
    """The first `max_seconds` of a sound or video file, mono, at `constants.SAMPLE_RATE`, in memory.

    Whoever changes what comes back for a file raises `cache.DECODER`, so that no cache keeps what it was.

    Other rates are resampled by soxr's HQ quality: measured on 7 s, it is as fast as any (1 ms), keeps
    7 kHz to 0.01 dB and lets 8.3 kHz leak at -138 dB; torchaudio's default is at -1.8 dB and -9 dB, and
    VHQ costs twice the time for nothing audible at 16 kHz.

    Raises:
        ClipError: the file cannot be read (`decode.decode`), or is too short.
    """
    with blame(source):
        return _read_sound(source, max_seconds)


def _read_sound(source: Path, max_seconds: float) -> Sound:
    decoded = decode(source, max_seconds)
    sound = make_sound(decoded.waveform, decoded.sample_rate, max_seconds, source)
    return replace(sound, source_hash=hash_file(source), warnings=decoded.warnings + sound.warnings)


def make_sound(waveform: Waveform, sample_rate: int, max_seconds: float, source: Path) -> Sound:
    """The first `max_seconds` of a waveform (T,), at `constants.SAMPLE_RATE`; `source` is for messages.

    Raises:
        ClipError: it is too short.
    """
    waveform = _resample(waveform, sample_rate)[: round(max_seconds * constants.SAMPLE_RATE)]
    if waveform.size < constants.MIN_SAMPLES:
        raise ClipError(
            Problem(
                str(source),
                f"is too short: {waveform.size} samples at {constants.SAMPLE_RATE} Hz",
                f"at least {constants.MIN_SAMPLES}, the encoder's first frame",
            )
        )
    if waveform.base is not None:
        waveform = waveform.copy()  # a view would keep the longer buffer alive
    silent = float(np.ptp(waveform)) < SILENT_RANGE
    warnings = (Problem(str(source), "is silent"),) if silent else ()
    return Sound(source, "", waveform, None, silent, warnings)


def _resample(waveform: Waveform, sample_rate: int) -> Waveform:
    if sample_rate == constants.SAMPLE_RATE:
        return waveform
    return np.asarray(soxr.resample(waveform, sample_rate, constants.SAMPLE_RATE, quality="HQ"), np.float32)


def read_clip(
    files: ClipFiles,
    max_seconds: float = constants.MAX_SECONDS,
    read: Callable[[Path, float], Sound] = read_sound,
) -> Clip:
    """A clip, from its sound file or else from its video.

    Args:
        files: Where the two lie.
        max_seconds: Length to which it is cut.
        read: Reads one file, as `read_sound` does.

    Raises:
        ClipError: neither the sound file nor the video gives `constants.MIN_SAMPLES` samples; it lists why
            for each of the two.
    """
    if files.audio is None and files.video is None:
        step = "copy it into audio/ or raw/ of the data folder; --on-bad-clip skip leaves such clips out"
        raise ClipError(
            Problem(f"clip {files.filename}", "has neither a sound file nor a video", "one of the two", step)
        )
    problems: list[Problem] = []
    if files.audio is not None:
        with collect_errors(problems):
            sound = read(files.audio, max_seconds)
            return Clip(files.filename, sound, None, sound.warnings)
    if files.video is not None:
        fallback: Fallback = "broken" if problems else "missing"
        instead = f"read {files.video} instead"
        warnings = tuple(
            Problem(problem.where, problem.found, problem.expected, instead) for problem in problems
        )
        with collect_errors(problems):
            sound = read(files.video, max_seconds)
            return Clip(files.filename, sound, fallback, warnings + sound.warnings)
    raise ClipError(problems)


def read_clips(
    filenames: Sequence[str],
    files: Mapping[str, ClipFiles],
    *,
    max_seconds: float = constants.MAX_SECONDS,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
    read: Callable[[Path, float], Sound] = read_sound,
) -> Clips:
    """The clips of these ids, in this order, read one after the other.

    No threads: 1, 2 and 4 of them read the same 190 MP3s or 80 MP4s a second (measured on 2 shared cores).

    Args:
        filenames: Ids, such as a label table's `Filename` column.
        files: Where each clip lies (`layout.find_clips`).
        max_seconds: Length to which clips are cut.
        progress: Wraps the ids and yields one whenever the next clip is wanted, as `rich` and tqdm do.
        read: Reads one file, as `read_sound` does.

    Returns:
        The clips that could be read; of the others, every problem.
    """
    clips: list[Clip] = []
    skipped: dict[str, tuple[Problem, ...]] = {}
    for filename in progress(filenames):
        try:
            clips.append(read_clip(files.get(filename, ClipFiles(filename=filename)), max_seconds, read))
        except ClipError as error:
            skipped[filename] = error.problems
    return Clips(tuple(clips), skipped)
