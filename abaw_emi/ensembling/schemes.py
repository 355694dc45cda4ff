"""Ways to combine several predictions of the same clips into one, and how their weights are fitted.

Predictions are combined, never the weights of networks. Pearson is blind to scale, so members are put on one
scale first where they differ: each as z-scores over the clips predicted, or as ranks; the result is put back
on the members' mean scale and offset (per column, which no correlation notices), so that it can be clipped
and submitted like theirs.

Fitted weights are non-negative and sum to 1. They come from covariances alone, so that fitting on all folds
but one is a sum of the folds' moments.

Shapes: M members, N clips, K emotions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import get_args

import numpy as np
import numpy.typing as npt

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import Scheme

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
"""The simplest first: plain mean; mean of z-scores; mean of ranks; greedy forward selection with replacement
(Caruana et al., "Ensemble selection from libraries of models", ICML 2004); weights common to the emotions;
weights per emotion."""

FITTED: tuple[Scheme, ...] = ("greedy", "weights", "emotion-weights")

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""How strongly fitted weights are drawn towards equal ones, as shares of the members' mean variance; which
one is chosen by cross-validation inside the clips that weights are fitted on."""

GREEDY_STEPS = 30
"""Members that greedy selection may add, the same one several times."""

_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over clips from which covariances of members and labels follow; they add up over folds."""

    n: float
    y: Array  # (K,)
    yy: Array  # (K,)
    f: Array  # (K, M)
    yf: Array  # (K, M)
    ff: Array  # (K, M, M)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of clips."""
        return Moments(*(getattr(self, own.name) + getattr(other, own.name) for own in fields(self)))

    @property
    def covariances(self) -> tuple[Array, Array]:
        """(K, M) of the standardised labels with the members, and (K, M, M) of the members."""
        my, mf = self.y / self.n, self.f / self.n
        deviation = np.sqrt(np.maximum(self.yy / self.n - my**2, _LEAST))
        with_labels = (self.yf / self.n - my[:, None] * mf) / deviation[:, None]
        return with_labels, self.ff / self.n - mf[:, :, None] * mf[:, None, :]


def measure(truth: Array, members: Array) -> Moments:
    """The moments of labels (N, K) and members (M, N, K)."""
    return Moments(
        float(len(truth)),
        truth.sum(axis=0),
        (truth**2).sum(axis=0),
        members.sum(axis=1).T,
        np.einsum("nk,mnk->km", truth, members),
        np.einsum("mnk,lnk->kml", members, members),
    )


def mean_r(moments: Moments, weights: Array) -> float:
    """The mean Pearson of the members combined with `weights`, (K, M) or (M,)."""
    with_labels, among = moments.covariances
    w = np.broadcast_to(weights, with_labels.shape)
    variance = np.einsum("km,kml,kl->k", w, among, w)
    return float((np.einsum("km,km->k", w, with_labels) / np.sqrt(np.maximum(variance, _LEAST))).mean())


def to_scale(members: Array, scheme: Scheme, present: npt.NDArray[np.bool_] | None = None) -> Array:
    """(M, N, K): the members on the scale that `scheme` combines; a missing clip is 0 there.

    Args:
        members: (M, N, K), anything where a clip is missing.
        scheme: see `SCHEMES`.
        present: (M, N) whether the member has the clip; None where all have all.
    """
    if present is None:
        present = np.ones(members.shape[:2], dtype=bool)
    scaled = np.zeros(members.shape)
    for m, own in enumerate(present):
        values = members[m, own]
        if scheme == "ranks":
            from scipy.stats import rankdata

            values = (rankdata(values, axis=0) - 0.5) / len(values)
        elif scheme != "mean":
            deviation = values.std(axis=0)
            constant = np.ptp(values, axis=0) == 0
            values = (values - values.mean(axis=0)) / np.where(constant, 1.0, deviation)
        scaled[m, own] = values
    return scaled


