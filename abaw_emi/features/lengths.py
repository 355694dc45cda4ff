"""Whether a clip has about as many feature frames as its length says, and whether features lie across."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_FACTOR = 2.0
"""A clip with so many times the expected frames, or so many times fewer, has an unusual number."""

_SPARE_FRAMES = 10
"""Frames more or fewer that are never unusual, however short the clip: no face is found in some pictures."""


def find_transposed_rows(shapes: Collection[tuple[int, int]]) -> int:
    """How many rows all arrays (T, D) have, if most have another D than others: features x frames; else 0.

    >>> find_transposed_rows([(16, 5), (16, 9)]), find_transposed_rows([(5, 16), (9, 16)])
    (16, 0)
    """
    rows = {shape[0] for shape in shapes}
    widths = Counter(shape[1] for shape in shapes)
    if len(rows) > 1 or len(widths) < 2 or max(widths.values()) > len(shapes) / 2:
        return 0
    # One vector a clip of each of two encoders is no row of frames.
    return 0 if rows == {1} and len(widths) == 2 else rows.pop()


def advise_transposed(rows: int) -> str:
    """What to do about arrays that all have so many rows, and are not of one width."""
    return f"all have {rows:,} row{'s' if rows > 1 else ''}: features x frames? save them transposed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualLengths:
    """The clips of a feature folder whose number of frames does not fit their length.

    Attributes:
        rate: frames a second, the median over the clips.
        expected: how many frames each such clip should have about, by id.
    """

    rate: float
    expected: Mapping[str, float]


def find_unusual_lengths(frames: Mapping[str, int], seconds: Mapping[str, float | None]) -> UnusualLengths:
    """The clips that have far more or far fewer frames than the others of their length.

    None has, if all clips have the same number: one vector a clip, say, has nothing to do with time.

    Args:
        frames: how many frames each clip has, by id; not cut to a maximum.
        seconds: how long each clip is; a clip whose length is 0, None or missing is not judged.

    >>> frames = {"00000": 12, "00001": 24, "00002": 36, "00003": 99}
    >>> find_unusual_lengths(frames, {"00000": 2.0, "00001": 4.0, "00002": 6.0, "00003": 6.0})
    UnusualLengths(rate=6.0, expected={'00003': 36.0})
    """
    known = {clip: (count, length) for clip, count in frames.items() if (length := seconds.get(clip))}
    if len({count for count, _ in known.values()}) < 2:
        return UnusualLengths(rate=0.0, expected={})
    rate = statistics.median(count / length for count, length in known.values())
    expected = {
        clip: rate * length
        for clip, (count, length) in known.items()
        if not rate * length / _FACTOR - _SPARE_FRAMES <= count <= rate * length * _FACTOR + _SPARE_FRAMES
    }
    return UnusualLengths(rate=rate, expected=expected)
