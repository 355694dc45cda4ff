"""One sound track of a container, decoded packet by packet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from abaw_emi.audio.formats import Sniffed
from abaw_emi.audio.length import Extent, ends_with_empty_packet, find_first_sound_page
from abaw_emi.audio.mixer import Mixer
from abaw_emi.audio.tags import FRAME_MASKS, find_frame, skip_tags
from abaw_emi.core.errors import ClipError, Problem
from abaw_emi.data.suffixes import Kind

HOLE_SECONDS = 0.25
"""Time that may be missing between a track's time stamps before there is a warning."""

MOST_SAMPLES = 100_000_000
"""Samples that are held of one file, 0.4 GB: 35 minutes at 48 kHz. A FLAC of silence fits into some kB."""

_PADDING = 1 / 16
"""Share of a file that zeros at its end may take without a warning, where nothing declares its length."""


class Track:
    """A sound track, read until there is enough of it.

    A file of 7 s has some 200 packets, so what is done for each of them is kept small.

    Args:
        path: the file.
        sniffed: what it is.
        container: opened.
        sound: the track.
        declared: the length that the file declares, in s, if it does.
        max_seconds: how much is wanted.

    Attributes:
        count: samples per channel that were decoded.
        full: whether `max_seconds` were reached, so that the file's end was not looked at.
        ended: whether the declared length is followed by what is no sound.
        remark: what is to be said of the file's end; "" where nothing is.
    """

    def __init__(
        self,
        path: Path,
        sniffed: Sniffed,
        container: InputContainer,
        sound: AudioStream,
        declared: float | None,
        max_seconds: float,
    ) -> None:
        self.path = path
        self.count = 0
        self.full = False
        self.ended = False
        self.remark = ""
        self._kind = sniffed.kind
        self._head = sniffed.head
        self._container = container
        self._sound = sound
        self._declared = declared
        self._max_seconds = max_seconds
        self._wanted = math.inf
        self._first: av.AudioFrame | None = None
        self._last: av.AudioFrame | None = None
        self._mixer = Mixer()
        self._begin: float | None = None
        self._end = 0.0
        self._position: int | None = None  # of the first packet, in bytes
        self._failed: tuple[float, int, av.error.FFmpegError] | None = None

    @property
    def sample_rate(self) -> int:
        """In Hz; 0 where nothing was decoded."""
        return self._first.sample_rate if self._first else 0

    @property
    def channels(self) -> int:
        """How many there are; 0 where nothing was decoded."""
        return self._first.layout.nb_channels if self._first else 0

    @property
    def seconds(self) -> float:
        """The length of what was decoded."""
        return self.count / self.sample_rate if self._first else 0.0

    @property
    def found(self) -> Extent:
        """What was read, for `check_end`."""
        return Extent(
            seconds=self.seconds,
            begin=max(0.0, self._begin or 0.0),
            end=self._end,
            sample_rate=self.sample_rate,
            has_holes=bool(self.find_holes()),
        )

    @property
    def mixed_level(self) -> float:
        """RMS of the mean over the channels, over the RMS of the channels: 1 for a single one, or silence."""
        return self._mixer.level

    def read(self) -> None:
        """Decodes until there are `max_seconds`, or to the end of the file.

        Raises:
            av.error.FFmpegError: the data is damaged.
            ClipError: the sampling rate, or the sample format or channels, change on the way; or there is
                too much to hold.
        """
        sound = self._sound
        ends: dict[int, int] = {}  # per stream, in its own time base
        try:
            for packet in self._demux():
                index = packet.stream.index  # stream_index is 0 in the packets that flush
                if packet.pts is not None:
                    ends[index] = max(ends.get(index, 0), packet.pts + (packet.duration or 0))
                # An empty packet ends the decoder's work, wherever it comes.
                if index != sound.index or not packet.size:
                    continue
                if self._begin is None and packet.pts is not None and packet.time_base:
                    self._begin = float(packet.pts * packet.time_base)
                if self._position is None:
                    self._position = packet.pos
                self._decode(packet)
                if self.full or self.ended:
                    return
            self._decode(None)
            self._check_tail()
        finally:
            # WebM and Matroska declare the length of the longest track, the others that of the sound.
            tracks = [sound] if sound.duration else list(self._container.streams)
            self._end = max(
                (float(ends[t.index] * t.time_base) for t in tracks if t.index in ends and t.time_base),
                default=0.0,
            )

    def _demux(self) -> Iterator[Packet[Any]]:
        """Every packet; FFmpeg calls an empty one at the end of an Ogg Opus file invalid.

        Raises:
            av.error.FFmpegError: other data is damaged.
        """
        try:
            yield from self._container.demux()
        except av.error.FFmpegError:
            if self._kind is not Kind.OGG or not ends_with_empty_packet(self.path):
                raise
            if any(packet.size for packet in self._container.demux()):
                raise

    def _decode(self, packet: Packet[Any] | None) -> None:
        try:
            frames = self._sound.decode(packet)
        except av.error.FFmpegError as error:
            if self._kind not in FRAME_MASKS or packet is None or packet.pos is None:
                raise
            self._failed = self._failed or (self.seconds, packet.pos, error)
            return
        if frames and self._failed:
            self._pass_tag()
        if not self.ended:
            for frame in frames:
                self._add(frame)

    def _add(self, frame: av.AudioFrame) -> None:
        if self._first is None:
            self._first = frame
            self._wanted = math.ceil(self._max_seconds * frame.sample_rate)
        elif not _are_alike(frame, self._first):
            found = f"is {_describe(frame)} after {self.seconds:.2f} s"
            raise ClipError(
                Problem(str(self.path), found, f"{_describe(self._first)}, as it begins", "convert it")
            )
        self._last = frame
        self._mixer.add(frame)
        self.count += frame.samples
        self.full = self.count >= self._wanted
        if self.count > MOST_SAMPLES:
            found = f"holds more than {MOST_SAMPLES:,} samples, at {self.sample_rate:,} Hz"
            raise ClipError(Problem(str(self.path), found, "fewer", "convert it to 16 kHz, or cut it"))

    def waveform(self) -> npt.NDArray[np.float32]:
        """float32 (T,): the mean over the channels, cut to `max_seconds`."""
        return self._mixer.waveform()[: math.ceil(self._max_seconds * self.sample_rate)]

    def _pass_tag(self) -> None:
        """Goes on behind a packet that failed, if it was nothing but tags between two files that were joined.

        Raises:
            av.error.FFmpegError: it was sound.
        """
        assert self._failed is not None
        seconds, position, error = self._failed
        content = self._read_from(position)
        behind = skip_tags(content)
        if len(behind) < len(content) and find_frame(self._kind, self._head, behind[:3]) == 0:
            self._failed = None
        elif self._declared is not None and seconds >= self._declared:
            self.ended = True
        else:
            raise error

    def _check_tail(self) -> None:
        """Looks at what failed, where nothing after it could be decoded: tags and padding are no damage.

        Raises:
            av.error.FFmpegError: there is a frame in it.
        """
        if self._failed is None:
            return
        seconds, position, error = self._failed
        if self._declared is not None and seconds >= self._declared:
            return
        content = self._read_from(position)
        behind = skip_tags(content)
        if find_frame(self._kind, self._head, behind) >= 0:
            raise error
        lost = len(behind) or len(content) - len(content.lstrip(b"\0"))
        if self._declared is None and (behind or lost > _PADDING * (position + len(content))):
            self.remark = f"{lost:,} bytes at its end are not sound: if they were, it is damaged there"

    def _read_from(self, position: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(position)
            return file.read()

    def find_holes(self) -> str:
        """What is to be said where the time stamps leave holes: the sound is then shorter than the recording.

        A container's sound may begin after its video. An Ogg file's begins at zero, or with the first page
        after its headers: a later one means that damaged pages were passed over.
        """
        first, last = self._first, self._last
        if first is None or last is None or first.time is None or last.time is None:
            return ""
        start = 0.0 if self._kind is Kind.OGG and self._passed_pages() else first.time
        hole = last.time + last.samples / self.sample_rate - start - self.seconds
        if hole <= HOLE_SECONDS:
            return ""
        if hole > max(self.seconds, 60):  # clocks are set, and counters start anywhere
            return f"its time stamps jump, by {hole:,.0f} s in all: whether sound is missing cannot be seen"
        return f"{hole:.2f} s of its sound are missing on the way (its time stamps jump)"

    def _passed_pages(self) -> bool:
        with self.path.open("rb") as file:
            return find_first_sound_page(file) != self._position


def _are_alike(frame: av.AudioFrame, other: av.AudioFrame) -> bool:
    return (
        frame.sample_rate == other.sample_rate
        and frame.format.name == other.format.name
        and frame.layout.nb_channels == other.layout.nb_channels
    )


def _describe(frame: av.AudioFrame) -> str:
    return f"{frame.layout.nb_channels} x {frame.sample_rate} Hz {frame.format.name}"
