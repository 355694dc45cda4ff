"""Scores and comparisons as text, frames, HTML and plots, for the command line and notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from abaw_emi.core.installation import REPORT, require
from abaw_emi.core.terminal import escape_controls, find_width, fit_line
from abaw_emi.evaluation.text_tables import TextTable, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from abaw_emi.evaluation.score import Score


def frame_scores(scores: Mapping[str, Score]) -> pl.DataFrame:
    """A row for each system and statistic: `System`, `Statistic`, `r`, `low`, `high`; null if undefined."""
    rows = []
    for name, score in scores.items():
        for statistic, r in {"mean_pearson": score.mean_pearson, **score.pearson}.items():
            low, high = score.interval.get(statistic) or (None, None)
            rows.append((name, statistic, r, low, high))
    texts, numbers = ("System", "Statistic"), ("r", "low", "high")
    schema = {name: pl.String() for name in texts} | {name: pl.Float64() for name in numbers}
    return pl.DataFrame(rows, schema=schema, orient="row")


def render_score(score: Score, interval: str = "95 % interval") -> str:
    """A score as text: its table, each difference, and what was resampled; `interval` heads the intervals."""
    width = find_width()
    blocks = [render(score.table(interval), "table")]
    blocks += [
        f"{render(each.table(), 'table')}\n{fit_line(each.describe(), width)}"
        for each in score.against.values()
    ]
    blocks[-1] += "\n\n" if score.against else "\n"
    text = "\n\n".join(blocks) + fit_line(describe_intervals(score.n, score.groups), width)
    return escape_controls(text)


def describe_intervals(n: int, groups: int | None) -> str:
    """What was resampled."""
    return f"{n:,} clips, taken as independent" if groups is None else f"{n:,} clips of {groups:,} groups"


def render_html(tables: Sequence[TextTable], notes: Sequence[str] = ()) -> str:
    """Tables and lines below them as HTML; every text is escaped."""
    parts = []
    for table in tables:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
        rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
        caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    parts += [f"<p><small>{escape(note)}</small></p>" for note in notes]
    return "".join(parts)


def plot_scores(scores: Mapping[str, Score], axes: Axes | None = None) -> Axes:
    """Each system's mean and emotions as points with their intervals, but for undefined ones; the axes.

    Raises:
        InstallationError: matplotlib is not installed.
    """
    require(REPORT, "report")
    from matplotlib import pyplot

    if axes is None:
        _, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    names: list[str] = []
    for number, (name, score) in enumerate(scores.items()):
        values: dict[str, Any] = {"mean": score.mean_pearson, **score.pearson}
        names = list(values)
        places = [place + 0.15 * (number - (len(scores) - 1) / 2) for place in range(len(names))]
        axes.plot(places, [math.nan if r is None else r for r in values.values()], "o", label=name)
        for place, statistic in zip(places, ["mean_pearson", *score.pearson], strict=True):
            if bounds := score.interval.get(statistic):
                axes.plot([place, place], bounds, color=axes.lines[-1].get_color(), linewidth=1)
    axes.set_xticks(range(len(names)), names, rotation=20)
    axes.set_ylabel("Pearson's r")
    axes.axhline(0, color="grey", linewidth=0.5)
    if len(scores) > 1:
        axes.legend()
    return axes
