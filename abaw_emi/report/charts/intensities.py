"""The chart of intensities: clip by clip for few clips, else as histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, INTENSITY_RANGE, Split
from abaw_emi.report.charts.chart import Chart, Panel, sign, to_table
from abaw_emi.report.charts.style import LIGHT, note, points, show_intensities, show_percent

Labels = Mapping[Split, pl.DataFrame]

MOST_POINTS = 500
"""Up to this number of clips in each split each is a point: bars would show chance more than shape."""

_BINS = np.linspace(*INTENSITY_RANGE, 21)

_GOLDEN = (5**0.5 - 1) / 2
_REACH = 0.24
"""How far points lie above and below the middle of their row; rows are 1 apart."""


def chart_labels(labels: Labels) -> Chart:
    """For each emotion and split, the intensities above zero, and the share of zeros."""
    arrays = {split: table.select(EMOTIONS).to_numpy() for split, table in labels.items()}
    zeros = {split: (values == 0).mean(axis=0) for split, values in arrays.items()}
    few = all(len(values) <= MOST_POINTS for values in arrays.values())
    draw, header, rows = (_show_points if few else _show_shares)(labels, arrays, zeros)
    panels = [
        Panel(
            title=emotion,
            alt=f"{emotion}: {'each intensity' if few else 'histogram of intensities'} above zero. Zero in "
            + ", ".join(f"{zeros[split][place]:.0%} of {split}" for split in arrays)
            + "; mean "
            + ", ".join(f"{arrays[split][:, place].mean():.3f} in {split}" for split in arrays)
            + ".",
            draw=partial(draw, place),
        )
        for place, emotion in enumerate(EMOTIONS)
    ]
    if few:
        caption = (
            "Each point is a clip with an intensity above zero; the height inside a row has no meaning. "
            "Lines: their median. The share of exact zeros, which are not drawn, is written as a number."
        )
    else:
        caption = (
            "Share of the clips by intensity, in bins of 0.05, for intensities above zero (filled: valid, "
            "line: train). The share of exact zeros, far larger than any bin, is written as a number."
        )
    return Chart(
        name="labels",
        title="Intensities of each emotion",
        caption=f"{caption} The paper shows the same in its Figure 1.",
        panels=panels,
        data=to_table(["emotion", "split", *header], rows),
        signature=sign("labels", sign_sizes(labels), "clips:each" if few else "bins:20"),
        columns=2,
    )


def sign_sizes(labels: Labels) -> str:
    """The part of a signature that says how many clips each split has."""
    return "n:" + ",".join(f"{split}:{len(table)}" for split, table in labels.items())


_Shown = tuple[Callable[[int, Axes], None], list[str], list[list[object]]]
"""What draws the panel of an emotion; the last columns of the table of what is drawn, and its rows."""


def _show_points(labels: Labels, arrays: Mapping[Split, Array], zeros: Mapping[Split, Array]) -> _Shown:
    rows: list[list[object]] = [
        [emotion, split, filename, float(value)]
        for emotion in EMOTIONS
        for split, table in labels.items()
        for filename, value in zip(table[FILENAME], table[emotion], strict=True)
    ]

    def draw(place: int, axes: Axes) -> None:
        for row, (split, values) in enumerate(arrays.items()):
            colour = LIGHT.emotions[EMOTIONS[place]] if split == "valid" else LIGHT.muted
            _draw_row(axes, row, values[:, place], colour)
            text = f"{zeros[split][place]:.0%} zero"
            axes.text(1, row - _REACH - 0.06, text, ha="right", va="bottom", color=LIGHT.muted)
        show_intensities(axes)
        axes.set_xlim(-0.02, 1.02)  # points at 1 whole
        axes.set_ylim(len(arrays) - 0.6, -0.6)
        axes.set_yticks(range(len(arrays)), list(arrays))
        axes.tick_params(axis="y", labelcolor=LIGHT.ink)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.spines["left"].set_visible(False)

    return draw, [FILENAME, "intensity"], rows


def _draw_row(axes: Axes, row: int, values: Array, colour: str) -> None:
    """The values above zero as points, and their median as a line.

    Multiples of the golden ratio, modulo 1, spread neighbours in the order of values evenly: clips of one
    value do not lie on each other, and the same labels give the same picture.
    """
    above = np.sort(values[values > 0])
    if not above.size:
        return
    heights = row + _REACH * (2 * (np.arange(len(above)) * _GOLDEN % 1) - 1)
    axes.plot(above, heights, "o", color=colour, alpha=0.75, markersize=points(3.4), markeredgewidth=0)
    middle = float(np.median(above))
    axes.vlines(middle, row - _REACH, row + _REACH, color=LIGHT.ink, linewidth=points(1.4))


def _show_shares(labels: Labels, arrays: Mapping[Split, Array], zeros: Mapping[Split, Array]) -> _Shown:
    shares = {
        split: np.stack([np.histogram(c[c > 0], _BINS)[0] / len(c) for c in values.T])
        for split, values in arrays.items()
    }  # (6, bins) each
    top = 1.3 * max(float(share.max()) for share in shares.values()) or 1.0
    rows: list[list[object]] = [
        [emotion, split, float(low), float(high), float(share)]
        for place, emotion in enumerate(EMOTIONS)
        for split in labels
        for low, high, share in [
            (0.0, 0.0, zeros[split][place]),
            *zip(_BINS[:-1], _BINS[1:], shares[split][place], strict=True),
        ]
    ]

    def draw(place: int, axes: Axes) -> None:
        centres, width = (_BINS[:-1] + _BINS[1:]) / 2, _BINS[1] - _BINS[0]
        if "valid" in shares:
            colour = LIGHT.emotions[EMOTIONS[place]]
            axes.bar(centres, shares["valid"][place], width, color=colour, alpha=0.75, linewidth=0)
        if "train" in shares:
            axes.stairs(shares["train"][place], _BINS, color=LIGHT.ink, linewidth=points(0.9))
        for line, (split, zero) in enumerate(zeros.items()):
            note(axes, 1.0, 1.02 - 0.13 * line, f"{zero[place]:.0%} of {split} zero", ha="right", va="top")
        show_intensities(axes)
        axes.set_ylim(0, top)
        show_percent(axes)

    return draw, ["from", "to", "share_of_clips"], rows
