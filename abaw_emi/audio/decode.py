"""Sound files and sound tracks, decoded: mono, at the file's own sampling rate.

One decoder for all: FFmpeg's libraries, which PyAV's wheels bring along. libsndfile reads MP3 faster (550
against 290 files of 7 s a second, measured), but it cuts a variable-rate MP3 without a Xing header at an
estimated length without a word (716,832 of 961,344 samples), ends a damaged Ogg in the same way, and
libmpg123 in it writes to stderr past Python.

Only the part asked for is decoded, and only that part is checked. Whatever a decoder raises for a file is
that file's problem, by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from abaw_emi.audio.formats import COPY_AGAIN, Sniffed, sniff
from abaw_emi.audio.length import check_end, declared_seconds, is_cut_short
from abaw_emi.audio.track import Track
from abaw_emi.core.errors import ClipError, EmiError, Problem, UsageError
from abaw_emi.data.suffixes import Kind

Waveform = npt.NDArray[np.float32]

DEMUXERS = {
    Kind.MP3: "mp3",
    Kind.MPEG_AUDIO: "mp3",
    Kind.WAV: "wav",
    Kind.WAVE64: "w64",
    Kind.FLAC: "flac",
    Kind.OGG: "ogg",
    Kind.MP4: "mov",
    Kind.MATROSKA: "matroska",
    Kind.AAC: "aac",
    Kind.ASF: "asf",
    Kind.AVI: "avi",
    Kind.AIFF: "aiff",
    Kind.CAF: "caf",
    Kind.AU: "au",
    Kind.AMR: "amr",
    Kind.AC3: "ac3",
    Kind.DTS: "dts",
    Kind.WAVPACK: "wv",
    Kind.TTA: "tta",
    Kind.APE: "ape",
    Kind.TAK: "tak",
    Kind.MUSEPACK: "mpc",
    Kind.SPHERE: "nistsphere",
    Kind.FLV: "flv",
    Kind.REALMEDIA: "rm",
    Kind.MPEG_TS: "mpegts",
    Kind.MPEG_PS: "mpeg",
}
"""FFmpeg's demuxer of each kind, named so that it does not guess another one."""

_HEADER_ONLY = {"probesize": "4096", "analyzeduration": "1"}
"""FFmpeg decodes up to 5 s of a file to learn what is in it; its length stands in the header."""

LOUDEST = 1e12
"""Samples beyond it (full scale is 1) are no sound, and their squares would not fit into a float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The beginning of a sound file or sound track."""

    waveform: Waveform
    """float32 (T,), mono: the mean over the channels. T is at least 1, all samples are finite."""
    sample_rate: int
    """In Hz, the file's own."""
    channels: int = 1
    """How many there are in the file."""
    warnings: tuple[Problem, ...] = ()
    holes: str = ""
    """What is missing on the way, one of the warnings; "" where nothing is."""
    mixed_level: float = 1.0
    """RMS of the waveform, over that of the channels: near 0 where they cancel each other."""


