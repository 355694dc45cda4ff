"""Is one system better than another on the same clips? Paired intervals, paired tests, what can be shown.

The interval is a paired bootstrap: both systems on the same resamples. The p-value is a paired permutation
test that swaps the systems' standardised predictions (see `bootstrap.swap`), two-sided, (c + 1) / (n + 1).
p-values are corrected after Holm (1979) over all pairs tested together: the mean, which is the challenge's
score, is one family, the single emotions are another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, interval, jackknife, mean_first, swap
from abaw_emi.evaluation.pearson import pearson
from abaw_emi.evaluation.text_tables import TextTable, format_interval, format_p, format_r

ALPHA = 0.05
"""A difference is called shown below this corrected p-value."""

POWER = 0.8
"""Share of splits in which a difference of `Difference.detectable` would be called shown."""

MEAN = "mean_pearson"
STATISTICS = (MEAN, *EMOTIONS)

Verdict = Literal["better", "worse", "not shown"]

# Differences this close are ties that rounding parted: they count as equally extreme.
_TIE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much one system is better than another: first minus second.

    Attributes:
        first: name of a system.
        second: name of the other one.
        difference: of the mean Pearson and of each emotion's r, an undefined r counted as 0.
        interval: paired bootstrap intervals (low, high); None without resamples or where BCa has none.
        p: two-sided p-values of the paired permutation test.
        p_holm: the same, corrected over all pairs tested together.
        detectable: the smallest true difference that would be called shown on 80 % of such splits or more,
            by the spread of the paired resamples: what 80 % power takes at the level that Holm's first step
            asks for, alpha / pairs for the mean and alpha / (6 pairs) for an emotion. Where others of the
            same family differ too, Holm asks for less and smaller ones are shown. None below 2 resamples.
    """

    first: str
    second: str
    difference: dict[str, float]
    interval: dict[str, tuple[float, float] | None]
    p: dict[str, float]
    p_holm: dict[str, float]
    detectable: dict[str, float | None]

    @property
    def verdict(self) -> Verdict:
        """Whether the first system is shown to be better or worse than the second, by the mean Pearson."""
        if self.p_holm[MEAN] >= ALPHA:
            return "not shown"
        return "better" if self.difference[MEAN] > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON values, with its verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def table(self) -> TextTable:
        """A row for each emotion and the mean."""
        rows = [
            [
                "Mean" if name == MEAN else name,
                format_r(self.difference[name], signed=True),
                format_interval(self.interval[name], signed=True),
                format_p(self.p[name]),
                format_p(self.p_holm[name]),
                "" if self.detectable[name] is None else format_r(self.detectable[name]),
            ]
            for name in (*(name for name in self.difference if name != MEAN), MEAN)
        ]
        header = ["", "Difference", "95 % interval", "p", "p (Holm)", "detectable"]
        return TextTable(header, rows, f"{self.first} minus {self.second}")

    def describe(self) -> str:
        """In one line, what the test shows of the mean Pearson."""
        p, smallest = format_p(self.p_holm[MEAN]), self.detectable[MEAN]
        if self.verdict != "not shown":
            return f"{self.first} is {self.verdict} than {self.second} (p = {p})"
        limit = "" if smallest is None else f"; these clips would mostly show one of {smallest:.4f}, not less"
        return f"no difference is shown (p = {p}){limit}"

    def turned(self) -> Difference:
        """The same, second minus first."""
        bounds = {name: b and (-b[1], -b[0]) for name, b in self.interval.items()}
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference={name: -value for name, value in self.difference.items()},
            interval=bounds,
        )


def compare_pairs(
    truth: Array,
    systems: Sequence[Array],
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    how: Resampling,
) -> list[Difference]:
    """The differences of the given pairs of systems, tested together.

    Args:
        truth: (N, 6).
        systems: S predictions, (N, 6) each, rows as in `truth`.
        names: of the systems.
        pairs: places in `systems` of the first and the second of each pair.
        how: resamples, permutations, seed, method, groups.
    """
    scores = [mean_first(np.nan_to_num(pearson(truth, system))) for system in systems]
    draws = mean_first(bootstrap(truth, systems, how))  # (B, S, 7)
    without = mean_first(jackknife(truth, systems, how)) if how.method == "bca" else None
    p = np.array([_p_values(truth, systems[a], systems[b], how) for a, b in pairs]).reshape(
        -1, len(STATISTICS)
    )
    corrected = np.concatenate([holm(p[:, :1]), holm(p[:, 1:])], axis=1)
    steps = _standard_errors(len(pairs))
    found = []
    for (a, b), own, own_corrected in zip(pairs, p, corrected, strict=True):
        difference = scores[a] - scores[b]
        bounds: list[tuple[float, float] | None] = [None] * len(STATISTICS)
        detectable: list[float | None] = [None] * len(STATISTICS)
        if how.resamples:
            resampled = draws[:, a] - draws[:, b]
            low_high = interval(
                resampled, difference, how, None if without is None else without[:, a] - without[:, b]
            )
            bounds = [None if np.isnan(low) else (float(low), float(high)) for low, high in low_high]
            if how.resamples > 1:
                detectable = (steps * resampled.std(axis=0)).tolist()
        found.append(
            Difference(
                first=names[a],
                second=names[b],
                difference=_named(difference),
                interval=dict(zip(STATISTICS, bounds, strict=True)),
                p=_named(own),
                p_holm=_named(own_corrected),
                detectable=dict(zip(STATISTICS, detectable, strict=True)),
            )
        )
    return found


def holm(p: npt.ArrayLike) -> Array:
    """p-values corrected after Holm over all of them, in the same shape.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 1979.

    >>> holm([0.01, 0.04, 0.03]).round(12).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=None)
    factors = np.arange(values.size, 0, -1)
    stepped = np.maximum.accumulate(values.ravel()[order] * factors).clip(max=1.0)
    corrected = np.empty(values.size)
    corrected[order] = stepped
    return corrected.reshape(values.shape)


def _p_values(truth: Array, first: Array, second: Array, how: Resampling) -> Array:
    """(7,): of the mean and of each emotion."""
    observed = mean_first(np.nan_to_num(pearson(truth, first)) - np.nan_to_num(pearson(truth, second)))
    swapped = mean_first(swap(truth, first, second, how))  # (B, 7)
    extreme = (np.abs(swapped) >= np.abs(observed) - _TIE).sum(axis=0)
    return np.asarray((extreme + 1) / (how.permutations + 1))


def _standard_errors(pairs: int) -> Array:
    """(7,): how many of its standard errors a true difference must have, by Holm's first step."""
    tests = np.array([1, *[len(EMOTIONS)] * len(EMOTIONS)]) * max(1, pairs)
    normal = NormalDist()
    return np.array([normal.inv_cdf(1 - ALPHA / 2 / n) + normal.inv_cdf(POWER) for n in tests])


def _named(values: Array) -> dict[str, float]:
    return dict(zip(STATISTICS, map(float, values), strict=True))
