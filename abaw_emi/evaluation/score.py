"""The challenge's score of a prediction table, with intervals, and against rivals.

Source: PAPER (see `constants`), equations 1 and 2. The order of arguments is truth, prediction. Tables are
matched by Filename, never by row. A constant column has no correlation: it is reported as undefined and
counted as 0 in the mean. Intervals take the clips as independent unless groups are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, VERSION, IntervalMethod
from abaw_emi.core.errors import Problem, ScoreError, attempt, collect_errors
from abaw_emi.data.align import align
from abaw_emi.data.frames import Given, Ids, Table, check_named, read_clip_ids, read_group_table, read_table
from abaw_emi.data.groups import number_groups
from abaw_emi.data.scope import find_scope
from abaw_emi.evaluation.bootstrap import (
    CONFIDENCE,
    DEFAULT_PERMUTATIONS,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    Resampling,
    bootstrap,
    interval,
    jackknife,
    mean_first,
)
from abaw_emi.evaluation.notebook import frame_scores, plot_scores, render_html, render_score
from abaw_emi.evaluation.pearson import clipped_mean_pearson, mean_pearson, pearson
from abaw_emi.evaluation.significance import MEAN, STATISTICS, Difference, compare_pairs
from abaw_emi.evaluation.text_tables import TextTable, format_clipped, format_interval, format_r

__all__ = ["Score", "mean_pearson", "pearson", "score", "score_arrays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What `score` found.

    Attributes:
        pearson: Pearson's r per emotion, in [-1, 1]; None where it is undefined.
        mean_pearson: their mean, an undefined one counted as 0: the challenge score.
        clipped_mean_pearson: the same of the predictions clipped to [0, 1]: what `submit` sends, unless it
            rescales.
        interval: bootstrap intervals (low, high) under "mean_pearson" and each emotion, None where r is
            undefined; empty without resamples.
        n: clips compared.
        signature: the settings that made these numbers, on one line.
        groups: how many groups were resampled; None where clips were taken as independent.
        against: the difference to each rival, by its name.
        seen: how many of the clips the predictor was trained on.
        problems: what a reader of the score must know.
    """

    pearson: dict[str, float | None]
    mean_pearson: float
    clipped_mean_pearson: float
    interval: dict[str, tuple[float, float] | None]
    n: int
    signature: str
    groups: int | None = None
    against: dict[str, Difference] = field(default_factory=dict)
    seen: int = 0
    problems: tuple[Problem, ...] = field(default=())

    @property
    def undefined(self) -> tuple[str, ...]:
        """The emotions whose correlation is undefined."""
        return tuple(emotion for emotion, value in self.pearson.items() if value is None)

    @property
    def numbers(self) -> dict[str, Any]:
        """The scores and their intervals, without what made them."""
        return {
            "mean_pearson": self.mean_pearson,
            "clipped_mean_pearson": self.clipped_mean_pearson,
            "pearson": self.pearson,
            "interval": self.interval,
        }

    def table(self, interval: str = "95 % interval") -> TextTable:
        """A row for each emotion and the mean, and for that of clipped predictions where it differs.

        Args:
            interval: the header of the intervals, which are left out where there are none.
        """
        rows = [
            [name, format_r(r), format_interval(self.interval.get(key))]
            for name, key, r in (
                *((emotion, emotion, r) for emotion, r in self.pearson.items()),
                ("Mean", MEAN, self.mean_pearson),
            )
        ]
        if clipped := format_clipped(self.mean_pearson, self.clipped_mean_pearson):
            rows.append(["Mean, clipped", clipped, ""])
        wide = 3 if self.interval else 2
        return TextTable(["", "Pearson", interval][:wide], [row[:wide] for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the problems, unrounded."""
        return {
            **self.numbers,
            "n": self.n,
            "groups": self.groups,
            "signature": self.signature,
            "seen": self.seen,
            "against": {name: difference.to_json() for name, difference in self.against.items()},
        }

    def to_frame(self) -> pl.DataFrame:
        """The mean and each emotion: `Statistic`, `r`, `low`, `high`; null where undefined."""
        return frame_scores({"": self}).drop("System")

    def plot(self, axes: Any = None) -> Any:
        """The mean and each emotion with their intervals, on matplotlib's axes, which are returned."""
        return plot_scores({"": self}, axes)

    def __str__(self) -> str:
        return "\n".join([*self._seen, render_score(self), self.signature])

    def _repr_html_(self) -> str:
        return render_html([self.table()], [*self._seen, self.signature])

    @property
    def _seen(self) -> list[str]:
        return ["SEEN IN TRAINING: not a validation score"] if self.seen else []


def score(
    truth: Table,
    prediction: Table,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
    method: IntervalMethod = "percentile",
    groups: Table | None = None,
    against: Mapping[str, Table] | None = None,
    permutations: int = DEFAULT_PERMUTATIONS,
    trained_on: Ids = (),
    precisions: Sequence[str] = (),
    names: tuple[str, str] = ("labels", "predictions"),
) -> Score:
    """Scores predictions against the labels of the same clips, matched by Filename.

    Tables are CSV files or frames of polars or pandas (`data.frames`). Clips that, by the record beside a
    prediction file, cannot be read or are of other folds are left out (`data.scope`); `problems` says so.

    Args:
        truth: the labels.
        prediction: the predictions, rows in any order; the record beside a file is read with it.
        resamples: bootstrap resamples; 0 for no interval.
        seed: seed of all resampling.
        method: "percentile" or "bca".
        groups: the clips' groups (`groups.read_groups`), resampled whole; None takes the clips as
            independent.
        against: rivals' predictions of the same clips, by name: paired intervals and tests.
        permutations: of each paired test.
        trained_on: ids that the predictor was trained on, or a table of them.
        precisions: its arithmetic where that was not float32, for the signature.
        names: what messages call the two tables.

    Raises:
        ScoreError: a table cannot be used; ids are missing, extra or duplicate, or have no group; all of
            them named.
        UsageError: no such method.

    >>> import polars as pl
    >>> from abaw_emi.core.constants import EMOTIONS
    >>> columns = {"Filename": ["00001", "00002", "00003"], **dict.fromkeys(EMOTIONS, [0.0, 0.5, 1.0])}
    >>> labels = pl.DataFrame(columns)
    >>> result = score(labels, labels.with_columns(Joy=1 - pl.col("Joy")), resamples=0)
    >>> round(result.mean_pearson, 12), round(result.pearson["Joy"], 12)
    (0.666666666667, -1.0)
    """
    problems: list[Problem] = []
    labels = read_table(truth, names[0], "labels").table
    if against is not None:
        check_named(against, "against")
    # Under a key of its own: a rival may have its name.
    own = f"{names[1]}, scored" if names[1] in (against or {}) else names[1]
    given: dict[str, Given] = {}
    for name, source in {own: prediction, **(against or {})}.items():
        with collect_errors(problems):
            given[name] = read_table(source, name, "predictions")
    known = attempt(problems, read_clip_ids, trained_on, "trained_on") or ()
    scope = find_scope(labels, given)
    clips = scope.truth[FILENAME].to_list()
    arrays: dict[str, Array] = {}
    for name, read in scope.tables.items():
        with collect_errors(problems):
            _, arrays[name] = align(scope.truth, read, (names[0], name))
    how = Resampling(resamples=resamples, permutations=permutations, seed=seed, method=method)
    if groups is not None:
        table = attempt(problems, read_group_table, groups)
        clusters = (
            table if table is None else attempt(problems, number_groups, table, clips, (names[0], "groups"))
        )
        how = replace(how, clusters=clusters)
    if problems:
        raise ScoreError(problems)
    found = score_arrays(
        scope.truth.select(EMOTIONS).to_numpy(),
        arrays[own],
        how,
        rivals={name: arrays[name] for name in against or {}},
        seen=len(given[own].trained_on.union(known).intersection(clips)),
        precisions=precisions,
        names=names,
    )
    doubts = [doubt for each in given.values() for doubt in each.doubts]
    return replace(found, problems=(*found.problems, *scope.notes, *how.doubts, *doubts))


def score_arrays(
    truth: Array,
    prediction: Array,
    how: Resampling,
    *,
    rivals: Mapping[str, Array] | None = None,
    seen: int = 0,
    precisions: Sequence[str] = (),
    names: tuple[str, str] = ("labels", "predictions"),
) -> Score:
    """The score of arrays (N, 6) whose rows are the same clips; see `score`."""
    r = pearson(truth, prediction)
    per_emotion = {e: None if np.isnan(v) else float(v) for e, v in zip(EMOTIONS, r, strict=True)}
    problems = _find_constant(truth, [(names[1], prediction), *(rivals or {}).items()], names[0])
    if seen:
        found = f"SEEN IN TRAINING: the predictor was trained on {seen:,} of these {len(truth):,} clips"
        problems.append(Problem(names[1], f"{found}; this is not a validation score"))
    bounds: dict[str, tuple[float, float] | None] = {}
    if how.resamples:
        draws = mean_first(bootstrap(truth, [prediction], how)[:, 0])
        without = mean_first(jackknife(truth, [prediction], how)[:, 0]) if how.method == "bca" else None
        estimate = mean_first(np.nan_to_num(r))
        for statistic, (low, high) in zip(STATISTICS, interval(draws, estimate, how, without), strict=True):
            defined = per_emotion.get(statistic, estimate[0]) is not None
            if defined and np.isnan(low):
                found = "no BCa interval: the resamples do not spread around it"
                problems.append(Problem(f"{names[1]}, {statistic}", found))
            bounds[statistic] = (float(low), float(high)) if defined and not np.isnan(low) else None
    against: dict[str, Difference] = {}
    if rivals:
        pairs = [(0, place) for place in range(1, len(rivals) + 1)]
        systems, called = [prediction, *rivals.values()], [names[1], *rivals]
        against = {d.second: d for d in compare_pairs(truth, systems, called, pairs, how)}
    return Score(
        pearson=per_emotion,
        mean_pearson=mean_pearson(truth, prediction),
        clipped_mean_pearson=clipped_mean_pearson(truth, prediction),
        interval=bounds,
        n=len(truth),
        signature=sign(len(truth), how, tests=len(against), precisions=precisions),
        groups=how.groups,
        against=against,
        seen=seen,
        problems=tuple(problems),
    )


def sign(n: int, how: Resampling, *, tests: int = 0, precisions: Sequence[str] = ()) -> str:
    """The signature: the settings that make the same numbers again, on one line.

    Args:
        n: clips.
        how: the resampling.
        tests: paired tests that were corrected together.
        precisions: the predictor's arithmetic where that was not float32.
    """
    seed = f"seed:{how.seed}"
    ci = (
        f"{how.method},{CONFIDENCE:g},{how.resamples},{how.describe_clusters},{seed}"
        if how.resamples
        else "none"
    )
    test = f"|test:swap,{how.permutations},{how.describe_clusters},{seed},holm:{tests}" if tests else ""
    precision = f"|precision:{','.join(precisions)}" if precisions else ""
    return f"{MEAN}|n:{n}|undefined:as0|ci:{ci}{test}{precision}|abaw_emi:{VERSION}"


def _find_constant(truth: Array, systems: Sequence[tuple[str, Array]], name: str) -> list[Problem]:
    """A problem for every constant column: of the labels, called `name`, or of a system."""
    found = "are constant, so Pearson's r is undefined; counted as 0"
    return [
        Problem(f"{table}, {emotion}", f"the {'labels' if values is truth else 'predictions'} {found}")
        for table, values in ((name, truth), *systems)
        for emotion, column in zip(EMOTIONS, values.T, strict=True)
        if np.ptp(column) == 0
    ]
