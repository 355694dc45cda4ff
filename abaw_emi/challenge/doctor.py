"""What smells in a prediction file: signs of mistakes that a schema cannot see.

A smell is a guess with its evidence, never a verdict, and nothing is mended. Some need labels (`diagnose`),
the others only the values (`inspect_values`). Where one arrangement is held against another, the gain in
mean r must be far beyond chance: r of N unrelated clips spreads by 1/sqrt(N), and the mean of six of them
by 1/sqrt(6 N).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import polars as pl

from abaw_emi.challenge.correlation import Array, mean_pearson, pearson, standardise
from abaw_emi.challenge.facts import EMOTIONS, FILENAME, INTENSITY_RANGE
from abaw_emi.errors import Problem

Kind = Literal[
    "shifted", "sorted otherwise", "columns swapped", "sign", "chance", "labels", "outside", "rounded",
    "clipped", "saturated", "duplicate",
]  # fmt: skip

_FAR = 5.5
"""Standard errors that another arrangement must reach, and be better by, to be told: the best of 720 orders
of columns, or of thousands of shifts, reaches 4.8 by chance (300 splits of unrelated clips)."""

_GAIN = 0.05
"""And the least gain in mean r."""

_TURNED = 5.0
"""Standard errors below 0 at which one column's sign looks turned."""

_FEW = 20
"""Fewer clips than this say nothing about the spread of values."""

_SAME = 0.9999
"""Two files whose every column correlates so much are all but identical."""

_MOVES = 0.0005
"""A change of mean r that shows in the third decimal."""

_PILE = 0.02
"""Share of exactly equal values at an end that looks like clipping."""


@dataclass(frozen=True, slots=True)
class Smell:
    """One sign of a mistake: what kind, and where and what was found."""

    kind: Kind
    problem: Problem


def diagnose(
    truth: pl.DataFrame,
    prediction: pl.DataFrame,
    *,
    name: str = "predictions",
    others: Mapping[str, pl.DataFrame] | None = None,
) -> list[Smell]:
    """Every smell of predictions whose labels are known.

    Args:
        truth: the labels.
        prediction: predictions of exactly these clips.
        name: what messages call the predictions.
        others: further files, by name, that this one should differ from.
    """
    by_id = truth.select(FILENAME).join(prediction, on=FILENAME, how="left", maintain_order="left")
    order = np.argsort(np.array(truth[FILENAME].to_list()))
    y = truth.select(EMOTIONS).to_numpy()[order]
    p = by_id.select(EMOTIONS).to_numpy()[order]
    if len(y) < 2:
        return []
    if labels := _labels(y, p, name):
        return labels
    smells = [*_order(y, p, truth, prediction, name), *_columns(y, p, name)]
    if not smells:
        smells = [*_sign(y, p, name), *_chance(y, p, name)]
    smells += _outside(y, p, name)
    return [*smells, *_values(p, name, y), *find_duplicates(prediction, name, others or {})]


def inspect_values(
    prediction: pl.DataFrame, *, name: str = "predictions", others: Mapping[str, pl.DataFrame] | None = None
) -> list[Smell]:
    """Every smell of predictions whose labels are not known."""
    p = prediction.select(EMOTIONS).to_numpy()
    if len(p) < 2 or not np.isfinite(p).all():
        return []
    if labels := _label_like(p, name):
        return labels
    return [*_values(p, name, None), *find_duplicates(prediction, name, others or {})]


def find_duplicates(prediction: pl.DataFrame, name: str, others: Mapping[str, pl.DataFrame]) -> list[Smell]:
    """The other files that are this one over again, or all but."""
    found = []
    for other, table in others.items():
        both = prediction.join(table, on=FILENAME, how="inner", suffix=" of the other")
        if len(both) < 2 or len(both) < 0.9 * len(prediction):
            continue
        a = both.select(EMOTIONS).to_numpy()
        b = both.select(f"{emotion} of the other" for emotion in EMOTIONS).to_numpy()
        r = pearson(a, b)
        same = (a.astype(np.float32) == b.astype(np.float32)).all()  # what files hold
        if same or float(np.where(np.isnan(r), 1.0, r).min()) > _SAME:
            what = "the same values as" if same else f"all but identical to (every r > {_SAME:g})"
            found.append(Smell("duplicate", Problem(name, f"{what} {other}", "another system")))
    return found


