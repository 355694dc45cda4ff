"""The chart of scores with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes

from abaw_emi.core.constants import EMOTIONS, OFFICIAL_COUNTS, REFERENCE_SCORES
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.charts.chart import MEDIUM, Chart, Panel, to_table
from abaw_emi.report.charts.style import LIGHT, draw_rows, format_bounds, format_number, points, shorten
from abaw_emi.report.results import Results, Standing

_MOST_NAMES = 10
"""Systems that a chart names."""


def chart_scores(results: Results) -> Chart:
    """The best system per emotion, and the mean of every system, with 95% intervals."""
    best = results.standings[0]
    shown = results.standings[:_MOST_NAMES]
    size = (MEDIUM[0], max(MEDIUM[1], 90 + 22.0 * len(shown)))
    official = results.split == "valid" and best.score.n == OFFICIAL_COUNTS["valid"]
    references = REFERENCE_SCORES if official else {}
    every = len(shown) == len(results.standings)
    rows = [
        [standing.name, name, value, *(standing.score.interval.get(name) or (None, None))]
        for standing in results.standings
        for name, value in {MEAN: standing.score.mean_pearson, **standing.score.pearson}.items()
    ]
    lines = ", ".join(f"{name} {format_number(score, 3)}" for name, score in references.items())
    return Chart(
        name="scores",
        title="Scores with intervals",
        caption="Pearson's r with its 95% bootstrap interval; grey ticks are the other systems. The "
        "intervals of two systems may overlap although one is significantly better: see the comparison."
        + (
            f" Dashed: published scores on the official valid, {lines}; they are shown because this split "
            f"has its number of clips, {best.score.n:,}."
            if lines
            else ""
        ),
        panels=[
            Panel(
                title=f"{shorten(best.name, 30)}, per emotion",
                alt=f"Pearson of {best.name} with 95% intervals: "
                + ", ".join(_describe(best, emotion, emotion) for emotion in EMOTIONS)
                + ".",
                draw=partial(_draw_emotions, best=best, others=shown[1:]),
                size=size,
            ),
            Panel(
                title=f"Mean Pearson of {'every system' if every else f'the best {len(shown)} systems'}",
                alt="Mean Pearson with 95% intervals: "
                + ", ".join(_describe(standing, MEAN, standing.name) for standing in shown)
                + ".",
                draw=partial(_draw_systems, standings=shown, references=references),
                size=size,
            ),
        ],
        data=to_table(["system", "statistic", "pearson", "low", "high"], rows),
        signature=best.score.signature,
    )


def _value(standing: Standing, statistic: str) -> float | None:
    score = standing.score
    return score.mean_pearson if statistic == MEAN else score.pearson[statistic]


def _describe(standing: Standing, statistic: str, name: str) -> str:
    bounds = format_bounds(standing.score.interval.get(statistic))
    return f"{name} {format_number(_value(standing, statistic))} {bounds}".rstrip()


def _draw_emotions(axes: Axes, *, best: Standing, others: Sequence[Standing]) -> None:
    for row, name in enumerate([*EMOTIONS, MEAN]):
        theirs = [value for other in others if (value := _value(other, name)) is not None]
        axes.vlines(theirs, row - 0.22, row + 0.22, color=LIGHT.muted, alpha=0.55, linewidth=points(1))
        _draw_interval(axes, row, best, name, LIGHT.emotions.get(name, LIGHT.ink))
    draw_rows(axes, [*EMOTIONS, "Mean"], "Pearson's r")
    axes.axhline(len(EMOTIONS) - 0.5, color=LIGHT.rule, linewidth=points(0.8))


def _draw_systems(axes: Axes, *, standings: Sequence[Standing], references: Mapping[str, float]) -> None:
    for row, standing in enumerate(standings):
        _draw_interval(axes, row, standing, MEAN, LIGHT.accent if row == 0 else LIGHT.muted)
    draw_rows(axes, [shorten(standing.name, 22) for standing in standings], "mean Pearson")
    bottom = len(standings) - 0.35
    for name, score in references.items():
        axes.vlines(score, -0.75, bottom, color=LIGHT.ink, linestyle=(0, (4, 3)), linewidth=points(0.9))
        axes.text(score, bottom + 0.05, name, ha="center", va="top", color=LIGHT.muted)
    if references:
        axes.set_ylim(bottom + 0.9, -0.75)


def _draw_interval(axes: Axes, row: float, standing: Standing, statistic: str, colour: str) -> None:
    value = _value(standing, statistic)
    if value is None:
        return
    if bounds := standing.score.interval.get(statistic):
        axes.plot(bounds, [row, row], color=colour, linewidth=points(2.2), alpha=0.55)
    axes.plot(value, row, "o", color=colour)
    # In a column at the right, as in a table.
    across = axes.get_yaxis_transform()
    axes.text(1.16, row, format_number(value), transform=across, ha="right", va="center_baseline")
