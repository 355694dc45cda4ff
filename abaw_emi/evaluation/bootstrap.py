"""Correlations of resampled clips, by moments: thousands of resamples are one matrix product.

A resample is a vector of counts, one for each cluster drawn; clusters are the clips, taken as independent, or
groups of them (speakers), of which all clips are drawn together. With the clusters' sums of y, y^2, p, p^2
and y p, every r of every resample follows from `counts @ sums`. Columns are standardised first, so that
the sums keep their digits. A column that is constant in a resample counts as 0.

Shapes: N clips, G clusters, K columns (the emotions), S systems, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import get_args

import numpy as np
import numpy.typing as npt

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import IntervalMethod
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.evaluation.pearson import standardise

METHODS: tuple[IntervalMethod, ...] = get_args(IntervalMethod)
CONFIDENCE = 0.95
"""Share of resamples that an interval holds."""

DEFAULT_RESAMPLES = 1_000
DEFAULT_PERMUTATIONS = 10_000
DEFAULT_SEED = 1

_FEW_RESAMPLES = 200
"""With fewer, an end of a 95 % interval rests on less than five resamples."""

_FEW_GROUPS = 20
"""With fewer, intervals over groups are too narrow, and tests too eager."""

# A variance below this share of its second moment is what rounding leaves of a constant column.
_ROUNDING = 1e-12

# Cells of the count matrix that are held at a time: it stays in the processor's cache.
_CELLS = 150_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How clips are resampled.

    Attributes:
        resamples: bootstrap resamples; 0 for no interval.
        permutations: random swaps of a paired test.
        seed: of both.
        method: how intervals are made.
        clusters: (N,) the number of each clip's group, from 0 on without a gap; None takes clips as
            independent.
    """

    resamples: int = DEFAULT_RESAMPLES
    permutations: int = DEFAULT_PERMUTATIONS
    seed: int = DEFAULT_SEED
    method: IntervalMethod = "percentile"
    clusters: npt.NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        problems = [
            Problem(name, f"{value:,}", "0 or more")
            for name in ("resamples", "permutations", "seed")
            if (value := getattr(self, name)) < 0
        ]
        if self.method not in METHODS:
            problems.append(Problem("method", f"{self.method!r}", f"one of {', '.join(METHODS)}"))
        if problems:
            raise UsageError(problems)

    @property
    def groups(self) -> int | None:
        """How many groups there are; None where clips are taken as independent."""
        return None if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def doubts(self) -> list[Problem]:
        """What a reader of the intervals and tests must know of the settings."""
        doubts = []
        if 0 < self.resamples < _FEW_RESAMPLES:
            found = f"made of {self.resamples:,} resample{'' if self.resamples == 1 else 's'}"
            doubts.append(Problem("intervals", found, f"{_FEW_RESAMPLES} or more, or 0 for none"))
        if self.groups is not None and self.groups < _FEW_GROUPS:
            found = f"{self.groups} alone make intervals too narrow and p too small"
            doubts.append(Problem("groups", found, f"{_FEW_GROUPS} or more"))
        return doubts

    @property
    def describe_clusters(self) -> str:
        """What is resampled, for signatures: "clips" or "groups:<how many>"."""
        return "clips" if self.clusters is None else f"groups:{self.groups}"


def cluster_sums(
    truth: Array, systems: Sequence[Array], clusters: npt.NDArray[np.intp] | None = None
) -> Array:
    """(G, 1 + 2K + 3KS): per cluster its clips, and the sums of y, y^2, and of p, p^2, y p per system.

    Args:
        truth: (N, K).
        systems: S predictions, (N, K) each.
        clusters: see `Resampling`.
    """
    y = standardise(truth)
    columns = [np.ones((len(y), 1)), y, y * y]
    for system in systems:
        p = standardise(system)
        columns += [p, p * p, y * p]
    return _sum_by_cluster(np.concatenate(columns, axis=1), clusters)


def correlations(sums: Array, systems: int) -> Array:
    """(B, S, K): Pearson's r from sums as `cluster_sums` orders them, (B, 1 + 2K + 3KS); constant is 0."""
    k = (sums.shape[1] - 1) // (2 + 3 * systems)
    means = sums[:, 1:] / sums[:, :1]
    my, myy = means[:, None, :k], means[:, None, k : 2 * k]  # (B, 1, K)
    mp, mpp, myp = np.moveaxis(means[:, 2 * k :].reshape(len(means), systems, 3, k), 2, 0)  # (B, S, K)
    vy, vp = myy - my * my, mpp - mp * mp
    varies = (vy > _ROUNDING * myy) & (vp > _ROUNDING * mpp)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(varies, (myp - my * mp) / np.sqrt(vy * vp), 0.0).clip(-1.0, 1.0))