def _labels(y: Array, p: Array, name: str) -> list[Smell]:
    r = mean_pearson(y, p)
    if r < 0.999:
        return []
    return [Smell("labels", Problem(name, f"these are the labels (mean r {r:.4f})", "predictions"))]


def _order(y: Array, p: Array, truth: pl.DataFrame, prediction: pl.DataFrame, name: str) -> list[Smell]:
    """Rows shifted by k, or given to the ids in another order; `y` and `p` are sorted by id."""
    n = len(y)
    standard_y, standard_p = standardise(y), standardise(p)
    spectrum = np.conj(np.fft.rfft(standard_y, axis=0)) * np.fft.rfft(standard_p, axis=0)
    by_shift = np.fft.irfft(spectrum, n=n, axis=0).mean(axis=1) / n  # mean r where row i gets row i + k
    as_is = float(by_shift[0])
    best = int(by_shift.argmax())
    shift = best if best <= n // 2 else best - n
    candidates: list[tuple[float, Kind, str]] = [
        (float(by_shift[best]), "shifted", f"rows look shifted by {shift}")
    ]
    ids = sorted(truth[FILENAME].to_list())
    place = {filename: i for i, filename in enumerate(ids)}
    orders = {
        "from the last id to the first": list(range(n))[::-1],
        "sorted as text without leading zeros": sorted(range(n), key=lambda i: str(int(ids[i]))),
        "in the label file's order": [place[filename] for filename in truth[FILENAME]],
        "in id order, but given to ids in the file's order": np.argsort(
            [place[filename] for filename in prediction[FILENAME]]
        ).tolist(),
    }
    for said, order in orders.items():
        moved = np.empty_like(standard_p)
        moved[order] = standard_p
        candidates.append((float((standard_y * moved).mean()), "sorted otherwise", f"values look {said}"))
    r, kind, found = max(candidates, key=lambda candidate: candidate[0])
    if not _is_far(as_is, r, n):
        return []
    found = f"{found}: mean r is {as_is:.4f}, and {r:.4f} when put back"
    return [Smell(kind, Problem(name, found, "values beside their own ids"))]


def _columns(y: Array, p: Array, name: str) -> list[Smell]:
    n, k = y.shape
    table = standardise(y).T @ standardise(p) / n  # r of label k with column j
    orders = np.array(list(permutations(range(k))))
    means = table[np.arange(k), orders].mean(axis=1)
    best = orders[means.argmax()]
    if not _is_far(means[0], means.max(), n):
        return []
    moved = [f"{EMOTIONS[j]} holds {EMOTIONS[i]}" for i, j in enumerate(best) if i != j]
    found = f"columns look swapped ({', '.join(moved)}): mean r is {means[0]:.4f}, and {means.max():.4f} so"
    return [Smell("columns swapped", Problem(name, found, "each emotion in its own column"))]


def _sign(y: Array, p: Array, name: str) -> list[Smell]:
    return [
        Smell("sign", Problem(f"{name}, {e}", f"r is {r:.4f}: the sign may be turned", "a positive r"))
        for e, r in zip(EMOTIONS, pearson(y, p), strict=True)
        if r < -_TURNED / np.sqrt(len(y))
    ]


def _chance(y: Array, p: Array, name: str) -> list[Smell]:
    error, r = 1 / np.sqrt(y.size), mean_pearson(y, p)
    if len(y) < 5 * _FEW or abs(r) > 3 * error:
        return []
    found = f"mean r is {r:.4f}, what chance gives (within {3 * error:.4f})"
    return [Smell("chance", Problem(name, found, next_step="perhaps rows and ids do not belong together"))]


