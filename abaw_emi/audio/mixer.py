"""Decoded frames of any sample format, mixed down to mono as they come."""

from __future__ import annotations

import math

import av
import numpy as np
import numpy.typing as npt
from av.audio.plane import AudioPlane

_MIXED_VALUES = 1 << 20
"""Values, of all channels, from which on what was decoded is mixed down: channels and rates may be many."""

_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""numpy's types of FFmpeg's sample formats."""


class Mixer:
    """The mean over the channels of frames of one sample format and one number of channels.

    Not FFmpeg's own downmix, which adds the channels up (gain 1.41 where they agree, measured).
    """

    def __init__(self) -> None:
        self._first: av.AudioFrame | None = None
        self._pieces: list[npt.NDArray[np.generic]] = []  # decoded, of all channels
        self._values = 0  # in the pieces
        self._mixed: list[npt.NDArray[np.float32]] = []
        self._powers = np.zeros(2)  # sums of squares: of what was mixed, and the mean over the channels

    @property
    def level(self) -> float:
        """RMS of the mean over the channels, over the RMS of the channels: 1 for a single one, or silence."""
        mixed, channels = self._powers
        return math.sqrt(mixed / channels) if channels else 1.0

    def add(self, frame: av.AudioFrame) -> None:
        """Takes a frame; its samples are copied."""
        self._first = self._first or frame
        self._pieces.append(_to_array(frame))
        self._values += frame.samples * frame.layout.nb_channels
        if self._values >= _MIXED_VALUES:
            self._mix()

    def waveform(self) -> npt.NDArray[np.float32]:
        """float32 (T,): all that was added, at least one frame; integers are scaled to [-1, 1]."""
        if self._pieces:
            self._mix()
        return self._mixed[0] if len(self._mixed) == 1 else np.concatenate(self._mixed)

    def _mix(self) -> None:
        """The mean over the channels of what was added since the last time."""
        assert self._first is not None
        channels = self._first.layout.nb_channels
        samples = np.concatenate(self._pieces, axis=1)  # planar (C, T), packed (1, T * C)
        if not self._first.format.is_planar:
            samples = samples.reshape(-1, channels).T  # (C, T)
        self._pieces, self._values = [], 0
        mean = samples.mean(axis=0, dtype=np.float64 if samples.dtype.kind in "iu" else None)
        scale, offset = 1.0, 0
        if samples.dtype == np.uint8:
            scale, offset = 128.0, 128
            mean = (mean - 128) / 128
        elif samples.dtype.kind == "i":
            scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
            mean /= scale
        mixed = np.asarray(mean, dtype=np.float32)
        self._mixed.append(mixed)
        if channels > 1:
            floats = (np.asarray(channel, np.float32) for channel in samples)
            parts = (channel - offset if offset else channel for channel in floats)
            power = sum(float(np.vdot(part, part)) for part in parts) / scale**2 / channels
            self._powers += (float(np.vdot(mixed, mixed)), power)


def _to_array(frame: av.AudioFrame) -> npt.NDArray[np.generic]:
    """The samples of a frame: planar (C, T), packed (1, T * C).

    Plane by plane: `frame.planes`, and `to_ndarray` with it, reads past the end of 8 and more of them, and
    crashes.
    """
    dtype = np.dtype(_DTYPES[frame.format.packed.name])
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        packed = memoryview(AudioPlane(frame, 0))
        return np.frombuffer(packed, dtype, frame.samples * channels)[np.newaxis]
    planes = [memoryview(AudioPlane(frame, i)) for i in range(channels)]
    return np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes])