def bootstrap(truth: Array, systems: Sequence[Array], how: Resampling) -> Array:
    """(B, S, K): r of every resample, the same resamples for all systems; decided by the seed."""
    sums = cluster_sums(truth, systems, how.clusters)
    resampled = (correlations(counts @ sums, len(systems)) for counts in draw_counts(len(sums), how))
    empty = np.empty((0, len(systems), truth.shape[1]))
    return np.concatenate([empty, *resampled])


def jackknife(truth: Array, systems: Sequence[Array], how: Resampling) -> Array:
    """(G, S, K): r without each cluster, in closed form."""
    sums = cluster_sums(truth, systems, how.clusters)
    return correlations(sums.sum(axis=0) - sums, len(systems))


def draw_counts(clusters: int, how: Resampling) -> Iterator[npt.NDArray[np.intp]]:
    """How often each cluster is drawn in each resample, (b, G) at a time."""
    generator = np.random.default_rng(how.seed)
    chunk = max(1, _CELLS // clusters)
    for start in range(0, how.resamples, chunk):
        size = min(chunk, how.resamples - start)
        drawn = generator.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)


def swap(truth: Array, first: Array, second: Array, how: Resampling) -> Array:
    """(B, K): the difference of the two systems' r, after swapping them for a random half of the clusters.

    Standardised predictions are swapped, and all K of a cluster together: r is blind to scale and shift, and
    rows of different scales or offsets, swapped raw, would spoil both systems and hide any difference. Where
    two systems correlate equally well, swapped differences spread as the difference itself does.
    """
    n, k = truth.shape
    y, a, b = standardise(truth), standardise(first), standardise(second)
    # a swapped is mid + sign * half, b swapped is mid - sign * half.
    mid, half = (a + b) / 2, (a - b) / 2
    fixed = np.concatenate([mid, (a * a + b * b) / 2, y * mid], axis=1).sum(axis=0) / n
    turned = _sum_by_cluster(np.concatenate([half, (a * a - b * b) / 2, y * half], axis=1), how.clusters)
    varies = y.any(axis=0)
    generator = np.random.default_rng(how.seed)
    chunk = max(1, _CELLS // len(turned))
    differences = [np.empty((0, k))]
    for start in range(0, how.permutations, chunk):
        size = min(chunk, how.permutations - start)
        noise = np.frombuffer(generator.bytes(size * -(-len(turned) // 8)), np.uint8).reshape(size, -1)
        signs = 2.0 * np.unpackbits(noise, axis=1, count=len(turned)) - 1
        change = signs @ turned / n
        r = [_correlation_with_standard(fixed + sign * change, k) for sign in (1, -1)]
        differences.append((r[0] - r[1]) * varies)
    return np.concatenate(differences)


def interval(draws: Array, estimate: Array, how: Resampling, without_each: Array | None = None) -> Array:
    """(C, 2): the lower and upper bound of C statistics; nan where BCa has none.

    Args:
        draws: (B, C) of the resamples.
        estimate: (C,) of all clips.
        how: the method.
        without_each: (G, C) of the jackknife, for BCa.
    """
    tail = (1 - CONFIDENCE) / 2
    if how.method == "percentile":
        return np.asarray(np.quantile(draws, [tail, 1 - tail], axis=0).T)
    assert without_each is not None
    bounds = np.full((draws.shape[1], 2), np.nan)
    for c, value in enumerate(estimate):
        below = float(((draws[:, c] < value).mean() + (draws[:, c] <= value).mean()) / 2)
        spread = without_each[:, c].mean() - without_each[:, c]
        squares = float((spread**2).sum())
        if not 0 < below < 1 or squares == 0:
            continue
        bias, acceleration = _NORMAL.inv_cdf(below), float((spread**3).sum()) / (6 * squares**1.5)
        shares = [_correct(z, bias, acceleration) for z in (_NORMAL.inv_cdf(tail), _NORMAL.inv_cdf(1 - tail))]
        bounds[c] = np.quantile(draws[:, c], shares)
    return bounds


def mean_first(r: Array) -> Array:
    """(..., K) with the mean over the K columns set before them: (..., 1 + K)."""
    return np.concatenate([r.mean(axis=-1, keepdims=True), r], axis=-1)


_NORMAL = NormalDist()


def _correct(z: float, bias: float, acceleration: float) -> float:
    moved = bias + z
    return _NORMAL.cdf(bias + moved / (1 - acceleration * moved))


def _correlation_with_standard(means: Array, k: int) -> Array:
    """(B, K): r with a standardised y, from the means of p, p^2 and y p, (B, 3K); constant is 0."""
    mp, mpp, myp = means[:, :k], means[:, k : 2 * k], means[:, 2 * k :]
    vp = mpp - mp * mp
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(vp > _ROUNDING * mpp, myp / np.sqrt(vp), 0.0))


def _sum_by_cluster(columns: Array, clusters: npt.NDArray[np.intp] | None) -> Array:
    if clusters is None:
        return columns
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(clusters.max() + 1))
    return np.asarray(np.add.reduceat(columns[order], starts, axis=0))
