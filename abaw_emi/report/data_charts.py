"""Charts of the data: labels, durations, and how the labels go together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, INTENSITY_RANGE, MAX_SECONDS, VERSION, Split
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.report.history import Durations
from abaw_emi.report.palette import LIGHT
from abaw_emi.report.style import MEDIUM, Chart, Panel, note, points, sheet, show_percent

Labels = Mapping[Split, pl.DataFrame]

_BINS = np.linspace(*INTENSITY_RANGE, 21)
_LONGEST = 20.0
"""Seconds from which on clips share the histogram's last bar."""

STRONGEST = 0.5
"""Opacity of the cell of a correlation of .5 or more."""


def chart_labels(labels: Labels) -> Chart:
    """Per emotion, how intense it is where it is there at all, and how often it is not, by split."""
    arrays = {split: table.select(EMOTIONS).to_numpy() for split, table in labels.items()}
    shares = {
        split: np.stack([np.histogram(c[c > 0], _BINS)[0] / len(c) for c in values.T])
        for split, values in arrays.items()
    }  # (6, bins) each
    zeros = {split: (values == 0).mean(axis=0) for split, values in arrays.items()}
    top = 1.3 * max(float(share.max()) for share in shares.values()) or 1.0
    panels = []
    for place, emotion in enumerate(EMOTIONS):
        told = ", ".join(f"{zeros[split][place]:.0%} of {split}" for split in arrays)
        means = ", ".join(f"{arrays[split][:, place].mean():.3f} in {split}" for split in arrays)
        panels.append(
            Panel(
                title=emotion,
                alt=f"{emotion}: histogram of intensities above zero. Zero in {told}; mean {means}.",
                draw=partial(
                    _draw_labels,
                    shares={split: share[place] for split, share in shares.items()},
                    zeros={split: float(zero[place]) for split, zero in zeros.items()},
                    colour=LIGHT.emotions[emotion],
                    top=top,
                ),
            )
        )
    rows = [
        [emotion, split, float(low), float(high), float(share)]
        for place, emotion in enumerate(EMOTIONS)
        for split in arrays
        for low, high, share in [
            (0.0, 0.0, zeros[split][place]),
            *zip(_BINS[:-1], _BINS[1:], shares[split][place], strict=True),
        ]
    ]
    return Chart(
        name="labels",
        title="How intense each emotion is",
        caption="Share of the clips by intensity, of those whose intensity is above zero, in bins of .05; "
        "filled: valid, line: train. The share of exact zeros, which would dwarf the rest, is in numbers. "
        "The paper shows the same in its Figure 1.",
        panels=panels,
        data=sheet(["emotion", "split", "from", "to", "share_of_clips"], rows),
        signature=_sign("labels", labels, "bins:20"),
        columns=2,
    )


def chart_durations(durations: Durations) -> Chart:
    """How long clips are, by split, and what share of them a cut leaves whole."""
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
            title="Share of clips no longer than",
            alt=f"Cumulative share of clips by duration; {whole:.1%} are no longer than {MAX_SECONDS:g} s.",
            draw=partial(_draw_cut, every=every, whole=whole),
            size=MEDIUM,
        ),
    ]
    rows = [
        [split, float(low), float(high) if high <= _LONGEST else float("inf"), float(share)]
        for split, values in shares.items()
        for low, high, share in zip(bins[:-1], bins[1:], values, strict=True)
    ]
    unknown = (
        f"; {durations.unknown:,} clips without a known length are left out" if durations.unknown else ""
    )
    return Chart(
        name="durations",
        title="How long the clips are",
        caption=f"{about} ({durations.source}{unknown}). The cut at {MAX_SECONDS:g} s leaves {whole:.1%} of "
        f"the clips whole and {kept:.1%} of the sound. Clips of more than {_LONGEST:g} s share the last bar. "
        "The paper shows durations in its Figure 2.",
        panels=panels,
        data=sheet(["split", "from_s", "to_s", "share_of_clips"], rows),
        signature=f"durations|n:{len(every)}|unknown:{durations.unknown}|bin:0.5|abaw_emi:{VERSION}",
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
            alt=f"Correlations of the labels of {split}: {_name_extremes(matrix)}.",
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
        title="Which emotions go together",
        caption="Pearson's r between the labels of two emotions over the clips of a split.",
        panels=panels,
        data=sheet(["split", "first", "second", "pearson"], rows),
        signature=_sign("label_pearson", labels),
    )


