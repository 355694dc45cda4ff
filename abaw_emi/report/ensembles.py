"""The gain of ensembling: the mean of more and more members, and of all compared with the best one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, VERSION
from abaw_emi.data.align import align
from abaw_emi.evaluation.bootstrap import CONFIDENCE, DEFAULT_SEED, Resampling, bootstrap, interval
from abaw_emi.evaluation.pearson import mean_pearson
from abaw_emi.evaluation.significance import Difference, compare_pairs
from abaw_emi.report.systems import System

MOST_SUBSETS = 50
"""Subsets of members of each size; where there are more, so many are drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Scores of the unweighted mean of k members, for every k.

    Attributes:
        members: their names.
        scores: by k, (S_k,) of the subsets of that size.
        intervals: by k, the 95% bootstrap interval of the mean of `scores`, over clips.
        difference: the mean of all members minus the member with the highest score.
        exhaustive: whether every subset was scored.
        signature: the settings that reproduce the numbers.
    """

    members: tuple[str, ...]
    scores: dict[int, Array]
    intervals: dict[int, tuple[float, float]]
    difference: Difference
    exhaustive: bool
    signature: str

    @property
    def best(self) -> float:
        """The score of the best member."""
        return float(self.scores[1].max())


def measure_gain(labels: pl.DataFrame, members: Sequence[System]) -> Gain:
    """The gain of ensembling these systems, two or more, which predict the labelled clips."""
    truth = labels.select(EMOTIONS).to_numpy()
    stacked = np.stack([align(labels, member.table)[1] for member in members])  # (M, N, 6)
    how = Resampling()
    scores: dict[int, Array] = {}
    intervals: dict[int, tuple[float, float]] = {}
    for size in range(1, len(members) + 1):
        means = [stacked[chosen].mean(axis=0) for chosen in _choose(len(members), size)]
        scores[size] = np.array([mean_pearson(truth, mean) for mean in means])
        draws = bootstrap(truth, means, how).mean(axis=(1, 2))  # (B,)
        low, high = interval(draws[:, None], scores[size].mean(keepdims=True), how)[0]
        intervals[size] = (float(low), float(high))
    best = int(scores[1].argmax())
    names = (f"mean of {len(members)}", members[best].name)
    (difference,) = compare_pairs(truth, [stacked.mean(axis=0), stacked[best]], names, [(0, 1)], how)
    exhaustive = all(math.comb(len(members), size) <= MOST_SUBSETS for size in scores)
    drawn = "all" if exhaustive else f"{MOST_SUBSETS},seed:{DEFAULT_SEED}"
    ci = f"{how.method},{CONFIDENCE:g},{how.resamples},clips,seed:{how.seed}"
    return Gain(
        members=tuple(member.name for member in members),
        scores=scores,
        intervals=intervals,
        difference=difference,
        exhaustive=exhaustive,
        signature=f"mean_pearson|n:{len(truth)}|of:mean|members:{len(members)}|subsets:{drawn}|ci:{ci}"
        f"|test:swap,{how.permutations},clips,seed:{how.seed}|abaw_emi:{VERSION}",
    )


def _choose(members: int, size: int) -> list[list[int]]:
    """All subsets of a size, or `MOST_SUBSETS` of them, drawn at random."""
    if math.comb(members, size) <= MOST_SUBSETS:
        return [list(chosen) for chosen in combinations(range(members), size)]
    rng = np.random.default_rng((DEFAULT_SEED, size))
    return [rng.choice(members, size, replace=False).tolist() for _ in range(MOST_SUBSETS)]
