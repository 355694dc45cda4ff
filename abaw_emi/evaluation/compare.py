"""Several systems on the same clips: ranked, every pair tested, and what combining two of them gains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, IntervalMethod
from abaw_emi.core.errors import Problem, ScoreError, UsageError, collect_errors
from abaw_emi.data.align import align
from abaw_emi.data.frames import Given, Ids, Table, check_named, read_group_table, read_table, read_trained_on
from abaw_emi.data.groups import number_groups
from abaw_emi.data.scope import Scope, find_scope
from abaw_emi.evaluation.bootstrap import DEFAULT_PERMUTATIONS, DEFAULT_RESAMPLES, DEFAULT_SEED, Resampling
from abaw_emi.evaluation.notebook import describe_intervals, frame_scores, plot_scores, render_html
from abaw_emi.evaluation.pearson import mean_pearson, pearson, standardise
from abaw_emi.evaluation.score import Score, score_arrays, sign
from abaw_emi.evaluation.significance import MEAN, Difference, compare_pairs
from abaw_emi.evaluation.text_tables import (
    FORMATS,
    TextTable,
    format_clipped,
    format_interval,
    format_p,
    format_r,
    render,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two systems beside each other; the first has the higher score.

    Attributes:
        difference: the first's score minus the second's, with interval and tests.
        correlation: Pearson's r between their predictions, per emotion; None where one is constant.
        mean_correlation: the mean of it, None counted as 0. The lower, the more an ensemble can gain.
        mean_of_both: the mean Pearson of the mean of their z-scores.
        gain: that, minus the better one's score.
    """

    difference: Difference
    correlation: dict[str, float | None]
    mean_correlation: float
    mean_of_both: float
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes:
        scores: of each system, the best first.
        pairs: every two systems, in the order of the ranking.
        n: clips compared.
        signature: the settings that made these numbers, on one line.
        problems: what a reader of the comparison must know.
    """

    scores: dict[str, Score]
    pairs: tuple[Pair, ...]
    n: int
    signature: str
    problems: tuple[Problem, ...] = ()

    def beats(self, name: str) -> tuple[str, ...]:
        """The systems that this one is shown to be better than, by the mean Pearson."""
        differences = [pair.difference for pair in self.pairs]
        return tuple(d.second for d in differences if d.first == name and d.verdict == "better")

    def tables(self) -> tuple[TextTable, TextTable]:
        """The ranking and the pairs, as tables of text."""
        scores = self.scores.values()
        clipped = any(format_clipped(each.mean_pearson, each.clipped_mean_pearson) for each in scores)
        header = ["System", "Mean", "95 % interval", *["Clipped"] * clipped, *EMOTIONS, "Beats"]
        ranking = [
            [
                f"{name} (SEEN IN TRAINING)" if found.seen else name,
                format_r(found.mean_pearson),
                format_interval(found.interval.get(MEAN)),
                *[format_r(found.clipped_mean_pearson)] * clipped,
                *(format_r(found.pearson[emotion]) for emotion in EMOTIONS),
                ", ".join(self.beats(name)) or "-",
            ]
            for name, found in self.scores.items()
        ]
        pairs = [
            [
                f"{pair.difference.first} - {pair.difference.second}",
                format_r(pair.difference.difference[MEAN], signed=True),
                format_interval(pair.difference.interval[MEAN], signed=True),
                format_p(pair.difference.p[MEAN]),
                format_p(pair.difference.p_holm[MEAN]),
                pair.difference.verdict,
                ""
                if pair.difference.detectable[MEAN] is None
                else format_r(pair.difference.detectable[MEAN]),
                format_r(pair.mean_correlation),
                format_r(pair.gain, signed=True),
            ]
            for pair in self.pairs
        ]
        named = ["Pair", "Difference", "95 % interval", "p", "p Holm", "First is", "Detectable"]
        named += ["Correlation", "Gain of mean"]
        return TextTable(header, ranking, "Systems"), TextTable(named, pairs, "Pairs")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the problems, unrounded."""
        systems = [
            {
                "rank": rank,
                "name": name,
                **found.numbers,
                "contaminated": found.seen > 0,
                "beats": list(self.beats(name)),
            }
            for rank, (name, found) in enumerate(self.scores.items(), start=1)
        ]
        pairs = [
            {
                **pair.difference.to_json(),
                "correlation": pair.correlation,
                "mean_correlation": pair.mean_correlation,
                "mean_of_both": pair.mean_of_both,
                "gain": pair.gain,
            }
            for pair in self.pairs
        ]
        return {"n": self.n, "signature": self.signature, "systems": systems, "pairs": pairs}

    def to_frame(self) -> pl.DataFrame:
        """Each system's mean and emotions: `System`, `Statistic`, `r`, `low`, `high`; the best first."""
        return frame_scores(self.scores)

    def plot(self, axes: Any = None) -> Any:
        """Each system's mean and emotions with intervals, on matplotlib's axes, which are returned."""
        return plot_scores(self.scores, axes)

    def __str__(self) -> str:
        groups = next(iter(self.scores.values())).groups
        return f"{self.render()}\n\n{describe_intervals(self.n, groups)}\n{self.signature}"

    def _repr_html_(self) -> str:
        return render_html(self.tables(), [self.signature])

    def render(self, form: str = "table") -> str:
        """Ranking and pairs as text; as CSV the ranking alone, one header and one row a system.

        Args:
            form: one of `text_tables.FORMATS`.

        Raises:
            UsageError: no such form.
        """
        if form not in FORMATS:
            raise UsageError(Problem("form", repr(form), f"one of {', '.join(FORMATS)}"))
        if form == "json":
            return json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if form == "csv":
            return render(self._values(), form)
        return "\n\n".join(render(table, form) for table in self.tables())

    def _values(self) -> TextTable:
        """The ranking with unrounded numbers."""
        rows = [
            [
                name,
                repr(found.mean_pearson),
                *map(repr, found.interval.get(MEAN) or ()),
                *([""] * (0 if found.interval.get(MEAN) else 2)),
                *("" if found.pearson[e] is None else repr(found.pearson[e]) for e in EMOTIONS),
                " ".join(self.beats(name)),
            ]
            for name, found in self.scores.items()
        ]
        return TextTable(["system", MEAN, "low", "high", *EMOTIONS, "beats"], rows)


