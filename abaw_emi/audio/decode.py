"""Sound files and sound tracks, decoded: mono, at the file's own sampling rate.

One decoder for all: FFmpeg's libraries, which PyAV's wheels bring along. libsndfile reads MP3 faster (550
against 290 files of 7 s a second, measured), but it cuts a variable-rate MP3 without a Xing header at an
estimated length without a word (716,832 of 961,344 samples), ends a damaged Ogg in the same way, and
libmpg123 in it writes to stderr past Python.

Only the part asked for is decoded, and only that part is checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer

from abaw_emi.audio.formats import Kind, declared_seconds, is_complete, sniff
from abaw_emi.core.errors import ClipError, Problem, UsageError

Waveform = npt.NDArray[np.float32]

DEMUXERS = {
    Kind.MP3: "mp3",
    Kind.WAV: "wav",
    Kind.FLAC: "flac",
    Kind.OGG: "ogg",
    Kind.MP4: "mov",
    Kind.MATROSKA: "matroska",
}
"""FFmpeg's demuxer of each kind, named so that it does not guess another one."""

HOLE_SECONDS = 0.25
"""Time that may be missing between a track's time stamps before there is a warning."""

COPY_AGAIN = "copy or download it again"


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


def decode(path: Path, max_seconds: float) -> Decoded:
    """The first `max_seconds` of a sound file, or of the first sound track of a container.

    Raises:
        ClipError: the file is missing, unreadable, empty, of another kind than its name says, damaged or
            truncated within the part asked for, or holds no sound, or samples that are not numbers.
        UsageError: `max_seconds` is not a positive number.
    """
    if not (max_seconds > 0 and math.isfinite(max_seconds)):
        raise UsageError(Problem("max_seconds", f"is {max_seconds}", "a positive number of seconds"))
    sniffed = sniff(path)
    kind = sniffed.kind

    def problem(found: str, expected: str) -> ClipError:
        return ClipError(Problem(str(path), found, expected, COPY_AGAIN))

    try:
        # An absolute path: "a:b.mp4" would be read as a protocol. Tags may hold anything.
        container = av.open(str(path.absolute()), format=DEMUXERS[kind], metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise problem("cannot be opened: it is damaged or truncated", f"whole {kind} data") from error
    with container:
        if not container.streams.audio:
            raise problem("has no sound track", f"{kind} data with sound")
        declared = declared_seconds(container, sniffed)
        track = _Track(path, container, max_seconds)
        try:
            track.read()
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, ClipError):
                raise
            # Whatever follows the last sample that an MP3 declares (tags, padding) is not sound.
            if kind is not Kind.MP3 or declared is None or track.seconds < declared:
                raise problem(f"is damaged after {track.seconds:.2f} s", f"undamaged {kind} data") from error
    if not track.count:
        raise problem("holds no samples", f"{kind} data with sound")
    if not track.full and not is_complete(path, kind, declared, track.seconds, track.end, track.sample_rate):
        raise problem(
            f"is truncated or damaged: it yields {track.seconds:.2f} s",
            "more, as it declares" if declared is None else f"{declared:.2f} s, as it declares",
        )
    waveform = track.waveform()
    wrong = np.flatnonzero(~np.isfinite(waveform))
    if wrong.size:
        raise problem(
            f"{wrong.size} samples are not numbers (NaN or infinite), the first is sample {wrong[0]}",
            "finite samples",
        )
    warnings = track.warnings(starts_at_zero=kind is Kind.OGG)
    return Decoded(waveform, track.sample_rate, track.channels, warnings)


