"""Charts of the runs: how loss and validation went, epoch by epoch, for every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from abaw_emi.core.constants import EMOTIONS, VERSION
from abaw_emi.report.history import Curve
from abaw_emi.report.palette import LIGHT
from abaw_emi.report.style import MEDIUM, Chart, Panel, sheet
from abaw_emi.report.wording import shorten, spread_labels

_NAMED = 6
"""Curves that are named where they end; more names would hide one another."""

MARKERS = dict(zip(EMOTIONS, "osD^vP", strict=True))
"""A second code beside colour."""


def chart_curves(curves: Sequence[Curve], names: Sequence[str]) -> Chart:
    """Training loss and validation of every run, and the validation of each emotion over the runs."""
    drawn = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve.epochs]
    scored = [(name, curve) for name, curve in drawn if curve.best is not None]
    losses = ", ".join(f"{name} {curve.epochs[-1].loss:.4f}" for name, curve in drawn)
    panels = [
        Panel(
            title="Training loss",
            alt=f"Training loss by epoch. At the end: {losses}.",
            draw=partial(_draw_loss, curves=drawn),
            size=MEDIUM,
        ),
        Panel(
            title="Learning rate",
            alt="Learning rate at the end of each epoch.",
            draw=partial(_draw_rate, curves=drawn),
            size=MEDIUM,
        ),
    ]
    if scored:
        bests = ", ".join(
            f"{name} {c.best.mean_pearson:.4f} in epoch {c.best.number}" for name, c in scored if c.best
        )
        panels[1:1] = [
            Panel(
                title="Validation, mean Pearson",
                alt=f"Validation mean Pearson by epoch. Best: {bests}.",
                draw=partial(_draw_validation, curves=scored),
                size=MEDIUM,
            ),
            Panel(
                title="Validation per emotion",
                alt="Validation Pearson of each emotion by epoch, over the runs. "
                + _name_last([curve for _, curve in scored]),
                draw=partial(_draw_emotions, curves=[curve for _, curve in scored]),
                size=MEDIUM,
            ),
        ]
    rows = [
        [
            name,
            epoch.number,
            epoch.loss,
            epoch.learning_rate,
            epoch.mean_pearson,
            *(epoch.pearson.get(e) for e in EMOTIONS),
        ]
        for name, curve in drawn
        for epoch in curve.epochs
    ]
    return Chart(
        name="training-curves",
        title="How the runs went",
        caption="A line a run; a ring marks the epoch whose weights were kept. Per emotion: mean and range "
        "of the runs. These numbers chose the epochs, so they are optimistic.",
        panels=panels,
        data=sheet(["run", "epoch", "train_loss", "learning_rate", "valid_mean_pearson", *EMOTIONS], rows),
        signature=f"training_curves|runs:{len(drawn)}|metrics.jsonl|abaw_emi:{VERSION}",
    )


def _draw_loss(axes: Axes, *, curves: Sequence[tuple[str, Curve]]) -> None:
    lines = [(name, [(e.number, e.loss) for e in curve.epochs]) for name, curve in curves]
    finite = [loss for _, points in lines for _, loss in points if math.isfinite(loss)]  # some diverge
    axes.set_ylim(0, 1.04 * max(finite, default=0.0) or 1.0)
    _draw_runs(axes, lines)


def _draw_rate(axes: Axes, *, curves: Sequence[tuple[str, Curve]]) -> None:
    lines = [
        (name, [(e.number, e.learning_rate) for e in curve.epochs if e.learning_rate is not None])
        for name, curve in curves
    ]
    _draw_runs(axes, [(name, points) for name, points in lines if points], named=False)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))


def _draw_validation(axes: Axes, *, curves: Sequence[tuple[str, Curve]]) -> None:
    lines = [
        (name, [(e.number, e.mean_pearson) for e in curve.epochs if e.mean_pearson is not None])
        for name, curve in curves
    ]
    _draw_runs(axes, lines)
    for _, curve in curves:
        if curve.best and curve.best.mean_pearson is not None:
            axes.plot(
                curve.best.number,
                curve.best.mean_pearson,
                "o",
                color=LIGHT.accent,
                markerfacecolor=LIGHT.paper,
                zorder=3,
            )


def _draw_runs(
    axes: Axes, lines: Sequence[tuple[str, Sequence[tuple[int, float]]]], *, named: bool = True
) -> None:
    ends = []
    for name, points in lines:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=LIGHT.accent, alpha=0.75 if len(lines) > 1 else 1.0)
        if math.isfinite(y[-1]):
            ends.append((y[-1], shorten(name, 22)))
    last = max(points[-1][0] for _, points in lines)
    _draw_epochs(axes, last)
    if named and len(lines) <= _NAMED:
        spread_labels(axes, ends)


def _draw_emotions(axes: Axes, *, curves: Sequence[Curve]) -> None:
    numbers, values = _stack(curves)
    ends = []
    for place, emotion in enumerate(EMOTIONS):
        of_runs = values[:, :, place]
        mean, colour = np.nanmean(of_runs, axis=0), LIGHT.emotions[emotion]
        if len(curves) > 1:
            low, high = np.nanmin(of_runs, axis=0), np.nanmax(of_runs, axis=0)
            axes.fill_between(numbers, low, high, color=colour, alpha=0.13, linewidth=0)
        every = max(1, len(numbers) // 8)
        axes.plot(numbers, mean, color=colour, marker=MARKERS[emotion], markevery=every)
        ends.append((float(mean[-1]), emotion))
    _draw_epochs(axes, int(numbers[-1]))
    spread_labels(axes, ends, [(LIGHT.emotions[emotion], MARKERS[emotion]) for emotion in EMOTIONS])


def _draw_epochs(axes: Axes, last: int) -> None:
    axes.set_xlim(1 if last > 1 else 0.5, last if last > 1 else 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")


def _stack(curves: Sequence[Curve]) -> tuple[list[int], np.ndarray]:
    """The epochs that any run has, and (R, E, 6) their r, nan where a run has none; undefined counts 0."""
    numbers = sorted({e.number for curve in curves for e in curve.epochs if e.mean_pearson is not None})
    values = np.full((len(curves), len(numbers), len(EMOTIONS)), np.nan)
    for row, curve in enumerate(curves):
        for epoch in curve.epochs:
            if epoch.mean_pearson is not None:
                values[row, numbers.index(epoch.number)] = [epoch.pearson.get(e) or 0.0 for e in EMOTIONS]
    return numbers, values


def _name_last(curves: Sequence[Curve]) -> str:
    numbers, values = _stack(curves)
    mean = np.nanmean(values[:, -1], axis=0)
    told = ", ".join(f"{emotion} {r:.3f}" for emotion, r in zip(EMOTIONS, mean, strict=True))
    return f"In epoch {numbers[-1]}: {told}."
