"""The chart of predictions against labels: clip by clip for few clips, else as a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, INTENSITY_RANGE
from abaw_emi.report.charts.chart import SQUARE, Chart, Panel, sign, to_table
from abaw_emi.report.charts.style import LIGHT, format_number, points, show_intensities
from abaw_emi.report.results import Results

MOST_POINTS = 300
"""Up to this number of clips each is a point; more points would hide one another."""

_CELLS = 28
"""Cells of a density, in each direction."""

_SHADES = 6
_FAINTEST, _STRONGEST = 0.25, 0.9
"""Opacity of the first and the last shade."""


def chart_predictions(results: Results) -> Chart:
    """Predictions of the best system against labels, per emotion."""
    best, truth, prediction = results.standings[0], results.truth, results.prediction
    assert truth is not None
    assert prediction is not None
    scatter = len(truth) <= MOST_POINTS
    low = min(0.0, float(np.quantile(prediction, 0.001)))
    high = max(0.05, float(np.quantile(prediction, 0.999)))
    clips = sorted(best.table[FILENAME])
    panels, rows = [], []
    for place, emotion in enumerate(EMOTIONS):
        y, p = truth[:, place], prediction[:, place]
        colour = LIGHT.emotions[emotion]
        draw: Callable[[Axes], None]
        if scatter:
            draw = partial(_draw_points, truth=y, prediction=p, colour=colour)
            rows += [[emotion, *values] for values in zip(clips, y.tolist(), p.tolist(), strict=True)]
        else:
            counts, *edges = np.histogram2d(
                y, p.clip(low, high), bins=_CELLS, range=[INTENSITY_RANGE, (low, high)]
            )
            draw = partial(_draw_cells, counts=counts, edges=edges, colour=colour)
            rows += [
                [emotion, float(edges[0][i]), float(edges[1][j]), int(counts[i, j])]
                for i, j in zip(*np.nonzero(counts), strict=True)
            ]
        r = best.score.pearson[emotion]
        low_half, high_half = _halves(y, p)
        panels.append(
            Panel(
                title=emotion,
                alt=f"{emotion}: predictions against labels. Pearson {format_number(r)}. The mean prediction "
                f"is {low_half:.3f} for the half of the clips with the lower labels, {high_half:.3f} for the "
                "other half.",
                draw=partial(_draw_panel, draw=draw, means=_bin_means(y, p), limits=(low, high), r=r),
                size=SQUARE,
            )
        )
    shown = "each point is a clip" if scatter else "the stronger the colour, the more clips"
    header = ["Filename", "true", "predicted"] if scatter else ["true_from", "predicted_from", "clips"]
    return Chart(
        name="predicted-against-true",
        title="Predicted against true intensities",
        caption=f"{best.name} on {results.split}, raw predictions: {shown}. The solid line is the mean "
        "prediction at each intensity; on the dashed line, prediction and label are equal. Pearson's r is 1 "
        "on any rising straight line, not only on that one.",
        panels=panels,
        data=to_table(["emotion", *header], rows),
        signature=sign(
            "scatter" if scatter else "density",
            f"n:{len(truth)}",
            *([] if scatter else [f"cells:{_CELLS}x{_CELLS}"]),
        ),
        columns=2,
    )


def _draw_panel(
    axes: Axes,
    *,
    draw: Callable[[Axes], None],
    means: tuple[Array, Array],
    limits: tuple[float, float],
    r: float | None,
) -> None:
    draw(axes)
    axes.plot(*means, color=LIGHT.ink, linewidth=points(1.6))
    axes.plot([0, 1], [0, 1], color=LIGHT.muted, linestyle=(0, (4, 3)), linewidth=points(0.9))
    show_intensities(axes)
    axes.set_xlim(-0.02, 1.02)  # points at 0 and 1 whole
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(f"r {format_number(r)}", loc="right", fontweight="normal", color=LIGHT.muted)


def _draw_points(axes: Axes, *, truth: Array, prediction: Array, colour: str) -> None:
    axes.plot(truth, prediction, "o", color=colour, alpha=0.6, markersize=points(3.6), markeredgewidth=0)


def _draw_cells(axes: Axes, *, counts: Array, edges: Sequence[Array], colour: str) -> None:
    # One path for all cells of a shade: small, sharp in print, and coloured by the theme.
    level = np.ceil(_SHADES * np.log1p(counts) / np.log1p(counts.max())).clip(max=_SHADES).astype(int)
    place = Affine2D().scale(*(e[1] - e[0] for e in edges)).translate(edges[0][0], edges[1][0])
    for shade, alpha in enumerate(np.linspace(_FAINTEST, _STRONGEST, _SHADES), start=1):
        cells = [
            Outline.unit_rectangle().transformed(Affine2D().translate(i, j) + place)
            for i, j in zip(*np.nonzero(level == shade), strict=True)
        ]
        if cells:
            outline = Outline.make_compound_path(*cells)
            axes.add_patch(PathPatch(outline, facecolor=colour, alpha=float(alpha), linewidth=0))


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