@contextmanager
def blame(path: Path) -> Iterator[None]:
    """Makes whatever the block raises a problem of this file; numpy's warnings say nothing.

    Raises:
        ClipError: for every exception but `EmiError`, which passes.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except EmiError:
        raise
    except Exception as error:
        found = f"cannot be decoded ({type(error).__name__}: {error})"
        raise ClipError(Problem(str(path), found, "undamaged data", COPY_AGAIN)) from error


def decode(path: Path, max_seconds: float) -> Decoded:
    """The first `max_seconds` of a sound file, or of one sound track of a container.

    Of several tracks it is the one that is marked as the default, or else the one that FFmpeg prefers.

    Raises:
        ClipError: the file is missing, unreadable, empty, of another kind than its name says, damaged or
            truncated within the part asked for, or holds no sound, or samples that are not numbers.
        UsageError: `max_seconds` is not a positive number.
    """
    if not (max_seconds > 0 and math.isfinite(max_seconds)):
        raise UsageError(Problem("max_seconds", f"is {max_seconds}", "a positive number of seconds"))
    with blame(path), _open(path) as (sniffed, container, sound):
        return _read(path, sniffed, container, sound, max_seconds)


def read_declared_seconds(path: Path) -> float | None:
    """The length that a file's header declares, or its bit rate lets expect, in s, without decoding it.

    Raises:
        ClipError: the file cannot be opened, or holds no sound.
    """
    with blame(path), _open(path, _HEADER_ONLY) as (sniffed, container, sound):
        seconds = declared_seconds(container, sound, sniffed)
        if seconds is None and container.duration:
            seconds = container.duration / av.time_base
        return seconds or None


def open_media(path: Path, kind: Kind, options: dict[str, str] | None = None) -> InputContainer:
    """A media file's container, whatever its name and its tags hold; `options` are FFmpeg's."""
    # PyAV 19 reads tags of any bytes and has no such argument any more.
    tags: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    # An absolute path: "a:b.mp4" would be read as a protocol.
    container: InputContainer = av.open(
        str(path.absolute()), format=DEMUXERS[kind], container_options=options or {}, **tags
    )
    return container


@contextmanager
def _open(
    path: Path, options: dict[str, str] | None = None
) -> Iterator[tuple[Sniffed, InputContainer, AudioStream]]:
    """A file's container, and the sound track of it that is read."""
    sniffed = sniff(path)
    try:
        container = open_media(path, sniffed.kind, options)
    except (av.error.FFmpegError, ValueError) as error:
        found = "cannot be opened: it is damaged or truncated"
        raise ClipError(Problem(str(path), found, f"whole {sniffed.kind} data", COPY_AGAIN)) from error
    with container:
        if not container.streams.audio:
            step = COPY_AGAIN if is_cut_short(path, sniffed.kind) else ""
            raise ClipError(Problem(str(path), "has no sound track", f"{sniffed.kind} data with sound", step))
        sound = choose_track(container)
        if sound.codec_context is None:
            found = "its sound is in a format that FFmpeg does not know"
            raise ClipError(Problem(str(path), found, next_step="convert it"))
        yield sniffed, container, sound


def choose_track(container: InputContainer) -> AudioStream:
    """The sound track that is marked as the default, or else the one that FFmpeg prefers.

    Tracks that FFmpeg cannot decode (spatial sound of phones, beside stereo) only come last.
    """
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    tracks = tracks or list(container.streams.audio)
    tracks = [track for track in tracks if track.disposition & Disposition.default] or tracks
    best = container.streams.best("audio")  # MP4 marks all that are switched on as the default
    return best if best in tracks else tracks[0]


def _read(
    path: Path, sniffed: Sniffed, container: InputContainer, sound: AudioStream, max_seconds: float
) -> Decoded:
    kind = sniffed.kind

    def problem(found: str, expected: str) -> ClipError:
        return ClipError(Problem(str(path), found, expected, COPY_AGAIN))

    declared = declared_seconds(container, sound, sniffed)
    track = Track(path, sniffed, container, sound, declared, max_seconds)
    try:
        track.read()
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, EmiError):
            raise
        raise problem(f"is damaged after {track.seconds:.2f} s", f"undamaged {kind} data") from error
    if not track.count:
        raise problem("holds no samples", f"{kind} data with sound")
    remarks = [track.remark] if track.remark else []
    if not track.full:
        ending = check_end(path, kind, declared, track.found)
        if not ending.whole:
            raise problem(
                f"is truncated or damaged: it yields {track.seconds:.2f} s",
                "more, as it declares" if declared is None else f"{declared:.2f} s, as it declares",
            )
        remarks += [ending.warning] if ending.warning else []
    waveform = track.waveform()
    wrong = np.flatnonzero(~(np.abs(waveform) <= LOUDEST))
    if wrong.size:
        raise problem(
            f"{wrong.size} samples are not numbers (NaN, infinite or beyond {LOUDEST:g}), "
            f"the first is sample {wrong[0]}",
            "finite samples",
        )
    if len(container.streams.audio) > 1:
        number = container.streams.audio.index(sound) + 1
        remarks.append(f"has {len(container.streams.audio)} sound tracks, of which number {number} is read")
    holes = track.find_holes()
    warnings = [Problem(str(path), remark) for remark in remarks]
    if holes:
        warnings.append(Problem(str(path), holes, "sound without holes"))
    return Decoded(waveform, track.sample_rate, track.channels, tuple(warnings), holes, track.mixed_level)