class _Track:
    """The sound of a container, read packet by packet until there is enough of it.

    A file of 7 s has some 200 packets, so what is done for each of them is kept small.
    """

    def __init__(self, path: Path, container: InputContainer, max_seconds: float) -> None:
        self.path = path
        self.container = container
        self.max_seconds = max_seconds
        self.pieces: list[npt.NDArray[np.generic]] = []
        self.count = 0
        """Samples per channel that were decoded."""
        self.full = False
        """Whether `max_seconds` were reached, so that the file's end was not looked at."""
        self.end = 0.0
        """The latest time stamp of the tracks that tell the declared length, in s."""
        self.first: av.AudioFrame | None = None
        self.last: av.AudioFrame | None = None

    @property
    def sample_rate(self) -> int:
        return self.first.sample_rate if self.first else 0

    @property
    def channels(self) -> int:
        return self.first.layout.nb_channels if self.first else 0

    @property
    def seconds(self) -> float:
        return self.count / self.sample_rate if self.first else 0.0

    def read(self) -> None:
        """Decodes until there are `max_seconds`, or to the end of the file.

        Raises:
            av.error.FFmpegError: the data is damaged.
            ClipError: the sampling rate, or the sample format or channels, change on the way.
        """
        sound = self.container.streams.audio[0]
        ends: dict[int, int] = {}  # per stream, in its own time base
        wanted = math.inf
        try:
            for packet in self.container.demux():
                index = packet.stream_index
                if packet.pts is not None:
                    ends[index] = max(ends.get(index, 0), packet.pts + (packet.duration or 0))
                if index != sound.index:
                    continue
                for frame in packet.decode():
                    assert isinstance(frame, av.AudioFrame)
                    if self.first is None:
                        self.first = frame
                        wanted = math.ceil(self.max_seconds * frame.sample_rate)
                    elif not _alike(frame, self.first):
                        raise ClipError(
                            Problem(
                                str(self.path),
                                f"is {_form(frame)} after {self.seconds:.2f} s",
                                f"{_form(self.first)}, as it begins",
                                "convert it",
                            )
                        )
                    self.last = frame
                    self.pieces.append(frame.to_ndarray())
                    self.count += frame.samples
                if self.count >= wanted:
                    self.full = True
                    return
        finally:
            # WebM and Matroska declare the length of the longest track, the others that of the sound.
            tracks = [sound] if sound.duration else list(self.container.streams)
            self.end = max(
                (float(ends[t.index] * t.time_base) for t in tracks if t.index in ends and t.time_base),
                default=0.0,
            )

    def waveform(self) -> Waveform:
        """float32 (T,): the mean over the channels, cut to `max_seconds`.

        Not FFmpeg's own downmix, which adds the channels up (gain 1.41 where they agree, measured).
        """
        assert self.first is not None
        samples = np.concatenate(self.pieces, axis=1)  # planar (C, T), packed (1, T * C)
        if not self.first.format.is_planar:
            samples = samples.reshape(-1, len(self.first.layout.channels)).T  # (C, T)
        samples = samples[:, : math.ceil(self.max_seconds * self.sample_rate)]
        mean = samples.mean(axis=0, dtype=np.float64 if samples.dtype.kind in "iu" else None)
        if samples.dtype == np.uint8:
            mean = (mean - 128) / 128
        elif samples.dtype.kind == "i":
            mean /= 2.0 ** (8 * samples.dtype.itemsize - 1)
        return np.asarray(mean, dtype=np.float32)

    def warnings(self, *, starts_at_zero: bool) -> tuple[Problem, ...]:
        """A warning where the time stamps leave holes: the sound is then shorter than the recording.

        A container's sound may begin after its video. An Ogg file's begins at zero: a later first time
        stamp means that damaged pages were passed over.
        """
        assert self.first is not None
        assert self.last is not None
        if self.first.time is None or self.last.time is None:
            return ()
        start = 0.0 if starts_at_zero else self.first.time
        hole = self.last.time + self.last.samples / self.sample_rate - start - self.seconds
        if hole <= HOLE_SECONDS:
            return ()
        return (
            Problem(
                str(self.path),
                f"{hole:.2f} s of its sound are missing on the way (its time stamps jump)",
                "sound without holes",
            ),
        )


def _alike(frame: av.AudioFrame, other: av.AudioFrame) -> bool:
    return (
        frame.sample_rate == other.sample_rate
        and frame.format.name == other.format.name
        and frame.layout.nb_channels == other.layout.nb_channels
    )


def _form(frame: av.AudioFrame) -> str:
    return f"{frame.layout.nb_channels} x {frame.sample_rate} Hz {frame.format.name}"
