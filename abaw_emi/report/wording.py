"""Names made to fit, and labels that do not hide one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abaw_emi.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def shorten(name: str, most: int) -> str:
    """The name, its middle left out where it is longer than `most` characters; on one line.

    >>> shorten("paper-trainval-seed1", 12)
    'paper-…seed1'
    """
    name = " ".join(name.split())
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def spread_labels(
    axes: Axes, ends: Sequence[tuple[float, str]], keys: Sequence[tuple[str, str]] | None = None
) -> None:
    """Names the lines that end at the right, at their heights, moved apart as far as they would overlap.

    Args:
        axes: whose limits are set.
        ends: the height and the name of each line.
        keys: colour and marker of each, drawn before its name; the name itself is in ink, to be legible.
    """
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = (high - low) * 0.078
    order = sorted(range(len(ends)), key=lambda i: ends[i][0])
    heights = [max(low, min(high, ends[i][0])) for i in order]
    for _ in range(200):  # push neighbours apart, evenly, and back inside, until none overlaps
        for above in range(1, len(heights)):
            short = gap - (heights[above] - heights[above - 1])
            if short > 0:
                heights[above] += short / 2
                heights[above - 1] -= short / 2
        heights[0], heights[-1] = max(heights[0], low), min(heights[-1], high)
    across = axes.get_yaxis_transform()
    for height, i in zip(heights, order, strict=True):
        if keys is not None:
            colour, marker = keys[i]
            axes.plot(1.035, height, marker, color=colour, transform=across, clip_on=False)
        start = 1.02 if keys is None else 1.065
        axes.text(start, height, ends[i][1], transform=across, va="center", color=LIGHT.muted)
