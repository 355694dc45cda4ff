"""Pictures of a video, so many a second.

Time is that of the frames' own stamps: the rate that a container declares is often wrong (a fifth of the
official videos declare 1,000 frames a second).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from abaw_emi.audio.decode import blame, open_media
from abaw_emi.audio.formats import COPY_AGAIN, sniff
from abaw_emi.core.errors import ClipError, Problem

Picture = npt.NDArray[np.uint8]
"""(H, W, 3), red, green and blue."""

_ROUNDING = 1e-6
"""Of time stamps, in s."""


def sample_frames(path: Path, rate: float) -> Iterator[Picture]:
    """The first frame, and then the first one of each further 1/rate s; of a slower video, all frames.

    Args:
        path: the video.
        rate: frames a second.

    Raises:
        ClipError: the file cannot be read, is of another kind than its name says, damaged or truncated, or
            has no pictures.
    """
    with blame(path):
        sniffed = sniff(path)
        with open_media(path, sniffed.kind) as container:
            if not container.streams.video:
                raise ClipError(Problem(str(path), "has no pictures", f"{sniffed.kind} data with video"))
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start, wanted = None, 0
            for frame in _decode(path, container, stream):
                if frame.time is None:
                    raise ClipError(Problem(str(path), "its pictures have no time stamps", "a video"))
                start = frame.time if start is None else start
                passed = (frame.time - start) * rate + _ROUNDING
                if passed >= wanted:
                    wanted = math.floor(passed) + 1
                    yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if start is None:
                raise ClipError(Problem(str(path), "holds no pictures", "a video", COPY_AGAIN))


def _decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every frame.

    Raises:
        ClipError: a frame is damaged, or there are fewer than the file declares (MP4 does).
        av.error.FFmpegError: so is other data.
    """
    read = 0
    for packet in container.demux(stream):
        read += bool(packet.size)
        for frame in stream.decode(packet):
            if frame.is_corrupt:
                found = f"a picture is damaged after {frame.time or 0:.2f} s"
                raise ClipError(Problem(str(path), found, "undamaged data", COPY_AGAIN))
            yield frame
    if read < stream.frames:
        found = f"is truncated: it holds {read:,} of {stream.frames:,} pictures"
        raise ClipError(Problem(str(path), found, next_step=COPY_AGAIN))