def combine(
    members: Array, scheme: Scheme, weights: Array, present: npt.NDArray[np.bool_] | None = None
) -> Array:
    """(N, K): the members combined, on their mean scale and offset (ranks lie in (0, 1)).

    Args:
        members: (M, N, K).
        scheme: see `SCHEMES`.
        weights: (K, M), each row summing to 1.
        present: (M, N); the weights of members without a clip go to the others in proportion.
    """
    if present is None:
        present = np.ones(members.shape[:2], dtype=bool)
    share = weights.T[:, None, :] * present[:, :, None]  # (M, N, K)
    total = share.sum(axis=0)
    # Where only members of weight 0 have a clip, they count alike.
    share = np.where(total > _LEAST, share, present[:, :, None])
    combined = (share * to_scale(members, scheme, present)).sum(axis=0) / share.sum(axis=0)
    if scheme in ("mean", "ranks"):
        return np.asarray(combined)
    centres = np.stack([members[m, own].mean(axis=0) for m, own in enumerate(present)])
    spreads = np.stack([members[m, own].std(axis=0) for m, own in enumerate(present)])
    return np.asarray(centres.mean(axis=0) + spreads.mean(axis=0) * combined)


def equal(members: int, emotions: int) -> Array:
    """(K, M) equal weights."""
    return np.full((emotions, members), 1 / members)


def fit(scheme: Scheme, folds: Sequence[Moments]) -> Array:
    """(K, M): the weights of a scheme, fitted on the clips of all the folds; equal where nothing is fitted.

    Args:
        scheme: see `SCHEMES`.
        folds: the clips' moments in two parts or more, for the choice of the ridge.
    """
    k, m = folds[0].f.shape
    if scheme not in FITTED:
        return equal(m, k)
    whole = reduce(add, folds)
    if scheme == "greedy":
        return np.tile(_select(whole), (k, 1))
    solve = _solve_common if scheme == "weights" else _solve_each

    def held_out(ridge: float) -> float:
        return sum(
            mean_r(fold, solve(reduce(add, [*folds[:i], *folds[i + 1 :]]), ridge))
            for i, fold in enumerate(folds)
        )

    return solve(whole, max(reversed(RIDGES), key=held_out))


def choose_best(folds: Sequence[Moments]) -> Array:
    """(K, M): all weight on the member with the highest mean Pearson on the clips of the folds."""
    whole = reduce(add, folds)
    k, m = whole.f.shape
    best = max(range(m), key=lambda member: mean_r(whole, np.eye(m)[member]))
    return np.tile(np.eye(m)[best], (k, 1))


def _select(moments: Moments) -> Array:
    """(M,): greedy forward selection with replacement, the best of its path."""
    m = moments.f.shape[1]
    counts = np.zeros(m)
    path: list[tuple[float, int, Array]] = []
    for _ in range(GREEDY_STEPS):
        tried = [mean_r(moments, counts + step) for step in np.eye(m)]
        counts = counts + np.eye(m)[int(np.argmax(tried))]
        path.append((max(tried), -len(path), counts / counts.sum()))
    _, _, best = max(path, key=lambda step: step[:2])  # the earliest of equals
    return best


def _solve_common(moments: Moments, ridge: float) -> Array:
    with_labels, among = moments.covariances
    return np.tile(_solve(with_labels.mean(axis=0), among.mean(axis=0), ridge), (len(with_labels), 1))


def _solve_each(moments: Moments, ridge: float) -> Array:
    with_labels, among = moments.covariances
    return np.stack([_solve(b, a, ridge) for b, a in zip(with_labels, among, strict=True)])


def _solve(b: Array, a: Array, ridge: float) -> Array:
    """(M,): non-negative least squares of standardised labels on the members, drawn towards equal weights.

    Minimises w'Aw - 2b'w + ridge * mean variance * |w - t|^2 over w >= 0, where t is the best equal weight;
    then scaled to sum 1, which no correlation notices.
    """
    from scipy.optimize import nnls

    m = len(b)
    pull = ridge * max(float(np.trace(a)) / m, _LEAST)
    target = max(float(b.sum()), 0.0) / max(float(a.sum()), _LEAST)
    root = np.linalg.cholesky(a + pull * np.eye(m))
    weights, _ = nnls(root.T, np.linalg.solve(root, b + pull * target))
    total = float(weights.sum())
    return np.asarray(weights / total) if total > _LEAST else np.full(m, 1 / m)


Fit = Callable[[Sequence[Moments]], Array]
