"""Charts that compare: pairs of systems, ensembles of more and more members, submissions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from abaw_emi.evaluation.compare import Comparison, Pair
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.charts.chart import MEDIUM, Chart, Panel, sign, to_table
from abaw_emi.report.charts.style import (
    LIGHT,
    draw_matrix,
    draw_rows,
    format_bounds,
    format_number,
    points,
    shorten,
)
from abaw_emi.report.ensembles import Gain
from abaw_emi.report.sources import read_validation
from abaw_emi.submission.ledger import Entry, Ledger

SHOWN = 0.32
"""Opacity of the cell of a significant difference."""
_NOT_SHOWN = 0.14


def chart_comparison(comparison: Comparison) -> Chart:
    """Differences of the mean Pearson of every two systems, and which of them are significant."""
    names = list(comparison.scores)
    better = [
        f"{name} is better than {', '.join(comparison.beats(name))}"
        for name in names
        if comparison.beats(name)
    ]
    rows = [
        [
            pair.difference.first,
            pair.difference.second,
            pair.difference.difference[MEAN],
            *(pair.difference.interval[MEAN] or (None, None)),
            pair.difference.p[MEAN],
            pair.difference.p_holm[MEAN],
            pair.difference.verdict,
        ]
        for pair in comparison.pairs
    ]
    return Chart(
        name="who-beats-whom",
        title="Differences between systems",
        caption="Mean Pearson of the row minus that of the column, and below it p of the paired permutation "
        "test, corrected after Holm over all pairs. A coloured cell is a significant difference (p < 0.05).",
        panels=[
            Panel(
                title="Row minus column",
                alt="; ".join(better) + "." if better else "No difference is significant.",
                draw=partial(_draw_pairs, names=names, pairs=comparison.pairs),
                size=(
                    max(MEDIUM[0], 150 + 62.0 * (len(names) - 1)),
                    max(150.0, 84 + 42.0 * (len(names) - 1)),
                ),
            )
        ],
        data=to_table(["first", "second", "difference", "low", "high", "p", "p_holm", "first_is"], rows),
        signature=comparison.signature,
    )


def chart_gain(gain: Gain) -> Chart:
    """The score of the unweighted mean by its number of members."""
    sizes = list(gain.scores)
    means = [float(gain.scores[size].mean()) for size in sizes]
    rows = [
        [size, len(values), mean, float(values.min()), float(values.max()), *gain.intervals[size]]
        for (size, values), mean in zip(gain.scores.items(), means, strict=True)
    ]
    d = gain.difference
    how = "all subsets" if gain.exhaustive else "random subsets where there are many"
    return Chart(
        name="ensemble-gain",
        title="Ensembles of more members",
        caption=f"Mean Pearson of the unweighted mean of k of {len(gain.members)} members: mean (line) and "
        f"range (band) over {how}, with the 95% bootstrap interval over clips (bars). Dashed: the best "
        f"member, {d.second}, {format_number(gain.best)}. The mean of all minus the best member is "
        f"{format_number(d.difference[MEAN], signed=True)} {format_bounds(d.interval[MEAN], signed=True)}, "
        f"{'not significant' if d.verdict == 'not shown' else 'significant'} (p {format_number(d.p[MEAN])}); "
        "the best member was selected on these clips, which favours it.",
        panels=[
            Panel(
                title="Mean Pearson by number of members",
                alt=", ".join(
                    f"{size}: {format_number(mean)}" for size, mean in zip(sizes, means, strict=True)
                )
                + ".",
                draw=partial(_draw_gain, gain=gain),
                size=MEDIUM,
            )
        ],
        data=to_table(["members", "subsets", "mean", "lowest", "highest", "low", "high"], rows),
        signature=gain.signature,
    )


def chart_submissions(ledger: Ledger) -> Chart | None:
    """Validation interval and test score of every submission; None where no submission has either."""
    known = [entry for entry in ledger.entries if entry.test_score is not None or entry.val]
    if not known:
        return None
    rows = [
        [entry.name, *read_validation(entry), entry.test_score, "yes" if entry.sent else "no"]
        for entry in known
    ]
    described = "; ".join(
        f"{entry.name}: validation {_or_unknown(read_validation(entry)[0])}, "
        f"test {_or_unknown(entry.test_score)}"
        for entry in known
    )
    return Chart(
        name="validation-and-test",
        title="Validation and test",
        caption="Ring: validation score with its 95% interval, from the ledger; diamond: test score, as "
        "it was entered there. In every public report of this challenge the test score is the higher one.",
        panels=[
            Panel(
                title="Mean Pearson",
                alt=described + ".",
                draw=partial(_draw_submissions, entries=known),
                size=(MEDIUM[0], 86 + 30.0 * len(known)),
            )
        ],
        data=to_table(["submission", "validation", "low", "high", "test", "sent"], rows),
        signature=sign("ledger", f"submissions:{len(ledger.entries)}"),
    )


def _or_unknown(value: float | None) -> str:
    return "not known" if value is None else format_number(value)


def _draw_pairs(axes: Axes, *, names: Sequence[str], pairs: Sequence[Pair]) -> None:
    place = {name: number for number, name in enumerate(names)}
    for pair in pairs:
        d = pair.difference
        row, column = place[d.first], place[d.second]
        shown = d.verdict != "not shown"
        axes.add_patch(
            Rectangle(
                (column - 0.47, row - 0.46),
                0.94,
                0.92,
                facecolor=LIGHT.positive if shown else LIGHT.muted,
                alpha=SHOWN if shown else _NOT_SHOWN,
                linewidth=0,
            )
        )
        text = format_number(d.difference[MEAN], signed=True)
        weight = "bold" if shown else "normal"
        axes.text(column, row - 0.16, text, ha="center", va="center", fontweight=weight)
        p = f"p {format_number(d.p_holm[MEAN])}"
        axes.text(column, row + 0.22, p, ha="center", va="center", size="small")
    last = len(names) - 1
    axes.set_xlim(0.5, last + 0.5)
    axes.set_ylim(last - 0.5, -0.5)
    axes.set_xticks(range(1, last + 1), [shorten(name, 12) for name in names[1:]])
    axes.set_yticks(range(last), [shorten(name, 18) for name in names[:-1]])
    axes.xaxis.tick_top()
    axes.tick_params(labelcolor=LIGHT.ink)
    draw_matrix(axes)


def _draw_gain(axes: Axes, *, gain: Gain) -> None:
    sizes = list(gain.scores)
    values = list(gain.scores.values())
    means = np.array([scores.mean() for scores in values])
    reach = np.abs(np.array([gain.intervals[size] for size in sizes]).T - means)  # (2, sizes): below, above
    lowest, highest = [scores.min() for scores in values], [scores.max() for scores in values]
    axes.fill_between(sizes, lowest, highest, color=LIGHT.accent, alpha=0.25, linewidth=0)
    axes.errorbar(sizes, means, reach, fmt="o-", color=LIGHT.accent, elinewidth=points(1), capsize=points(3))
    axes.axhline(gain.best, color=LIGHT.ink, linestyle=(0, (4, 3)), linewidth=points(0.9))
    for place in (0, -1):
        axes.annotate(
            format_number(float(means[place])),
            (sizes[place], means[place]),
            xytext=(points(-6 if place else 6), points(6 if place else -14)),
            textcoords="offset points",
            ha="right" if place else "left",
        )
    axes.set_xlim(sizes[0] - 0.15, sizes[-1] + 0.15)
    axes.xaxis.set_major_locator(MaxNLocator(min(8, len(sizes)), integer=True))
    axes.set_xlabel("members")


def _draw_submissions(axes: Axes, *, entries: Sequence[Entry]) -> None:
    for row, entry in enumerate(entries):
        mean, low, high = read_validation(entry)
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=LIGHT.accent, linewidth=points(2.2), alpha=0.5)
        if mean is not None:
            axes.plot(mean, row, "o", color=LIGHT.accent, markerfacecolor=LIGHT.paper)
        if entry.test_score is not None:
            axes.plot(entry.test_score, row, "D", color=LIGHT.ink)
    draw_rows(axes, [shorten(entry.name, 22) for entry in entries], "mean Pearson")
