"""Charts of scores with intervals, and of predictions against labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, INTENSITY_RANGE
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.charts.chart import MEDIUM, SQUARE, Chart, Panel, sheet, sign
from abaw_emi.report.charts.style import LIGHT, draw_rows, points, shorten, show_intensities
from abaw_emi.report.results import Results, Standing

_MOST_NAMES = 10
"""Systems that a chart names."""

_CELLS = 28
"""Cells of a density, in each direction."""

_SHADES = 6


def chart_scores(results: Results) -> Chart:
    """The best system per emotion, and every system's mean, with 95 % intervals."""
    best = results.standings[0]
    shown = results.standings[:_MOST_NAMES]
    rows_high = max(MEDIUM[1], 90 + 22.0 * len(shown))
    emotions = ", ".join(
        _describe(name, best.score.pearson[name], best.score.interval.get(name)) for name in EMOTIONS
    )
    panels = [
        Panel(
            title=f"{shorten(best.name, 30)}, per emotion",
            alt=f"Pearson of {best.name} with 95 % intervals: {emotions}.",
            draw=partial(_draw_emotions, best=best, others=shown[1:]),
            size=(MEDIUM[0], rows_high),
        ),
        Panel(
            title="Mean Pearson of every system"
            if len(shown) == len(results.standings)
            else f"Mean Pearson of the first {len(shown)} systems",
            alt="Mean Pearson with 95 % intervals: "
            + ", ".join(_describe(s.name, s.score.mean_pearson, s.score.interval.get(MEAN)) for s in shown)
            + ".",
            draw=partial(_draw_systems, standings=shown),
            size=(MEDIUM[0], rows_high),
        ),
    ]
    rows = [
        [standing.name, name, value, *(standing.score.interval.get(name) or (None, None))]
        for standing in results.standings
        for name, value in {MEAN: standing.score.mean_pearson, **standing.score.pearson}.items()
    ]
    return Chart(
        name="scores",
        title="Scores with intervals",
        caption="Pearson's r with its 95 % bootstrap interval; grey ticks are the other systems. The "
        "intervals of two systems may overlap although one is significantly better: see the comparison.",
        panels=panels,
        data=sheet(["system", "statistic", "pearson", "low", "high"], rows),
        signature=best.score.signature,
    )


def chart_density(results: Results) -> Chart:
    """Predictions of the best system against labels, per emotion."""
    best, truth, prediction = results.standings[0], results.truth, results.prediction
    assert truth is not None
    assert prediction is not None
    low = min(0.0, float(np.quantile(prediction, 0.001)))
    high = max(0.05, float(np.quantile(prediction, 0.999)))
    panels, rows = [], []
    for place, emotion in enumerate(EMOTIONS):
        y, p = truth[:, place], prediction[:, place]
        counts, true_edges, edges = np.histogram2d(
            y, p.clip(low, high), bins=_CELLS, range=[INTENSITY_RANGE, (low, high)]
        )
        r = best.score.pearson[emotion]
        low_half, high_half = _halves(y, p)
        panels.append(
            Panel(
                title=emotion,
                alt=f"{emotion}: density of predictions against labels. Pearson "
                f"{'undefined' if r is None else f'{r:.4f}'}. The mean prediction is {low_half:.3f} for the "
                f"half of the clips with the lower labels, {high_half:.3f} for the other half.",
                draw=partial(
                    _draw_density,
                    counts=counts,
                    edges=(true_edges, edges),
                    means=_bin_means(y, p),
                    colour=LIGHT.emotions[emotion],
                    r="" if r is None else f"r {r:.3f}".replace("0.", ".", 1),
                ),
                size=SQUARE,
            )
        )
        rows += [
            [emotion, float(true_edges[i]), float(edges[j]), int(counts[i, j])]
            for i, j in zip(*np.nonzero(counts), strict=True)
        ]
    return Chart(
        name="predicted-against-true",
        title="Predicted against true intensities",
        caption=f"{best.name} on {results.split}: the stronger the colour, the more clips. The solid line is "
        "the mean prediction at each intensity; on the dashed line, prediction and label are equal. "
        "Pearson's r is 1 on any rising straight line, not only on that one.",
        panels=panels,
        data=sheet(["emotion", "true_from", "predicted_from", "clips"], rows),
        signature=sign("density", f"n:{len(truth)}", f"cells:{_CELLS}x{_CELLS}"),
        columns=2,
    )