def _outside(y: Array, p: Array, name: str) -> list[Smell]:
    low, high = INTENSITY_RANGE
    outside = int(((p < low) | (p > high)).sum())
    raw, clipped = mean_pearson(y, p), mean_pearson(y, p.clip(low, high))
    if abs(clipped - raw) < _MOVES:
        return []
    found = f"{outside:,} values lie outside [{low:g}, {high:g}] and were scored raw"
    step = f"submit clips them, which moves the mean r from {raw:.4f} to {clipped:.4f}"
    return [Smell("outside", Problem(name, found, next_step=step))]


def _values(p: Array, name: str, y: Array | None) -> list[Smell]:
    """Rounded, clipped, saturated."""
    decimals = _count_decimals(p)
    smells = _rounded(p, decimals, name, y)
    if len(p) < _FEW:
        return smells
    for emotion, column in zip(EMOTIONS, p.T, strict=True):
        where = f"{name}, {emotion}"
        values, counts = np.unique(column, return_counts=True)
        near_ends = float(((np.abs(column) < 1e-3) | (np.abs(column - 1) < 1e-3)).mean())
        if len(values) == 1:
            continue  # constant: told elsewhere
        if counts.max() > len(column) / 2:
            found = f"{counts.max() / len(column):.0%} of the values are {values[counts.argmax()]:g}"
            smells.append(Smell("saturated", Problem(where, found, "values that differ")))
        elif near_ends > 0.5:
            found = f"saturated: {near_ends:.0%} of the values lie within .001 of 0 or 1"
            smells.append(Smell("saturated", Problem(where, found)))
        elif decimals is None:
            piles = {float(values[end]): int(counts[end]) for end in (0, -1)}
            told = [
                f"{count / len(column):.1%} are exactly {end:g}"
                for end, count in piles.items()
                if count >= max(_PILE * len(column), 3)
            ]
            if told:
                found = f"{' and '.join(told)}: the values look clipped, which moves r"
                smells.append(Smell("clipped", Problem(where, found, next_step="score the raw output too")))
    return smells


def _rounded(p: Array, decimals: int | None, name: str, y: Array | None) -> list[Smell]:
    """Rounded values, and by how much that moves r: measured by rounding noise added once more."""
    if decimals is None:
        return []
    step = 10.0**-decimals
    if y is None:
        spread = p.std(axis=0)
        noise = step / np.sqrt(12) / np.where(spread > 0, spread, np.inf)  # beside the column's own spread
        moves = float(np.sqrt((noise**2).mean() / p.size))
    else:
        rng = np.random.default_rng(1)
        again = [mean_pearson(y, p + rng.uniform(-step / 2, step / 2, p.shape)) for _ in range(20)]
        moves = float(np.sqrt(np.mean((np.array(again) - mean_pearson(y, p)) ** 2)))
    if decimals > 2 and moves < _MOVES:
        return []
    places = f"{decimals} decimal{'' if decimals == 1 else 's'}"
    found = f"values are rounded to {places}, which moves the mean r by about {moves:.5f}"
    return [Smell("rounded", Problem(name, found, "6 decimals or more"))]


def _count_decimals(p: Array) -> int | None:
    """The decimals that all values keep to, None for more than four."""
    for decimals in range(5):
        if np.allclose(p, p.round(decimals), rtol=0, atol=1e-7):  # float32 digits, too
            return decimals
    return None


def _label_like(p: Array, name: str) -> list[Smell]:
    low, high = INTENSITY_RANGE
    fractions = any(np.allclose(p * n, (p * n).round(), atol=1e-3) for n in (60, 420, 2520))
    sums_to_one = (p.sum(axis=1) <= 1 + 1e-6).all()
    alike = len(p) >= _FEW and p.min() >= low and p.max() <= high and (p == 0).mean() > 0.3
    if not (alike and fractions and sums_to_one):
        return []
    found = "values look like labels: simple fractions, many zeros, rows that sum to at most 1"
    return [Smell("labels", Problem(name, found, "predictions"))]


def _is_far(as_is: float, best: float, n: int) -> bool:
    chance = _FAR / np.sqrt(n * len(EMOTIONS))
    return bool(best > chance and best - as_is > max(_GAIN, chance))
