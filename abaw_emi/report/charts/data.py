"""Charts of the data: durations, and correlations between the emotions; `intensities` has those."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, MAX_SECONDS, Split
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.report.charts.chart import MEDIUM, Chart, Panel, sign, to_table
from abaw_emi.report.charts.intensities import Labels, sign_sizes
from abaw_emi.report.charts.style import (
    LIGHT,
    draw_matrix,
    format_number,
    points,
    show_percent,
)
from abaw_emi.report.history import Durations

_LONGEST = 20.0
"""Clips longer than this, in s, share the last bar of the histogram."""

STRONGEST = 0.5
"""Opacity of the cell of a correlation of 0.5 or more; that of 0 is `_FAINTEST`."""
_FAINTEST = 0.12

_SPLIT_LINES: dict[Split, tuple[str, str]] = {
    "train": (LIGHT.ink, "-"),
    "valid": (LIGHT.accent, "-"),
    "test": (LIGHT.negative, "--"),
}


def chart_durations(durations: Durations) -> Chart:
    """Durations of the clips by split, and the share of clips shorter than the cut of the audio."""
    bins = np.arange(0.0, _LONGEST + 1.0, 0.5)
    seconds = {split: values for split, values in durations.seconds.items() if values.size}
    every = np.sort(np.concatenate(list(seconds.values())))
    shares = {
        split: np.histogram(np.minimum(values, _LONGEST + 0.25), bins)[0] / len(values)
        for split, values in seconds.items()
    }
    whole = float((every <= MAX_SECONDS).mean())
    kept = float(np.minimum(every, MAX_SECONDS).sum() / every.sum())
    about = (
        f"{len(every):,} clips, {every.sum() / 3600:,.1f} h, from {every[0]:.2f} to {every[-1]:,.2f} s, "
        f"mean {every.mean():.2f} s"
    )
    panels = [
        Panel(
            title="Share of clips by duration",
            alt=f"Histogram of durations by split: {about}.",
            draw=partial(_draw_durations, bins=bins, shares=shares),
            size=MEDIUM,
        ),
        Panel(
            title="Share of clips up to a duration",
            alt=f"Cumulative share of clips by duration; {whole:.1%} are at most {MAX_SECONDS:g} s long.",
            draw=partial(_draw_cut, every=every, whole=whole),
            size=MEDIUM,
        ),
    ]
    rows = [
        [split, float(low), float(high) if high <= _LONGEST else float("inf"), float(share)]
        for split, values in shares.items()
        for low, high, share in zip(bins[:-1], bins[1:], values, strict=True)
    ]
    unknown = f"; {durations.unknown:,} clips of unknown duration are left out" if durations.unknown else ""
    return Chart(
        name="durations",
        title="Durations of the clips",
        caption=f"{about} ({durations.source}{unknown}). The cut at {MAX_SECONDS:g} s keeps {whole:.1%} of "
        f"the clips whole and {kept:.1%} of the audio. Clips longer than {_LONGEST:g} s share the last bar. "
        "The paper shows durations in its Figure 2.",
        panels=panels,
        data=to_table(["split", "from_s", "to_s", "share_of_clips"], rows),
        signature=sign("durations", f"n:{len(every)}", f"unknown:{durations.unknown}", "bin:0.5"),
    )


def chart_correlations(labels: Labels) -> Chart:
    """Pearson's r between the labels of every two emotions, by split."""
    matrices = {}
    for split, table in labels.items():
        values = table.select(EMOTIONS).to_numpy()
        matrices[split] = np.stack([pearson(np.repeat(c[:, None], 6, axis=1), values) for c in values.T])
    panels = [
        Panel(
            title=f"{split} ({len(labels[split]):,} clips)",
            alt=f"Correlations of the labels of {split}: {_describe_extremes(matrix)}.",
            draw=partial(_draw_correlations, matrix=matrix),
            size=(MEDIUM[0], 330.0),
        )
        for split, matrix in matrices.items()
    ]
    rows = [
        [split, first, second, None if np.isnan(matrix[i, j]) else float(matrix[i, j])]
        for split, matrix in matrices.items()
        for i, first in enumerate(EMOTIONS)
        for j, second in enumerate(EMOTIONS[:i])
    ]
    return Chart(
        name="label-correlations",
        title="Correlations between the emotions",
        caption="Pearson's r between the labels of two emotions over the clips of a split.",
        panels=panels,
        data=to_table(["split", "first", "second", "pearson"], rows),
        signature=sign("label_pearson", sign_sizes(labels)),
    )


def _draw_durations(axes: Axes, *, bins: Array, shares: Mapping[Split, Array]) -> None:
    for split, share in shares.items():
        colour, dashes = _SPLIT_LINES[split]
        axes.stairs(share, bins, linewidth=points(1.4), color=colour, linestyle=dashes, label=split)
    axes.legend(loc="upper right", frameon=False, handlelength=1.6)
    axes.set_ylim(bottom=0)
    _show_seconds(axes, bins[-1], "20+")


def _draw_cut(axes: Axes, *, every: Array, whole: float) -> None:
    at = np.linspace(0, _LONGEST, 201)  # fine enough to look smooth, however many clips there are
    axes.plot(at, np.searchsorted(every, at, side="right") / len(every), color=LIGHT.ink)
    axes.axvline(MAX_SECONDS, color=LIGHT.accent, linewidth=points(1))
    axes.annotate(
        f"{whole:.1%} whole at {MAX_SECONDS:g} s",
        (MAX_SECONDS, whole),
        xytext=(points(6), points(-14)),
        textcoords="offset points",
        color=LIGHT.accent,
        va="top",
    )
    axes.set_ylim(0, 1.02)
    _show_seconds(axes, _LONGEST, "20")


def _show_seconds(axes: Axes, longest: float, last: str) -> None:
    axes.set_xlim(0, longest)
    axes.set_xticks([0, 4, 8, 12, 16, 20], ["0", "4", "8", "12", "16", last])
    axes.set_xlabel("seconds")
    show_percent(axes)


def _draw_correlations(axes: Axes, *, matrix: Array) -> None:
    last = len(EMOTIONS) - 1
    for i in range(1, last + 1):
        for j in range(i):
            r = matrix[i, j]
            shade = 0.0 if np.isnan(r) else min(1.0, abs(float(r)) / 0.5)
            colour = LIGHT.positive if r > 0 else LIGHT.negative
            alpha = _FAINTEST + (STRONGEST - _FAINTEST) * shade
            box = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=colour, alpha=alpha, linewidth=0)
            axes.add_patch(box)
            text = "-" if np.isnan(r) else format_number(float(r), 2, signed=True)
            axes.text(j, i, text, ha="center", va="center")
    axes.set_xlim(-0.5, last - 0.5)
    axes.set_ylim(last + 0.5, 0.5)
    axes.set_xticks(range(last), EMOTIONS[:last], rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(1, last + 1), EMOTIONS[1:])
    draw_matrix(axes)


def _describe_extremes(matrix: Array) -> str:
    pairs = [
        (matrix[i, j], i, j) for i in range(len(EMOTIONS)) for j in range(i) if not np.isnan(matrix[i, j])
    ]
    if not pairs:
        return "undefined, because labels are constant"
    highest, lowest = (f"{EMOTIONS[j]} and {EMOTIONS[i]} {r:+.2f}" for r, i, j in (max(pairs), min(pairs)))
    return f"highest {highest}, lowest {lowest}"