def _describe(name: str, value: float | None, bounds: tuple[float, float] | None) -> str:
    if value is None:
        return f"{name} undefined"
    return f"{name} {value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")


def _draw_emotions(axes: Axes, *, best: Standing, others: Sequence[Standing]) -> None:
    values = {**best.score.pearson, MEAN: best.score.mean_pearson}
    for row, (name, value) in enumerate(values.items()):
        colour = LIGHT.emotions.get(name, LIGHT.ink)
        for other in others:
            theirs = other.score.mean_pearson if name == MEAN else other.score.pearson[name]
            if theirs is not None:
                axes.plot(
                    [theirs, theirs],
                    [row - 0.22, row + 0.22],
                    color=LIGHT.muted,
                    alpha=0.55,
                    linewidth=points(1),
                )
        if value is not None:
            _draw_interval(axes, row, value, best.score.interval.get(name), colour)
    draw_rows(axes, [*EMOTIONS, "Mean"], "Pearson's r")
    axes.axhline(len(EMOTIONS) - 0.5, color=LIGHT.rule, linewidth=points(0.8))


def _draw_systems(axes: Axes, *, standings: Sequence[Standing]) -> None:
    for row, standing in enumerate(standings):
        colour = LIGHT.accent if row == 0 else LIGHT.muted
        _draw_interval(axes, row, standing.score.mean_pearson, standing.score.interval.get(MEAN), colour)
    draw_rows(axes, [shorten(standing.name, 22) for standing in standings], "mean Pearson")


def _draw_interval(
    axes: Axes, row: float, value: float, bounds: tuple[float, float] | None, colour: str
) -> None:
    if bounds:
        axes.plot(bounds, [row, row], color=colour, linewidth=points(2.2), alpha=0.55)
    axes.plot(value, row, "o", color=colour)
    # In a column at the right, as in a table.
    text = f"{value:.3f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")
    axes.text(1.12, row, text, transform=axes.get_yaxis_transform(), ha="right", va="center_baseline")


def _draw_density(
    axes: Axes,
    *,
    counts: Array,
    edges: tuple[Array, Array],
    means: tuple[Array, Array],
    colour: str,
    r: str,
) -> None:
    # One path for all cells of a shade: small, sharp in print, and coloured by the theme.
    level = np.ceil(_SHADES * np.log1p(counts) / np.log1p(counts.max())).clip(max=_SHADES).astype(int)
    width, height = edges[0][1] - edges[0][0], edges[1][1] - edges[1][0]
    for shade in range(1, _SHADES + 1):
        cells = [
            Outline.unit_rectangle().transformed(
                Affine2D().scale(width, height).translate(edges[0][i], edges[1][j])
            )
            for i, j in zip(*np.nonzero(level == shade), strict=True)
        ]
        if cells:
            outline = Outline.make_compound_path(*cells)
            axes.add_patch(
                PathPatch(
                    outline, facecolor=colour, alpha=0.1 + 0.75 * (shade - 1) / (_SHADES - 1), linewidth=0
                )
            )
    axes.plot(*means, color=LIGHT.ink, linewidth=points(1.6))
    axes.plot([0, 1], [0, 1], color=LIGHT.muted, linestyle=(0, (4, 3)), linewidth=points(0.9))
    show_intensities(axes)
    axes.set_ylim(edges[1][0], edges[1][-1])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(r, loc="right", fontweight="normal", color=LIGHT.muted)


def _bin_means(truth: Array, prediction: Array) -> tuple[Array, Array]:
    """Mean label and mean prediction in tenths of the intensity, where these hold five clips or more."""
    number = np.minimum((truth * 10).round().astype(int), 10)
    full = [k for k in range(11) if (number == k).sum() >= 5]
    x = np.array([truth[number == k].mean() for k in full])
    return x, np.array([prediction[number == k].mean() for k in full])


def _halves(truth: Array, prediction: Array) -> tuple[float, float]:
    """Mean prediction of the half of the clips with the lower labels, and of the other half."""
    order = np.argsort(truth, kind="stable")
    middle = len(order) // 2
    return float(prediction[order[:middle]].mean()), float(prediction[order[middle:]].mean())