def _draw_labels(
    axes: Axes, *, shares: Mapping[Split, Array], zeros: Mapping[Split, float], colour: str, top: float
) -> None:
    centres, width = (_BINS[:-1] + _BINS[1:]) / 2, _BINS[1] - _BINS[0]
    if "valid" in shares:
        axes.bar(centres, shares["valid"], width, color=colour, alpha=0.75, linewidth=0)
    if "train" in shares:
        axes.stairs(shares["train"], _BINS, color=LIGHT.ink, linewidth=points(0.9))
    for line, (split, zero) in enumerate(zeros.items()):
        note(axes, 1.0, 1.02 - 0.13 * line, f"{zero:.0%} of {split} zero", ha="right", va="top")
    axes.set_xlim(*INTENSITY_RANGE)
    axes.set_ylim(0, top)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    show_percent(axes)


_SPLIT_LINES: dict[Split, tuple[str, str]] = {
    "train": (LIGHT.ink, "-"),
    "valid": (LIGHT.accent, "-"),
    "test": (LIGHT.negative, "--"),
}


def _draw_durations(axes: Axes, *, bins: Array, shares: Mapping[Split, Array]) -> None:
    for split, share in shares.items():
        colour, dashes = _SPLIT_LINES[split]
        axes.stairs(share, bins, linewidth=points(1.4), color=colour, linestyle=dashes, label=split)
    axes.legend(loc="upper right", frameon=False, handlelength=1.6)
    axes.set_xlim(0, bins[-1])
    axes.set_ylim(bottom=0)
    axes.set_xticks([0, 4, 8, 12, 16, 20], ["0", "4", "8", "12", "16", "20+"])
    axes.set_xlabel("seconds")
    show_percent(axes)


def _draw_cut(axes: Axes, *, every: Array, whole: float) -> None:
    # As many points as can be told apart, however many clips there are.
    at = np.linspace(0, _LONGEST, 201)
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
    axes.set_xlim(0, _LONGEST)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 4, 8, 12, 16, 20])
    axes.set_xlabel("seconds")
    show_percent(axes)


def _draw_correlations(axes: Axes, *, matrix: Array) -> None:
    last = len(EMOTIONS) - 1
    for i in range(1, last + 1):
        for j in range(i):
            r = matrix[i, j]
            shade = 0.0 if np.isnan(r) else min(1.0, abs(float(r)) / 0.5)
            colour = LIGHT.positive if r > 0 else LIGHT.negative
            alpha = 0.06 + (STRONGEST - 0.06) * shade
            box = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=colour, alpha=alpha, linewidth=0)
            axes.add_patch(box)
            text = "-" if np.isnan(r) else f"{r:+.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}")
            axes.text(j, i, text, ha="center", va="center")
    axes.set_xlim(-0.5, last - 0.5)
    axes.set_ylim(last + 0.5, 0.5)
    axes.set_xticks(range(last), EMOTIONS[:last], rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(1, last + 1), EMOTIONS[1:])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name_extremes(matrix: Array) -> str:
    pairs = [
        (matrix[i, j], i, j) for i in range(len(EMOTIONS)) for j in range(i) if not np.isnan(matrix[i, j])
    ]
    if not pairs:
        return "undefined, as labels are constant"
    named = [f"{EMOTIONS[j]} and {EMOTIONS[i]} {r:+.2f}" for r, i, j in (max(pairs), min(pairs))]
    return f"highest {named[0]}, lowest {named[1]}"


def _sign(what: str, labels: Labels, *settings: str) -> str:
    sizes = ",".join(f"{split}:{len(table)}" for split, table in labels.items())
    return "|".join([what, f"n:{sizes}", *settings, f"abaw_emi:{VERSION}"])
