"""Several systems on the same clips: ranked, every pair tested, and what combining two of them gains."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import polars as pl

from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import Problem, ScoreError, gather
from abaw_emi.data.align import align
from abaw_emi.data.groups import number_groups
from abaw_emi.evaluation.bootstrap import (
    DEFAULT_PERMUTATIONS,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    Method,
    Resampling,
)
from abaw_emi.evaluation.pearson import Array, mean_pearson, pearson, standardise
from abaw_emi.evaluation.ranking import Comparison, Pair
from abaw_emi.evaluation.score import score_arrays, sign
from abaw_emi.evaluation.significance import Difference, compare_pairs

__all__ = ["Comparison", "Pair", "compare"]

_FEWEST = 2


def compare(
    truth: pl.DataFrame,
    systems: Mapping[str, pl.DataFrame],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
    seed: int = DEFAULT_SEED,
    method: Method = "percentile",
    groups: pl.DataFrame | None = None,
    trained_on: Mapping[str, Collection[str]] | None = None,
    name: str = "labels",
) -> Comparison:
    """Ranks systems on the same clips; every pair is tested, and all pairs are corrected together.

    Args:
        truth: the labels.
        systems: prediction tables of the same clips, by name, two at least.
        resamples: bootstrap resamples; 0 for no interval.
        permutations: of each paired test.
        seed: seed of all resampling.
        method: of the intervals.
        groups: the clips' groups, resampled and swapped whole.
        trained_on: ids that a system was trained on, by its name.
        name: what messages call the labels.

    Raises:
        ScoreError: fewer than two systems, or ids are missing, extra or duplicate; all of them named.

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
    if len(systems) < _FEWEST:
        raise ScoreError(Problem("compare", f"{len(systems)} system", "two at least"))
    problems: list[Problem] = []
    clips = truth[FILENAME].to_list()
    arrays: dict[str, Array] = {}
    y = np.empty((0, len(EMOTIONS)))
    for system, table in systems.items():
        with gather(problems):
            y, arrays[system] = align(truth, table, (name, system))
    units = None
    with gather(problems):
        units = None if groups is None else number_groups(groups, clips, (name, "groups"))
    if problems:
        raise ScoreError(problems)
    how = Resampling(resamples=resamples, permutations=permutations, seed=seed, method=method, units=units)
    seen = {system: len(set((trained_on or {}).get(system, ())).intersection(clips)) for system in systems}
    scores = {
        system: score_arrays(y, p, how, seen=seen[system], names=(name, system))
        for system, p in arrays.items()
    }
    ranked = sorted(scores, key=lambda system: -scores[system].mean_pearson)
    pairs = list(combinations(range(len(ranked)), 2))
    differences = compare_pairs(y, [arrays[system] for system in ranked], ranked, pairs, how)
    return Comparison(
        scores={system: scores[system] for system in ranked},
        pairs=tuple(_pair(y, arrays, difference) for difference in differences),
        n=len(y),
        signature=sign(len(y), how, tests=len(pairs)),
        problems=tuple(dict.fromkeys([*(p for s in scores.values() for p in s.problems), *how.doubts])),
    )


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