__all__ = ["Comparison", "Pair", "compare"]

_FEWEST = 2


def compare(
    truth: Table,
    systems: Mapping[str, Table],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
    seed: int = DEFAULT_SEED,
    method: IntervalMethod = "percentile",
    groups: Table | None = None,
    trained_on: Mapping[str, Ids] | None = None,
    name: str = "labels",
) -> Comparison:
    """Ranks systems on the same clips; every pair is tested, and all pairs are corrected together.

    Args:
        truth: the labels, a CSV file or a frame of polars or pandas, as all tables here.
        systems: predictions of the same clips, by name, two at least.
        resamples: bootstrap resamples; 0 for no interval.
        permutations: of each paired test.
        seed: seed of all resampling.
        method: of the intervals.
        groups: the clips' groups, resampled and swapped whole.
        trained_on: ids that a system was trained on, or a table of them, by its name.
        name: what messages call the labels.

    Raises:
        ScoreError: fewer than two systems, or ids are missing, extra or duplicate; all of them named.

    >>> import polars as pl
    >>> from abaw_emi.core.constants import EMOTIONS
    >>> ids = [f"{i:05}" for i in range(40)]
    >>> wave = [float(i % 7) for i in range(40)]
    >>> labels = pl.DataFrame({"Filename": ids, **{e: wave for e in EMOTIONS}})
    >>> noisy = labels.with_columns(pl.col(EMOTIONS) + pl.Series([float(i % 3) for i in range(40)]))
    >>> worse = labels.with_columns(pl.col(EMOTIONS) + pl.Series([9.0 * (i % 3) for i in range(40)]))
    >>> found = compare(labels, {"worse": worse, "noisy": noisy}, resamples=0)
    >>> list(found.scores), found.beats("noisy")
    (['noisy', 'worse'], ('worse',))
    """
    given, scope, arrays, clusters = _read(truth, systems, groups, name)
    y, clips = scope.truth.select(EMOTIONS).to_numpy(), set(scope.truth[FILENAME])
    how = Resampling(
        resamples=resamples, permutations=permutations, seed=seed, method=method, clusters=clusters
    )
    known = read_trained_on(trained_on, given)
    seen = {key: len(clips & (each.trained_on | known[key])) for key, each in given.items()}
    scores = {
        system: score_arrays(y, p, how, seen=seen[system], names=(name, system))
        for system, p in arrays.items()
    }
    found = [problem for score in scores.values() for problem in score.problems]
    found += [doubt for each in given.values() for doubt in each.doubts]
    ranked = sorted(scores, key=lambda system: -scores[system].mean_pearson)
    pairs = list(combinations(range(len(ranked)), 2))
    differences = compare_pairs(y, [arrays[system] for system in ranked], ranked, pairs, how)
    return Comparison(
        scores={system: scores[system] for system in ranked},
        pairs=tuple(_pair(y, arrays, difference) for difference in differences),
        n=len(y),
        signature=sign(len(y), how, tests=len(pairs)),
        problems=tuple(dict.fromkeys([*found, *scope.notes, *how.doubts])),
    )


def _read(
    truth: Table, systems: Mapping[str, Table], groups: Table | None, name: str
) -> tuple[dict[str, Given], Scope, dict[str, Array], npt.NDArray[np.intp] | None]:
    """The systems as given, and what of them is scored: the predictions (N, 6), the clips' groups (N,).

    Raises:
        ScoreError: what `compare` raises.
    """
    labels = read_table(truth, name, "labels").table
    check_named(systems, "systems")
    if len(systems) < _FEWEST:
        raise ScoreError(Problem("compare", f"{len(systems)} system", "two at least"))
    problems: list[Problem] = []
    given: dict[str, Given] = {}
    arrays: dict[str, Array] = {}
    for system, source in systems.items():
        with collect_errors(problems):
            given[system] = read_table(source, system, "predictions")
    scope = find_scope(labels, given)
    for system, table in scope.tables.items():
        with collect_errors(problems):
            _, arrays[system] = align(scope.truth, table, (name, system))
    clusters = None
    if groups is not None:
        with collect_errors(problems):
            clips = scope.truth[FILENAME].to_list()
            clusters = number_groups(read_group_table(groups), clips, (name, "groups"))
    if problems:
        raise ScoreError(problems)
    return given, scope, arrays, clusters


def _pair(truth: Array, arrays: Mapping[str, Array], difference: Difference) -> Pair:
    first, second = arrays[difference.first], arrays[difference.second]
    r = pearson(first, second)
    both = mean_pearson(truth, standardise(first) + standardise(second))
    return Pair(
        difference=difference,
        correlation={e: None if np.isnan(v) else float(v) for e, v in zip(EMOTIONS, r, strict=True)},
        mean_correlation=float(np.nan_to_num(r).mean()),
        mean_of_both=both,
        gain=both - max(mean_pearson(truth, first), mean_pearson(truth, second)),
    )
