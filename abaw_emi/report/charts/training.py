"""Charts of the runs: training loss, validation score and learning rate by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.report.charts.chart import MEDIUM, Chart, Panel, sign, to_table
from abaw_emi.report.charts.style import LIGHT, RUN_STYLES, label_ends, shorten
from abaw_emi.report.history import Curve, Epoch

MARKERS = dict(zip(EMOTIONS, "osD^vP", strict=True))
"""Distinguish the emotions where their colours cannot be."""

Named = Sequence[tuple[str, Curve]]


def chart_curves(curves: Sequence[Curve], names: Sequence[str]) -> Chart:
    """Training loss and validation score of every run, and the score of each emotion over the runs."""
    drawn = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve.epochs]
    rows = [
        [name, e.number, e.loss, e.learning_rate, e.mean_pearson, *(e.pearson.get(name) for name in EMOTIONS)]
        for name, curve in drawn
        for e in curve.epochs
    ]
    kinds = ", ".join(dict.fromkeys(curve.loss for _, curve in drawn if curve.loss))
    rate = _find_scale(drawn)
    losses = ", ".join(f"{name} {curve.epochs[-1].loss:.4f}" for name, curve in drawn)
    return Chart(
        name="training-curves",
        title="Training curves",
        caption="One line per run; a ring marks the epoch with the best validation score, whose weights are "
        "kept. Per emotion: mean and range of the runs. The epochs were selected by these validation scores, "
        "so the best of them are optimistic.",
        panels=[
            Panel(
                title=f"Training loss{f' ({kinds})' if kinds else ''}",
                alt=f"Training loss by epoch. At the end: {losses}.",
                draw=partial(_draw_loss, curves=drawn),
                size=MEDIUM,
            ),
            *_validation_panels([(name, curve) for name, curve in drawn if curve.best is not None]),
            Panel(
                title=f"Learning rate (1e{rate})",
                alt="Learning rate at the end of each epoch.",
                draw=partial(_draw_rate, curves=drawn, scale=10.0**rate),
                size=MEDIUM,
            ),
        ],
        data=to_table(["run", "epoch", "train_loss", "learning_rate", "valid_mean_pearson", *EMOTIONS], rows),
        signature=sign("training_curves", f"runs:{len(drawn)}", "metrics.jsonl"),
    )


def _validation_panels(scored: Named) -> list[Panel]:
    """The mean and the single emotions; none where no run was validated."""
    if not scored:
        return []
    bests = ", ".join(
        f"{name} {c.best.mean_pearson:.4f} in epoch {c.best.number}" for name, c in scored if c.best
    )
    numbers, values = _stack([curve for _, curve in scored])
    last = zip(EMOTIONS, np.nanmean(values[:, -1], axis=0), strict=True)
    return [
        Panel(
            title="Validation, mean Pearson",
            alt=f"Validation mean Pearson by epoch. Best: {bests}.",
            draw=partial(_draw_validation, curves=scored),
            size=MEDIUM,
        ),
        Panel(
            title="Validation per emotion",
            alt="Validation Pearson of each emotion by epoch, over the runs. In epoch "
            f"{numbers[-1]}: {', '.join(f'{emotion} {r:.3f}' for emotion, r in last)}.",
            draw=partial(_draw_emotions, numbers=numbers, values=values),
            size=MEDIUM,
        ),
    ]


def _draw_loss(axes: Axes, *, curves: Named) -> None:
    finite = [e.loss for _, curve in curves for e in curve.epochs if math.isfinite(e.loss)]
    axes.set_ylim(0, 1.04 * max(finite, default=0.0) or 1.0)  # the loss of a diverged run is not finite
    _draw_runs(axes, curves, lambda epoch: epoch.loss)


def _draw_rate(axes: Axes, *, curves: Named, scale: float) -> None:
    _draw_runs(axes, curves, lambda epoch: epoch.learning_rate, named=False)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, place: f"{rate / scale:.1f}"))


def _find_scale(curves: Named) -> int:
    """The power of ten in whose unit the learning rates are written."""
    highest = max((e.learning_rate or 0.0 for _, curve in curves for e in curve.epochs), default=0.0)
    return math.floor(math.log10(highest)) if highest > 0 else 0


def _draw_validation(axes: Axes, *, curves: Named) -> None:
    _draw_runs(axes, curves, lambda epoch: epoch.mean_pearson)
    for best in (curve.best for _, curve in curves):
        if best is not None and best.mean_pearson is not None:
            axes.plot(
                best.number, best.mean_pearson, "o", color=LIGHT.ink, mfc=LIGHT.paper, zorder=3, clip_on=False
            )


def _draw_runs(
    axes: Axes, curves: Named, value_of: Callable[[Epoch], float | None], *, named: bool = True
) -> None:
    """A line for each run that has the value, named at its end unless there are too many to distinguish."""
    ends = []
    last = 1
    distinct = len(curves) <= len(RUN_STYLES)
    for place, (name, curve) in enumerate(curves):
        points = [(e.number, value) for e in curve.epochs if (value := value_of(e)) is not None]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        style = RUN_STYLES[place] if distinct else {"color": LIGHT.accent, "alpha": 0.75}
        axes.plot(x, y, **style)
        last = max(last, x[-1])
        if math.isfinite(y[-1]):
            ends.append((y[-1], shorten(name, 20), style))
    _show_epochs(axes, last)
    if named and distinct:
        label_ends(axes, ends)


def _draw_emotions(axes: Axes, *, numbers: Sequence[int], values: np.ndarray) -> None:
    ends = []
    for place, emotion in enumerate(EMOTIONS):
        of_runs = values[:, :, place]
        mean, colour = np.nanmean(of_runs, axis=0), LIGHT.emotions[emotion]
        if len(values) > 1:
            low, high = np.nanmin(of_runs, axis=0), np.nanmax(of_runs, axis=0)
            axes.fill_between(numbers, low, high, color=colour, alpha=0.13, linewidth=0)
        every = max(1, len(numbers) // 8)
        style: dict[str, Any] = {"color": colour, "marker": MARKERS[emotion]}
        axes.plot(numbers, mean, markevery=every, **style)
        ends.append((float(mean[-1]), emotion, style))
    _show_epochs(axes, numbers[-1])
    label_ends(axes, ends)


def _show_epochs(axes: Axes, last: int) -> None:
    axes.set_xlim(1 if last > 1 else 0.5, last if last > 1 else 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")


def _stack(curves: Sequence[Curve]) -> tuple[list[int], np.ndarray]:
    """The epochs that any run has, and r as (R, E, 6): nan where a run has none, 0 where it is undefined."""
    numbers = sorted({e.number for curve in curves for e in curve.epochs if e.mean_pearson is not None})
    values = np.full((len(curves), len(numbers), len(EMOTIONS)), np.nan)
    for row, curve in enumerate(curves):
        for epoch in curve.epochs:
            if epoch.mean_pearson is not None:
                values[row, numbers.index(epoch.number)] = [epoch.pearson.get(e) or 0.0 for e in EMOTIONS]
    return numbers, values
