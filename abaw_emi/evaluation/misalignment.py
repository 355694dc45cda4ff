"""Whether values stand beside their own ids and in their own columns: held against other arrangements.

Where one arrangement is held against another, the gain in mean r must be far beyond chance: r of N unrelated
clips spreads by 1/sqrt(N), and the mean of six of them by 1/sqrt(6 N).

Rows of `y` (labels) and `p` (predictions) are (N, 6), sorted by id.
"""

from __future__ import annotations

from itertools import groupby, permutations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import Diagnostic
from abaw_emi.evaluation.pearson import pearson, standardise

_FAR = 5.5
"""Standard errors that another arrangement must reach, and be better by, to be reported: the best of 720
orders of columns, or of thousands of shifts, reaches 4.8 by chance (300 splits of unrelated clips)."""

_GAIN = 0.05
"""And the least gain in mean r."""

_TURNED = 5.0
"""Standard errors below 0 at which one column's sign looks turned."""

_BLOCKS = 16
"""Blocks that rows are cut into, to find parts that are shifted by themselves."""

_FEWEST_ROWS = 100
"""Rows of the smallest block."""

_PARTS_SHOWN = 3


def find_order(
    y: Array, p: Array, truth: pl.DataFrame, prediction: pl.DataFrame, name: str
) -> list[Diagnostic]:
    """Rows given to the ids in another order, shifted by k, or shifted in parts: what explains most.

    Args:
        y: labels.
        p: predictions.
        truth: the label table, in its file's order.
        prediction: the prediction table, in its file's order.
        name: what messages call the predictions.
    """
    y, p = standardise(y), standardise(p)
    as_is = float((y * p).mean())
    # The plainest first: ids sorted as text look like a long shift, too, or like shifts in parts.
    tried = [_sort_otherwise(y, p, truth, prediction), *_shift(y, p)]
    error = _chance(len(y))
    better = [found for found in tried if _is_far(as_is, found[0], error)][:1]
    better += _shift_in_parts(y, p, sorted(truth[FILENAME]))
    if not better:
        return []
    r, code, found = better[0]
    for other in better[1:]:
        if other[0] > r + _GAIN / 2:
            r, code, found = other
    found = f"{found}: mean r is {as_is:.4f}, and {r:.4f} when put back"
    return [Diagnostic(name, found, "values beside their own ids", code=code)]


def find_columns(y: Array, p: Array, name: str) -> list[Diagnostic]:
    """Columns that hold another emotion. A turned sign is no other emotion, and is left to `find_signs`."""
    n, k = y.shape
    table = standardise(y).T @ standardise(p) / n  # r of label k with column j
    orders = np.array(list(permutations(range(k))))
    means = table[np.arange(k), orders].mean(axis=1)
    best = orders[means.argmax()]
    own = np.diag(table)
    upright = np.where(_is_turned(own, n), -own, own)
    if not _is_far(float(upright.mean()), float(means.max()), _chance(n)):
        return []
    moved = [f"{EMOTIONS[j]} holds {EMOTIONS[i]}" for i, j in enumerate(best) if i != j]
    found = f"columns look swapped ({', '.join(moved)}): mean r is {means[0]:.4f}, and {means.max():.4f} so"
    return [Diagnostic(name, found, "each emotion in its own column", code="columns swapped")]


def find_signs(y: Array, p: Array, name: str) -> list[Diagnostic]:
    """Columns that fall where the emotion rises."""
    return [
        Diagnostic(f"{name}, {e}", f"r is {r:.4f}: the sign may be turned", "a positive r", code="sign")
        for e, r in zip(EMOTIONS, pearson(y, p), strict=True)
        if _is_turned(r, len(y))
    ]


_Order = tuple[float, str, str]
"""The mean r of another order, the code of a diagnostic, and in words how the values look."""


def _sort_otherwise(y: Array, p: Array, truth: pl.DataFrame, prediction: pl.DataFrame) -> _Order:
    """The best of the orders in which files are written by mistake."""
    ids = sorted(truth[FILENAME])
    n, place = len(ids), {filename: i for i, filename in enumerate(ids)}
    orders = {
        "from the last id to the first": list(range(n))[::-1],
        "sorted as text without leading zeros": sorted(range(n), key=lambda i: str(int(ids[i]))),
        "in the label file's order": [place[filename] for filename in truth[FILENAME]],
        "in id order, but given to ids in the file's order": np.argsort(
            [place[filename] for filename in prediction[FILENAME]]
        ).tolist(),
    }
    tried: list[_Order] = []
    for said, order in orders.items():
        moved = np.empty_like(p)
        moved[order] = p
        tried.append((float((y * moved).mean()), "sorted otherwise", f"values look {said}"))
    return max(tried, key=lambda found: found[0])


def _shift(y: Array, p: Array) -> list[_Order]:
    """The best shift of all rows, where it is far beyond the others."""
    by_shift = _correlate(y, np.fft.rfft(p, axis=0)) / len(y)
    best = int(by_shift.argmax())
    r = float(by_shift[best])
    if not _is_far(float(by_shift[0]), r, _chance(len(y), by_shift)):
        return []
    return [(r, "shifted", f"rows look shifted by {_signed(best, len(y))}")]


def _shift_in_parts(y: Array, p: Array, ids: list[str]) -> list[_Order]:
    """The parts of the rows that are shifted by themselves, such as all that follow a row too many."""
    n = len(y)
    # A few huge values can make any short block correlate; as ranks they cannot.
    ranks = standardise(np.stack([np.unique(column, return_inverse=True)[1] for column in p.T], axis=1))
    blocks = np.array_split(np.arange(n), max(1, min(_BLOCKS, n // _FEWEST_ROWS)))
    spectrum = np.fft.rfft(ranks, axis=0)
    shifts = {0}
    for rows in blocks:
        block = np.zeros_like(y)
        block[rows] = y[rows]
        by_shift = _correlate(block, spectrum) / len(rows)
        best = int(by_shift.argmax())
        if _is_far(float(by_shift[0]), float(by_shift[best]), _chance(len(rows), by_shift)):
            shifts.add(best)
    if len(shifts) == 1:
        return []
    states = sorted(shifts)
    path = _follow(np.stack([(y * np.roll(ranks, -k, axis=0)).mean(axis=1) for k in states]))
    parts = []
    start = 0
    for state, run in groupby(path):
        end = start + len(list(run))
        if states[state]:
            where = f"from {ids[start]} on" if end == n else f"from {ids[start]} to {ids[end - 1]}"
            parts.append(f"by {_signed(states[state], n)} {where}")
        start = end
    more = f" and {len(parts) - _PARTS_SHOWN} parts more" if len(parts) > _PARTS_SHOWN else ""
    moved = p[(np.arange(n) + np.array(states)[path]) % n]
    r = float((y * moved).mean())
    return [(r, "shifted", f"rows look shifted {', '.join(parts[:_PARTS_SHOWN])}{more}")] if parts else []


def _follow(products: Array) -> list[int]:
    """For each row, the shift of the best way through the rows, where a change costs what chance gives.

    Args:
        products: (S, N) of standardised labels and predictions under each shift.
    """
    s, n = products.shape
    strength = max(float(products.mean(axis=1).max()), _GAIN)
    cost = float(np.log(n) / (len(EMOTIONS) * strength))  # as a likelihood weighs a change: log N
    total = products[:, 0].copy()
    came_from = np.zeros((n, s), dtype=np.intp)
    for row in range(1, n):
        best = int(total.argmax())
        stay = total >= total[best] - cost
        came_from[row] = np.where(stay, np.arange(s), best)
        total = np.where(stay, total, total[best] - cost) + products[:, row]
    path = [int(total.argmax())]
    for row in range(n - 1, 0, -1):
        path.append(int(came_from[row, path[-1]]))
    return path[::-1]


def _correlate(y: Array, spectrum: npt.NDArray[np.complex128]) -> Array:
    """(N,): for each shift k, the sum over rows of the columns' mean product of y[i] with p[i + k].

    Args:
        y: (N, K).
        spectrum: of p, over its rows.
    """
    both = np.conj(np.fft.rfft(y, axis=0)) * spectrum
    return np.asarray(np.fft.irfft(both, n=len(y), axis=0).mean(axis=1))


def _signed(shift: int, n: int) -> int:
    return shift if shift <= n // 2 else shift - n


def _chance(n: int, by_shift: Array | None = None) -> float:
    """The spread of the mean r of `n` unrelated clips; more where neighbours are alike (clips of a speaker).

    Args:
        n: clips.
        by_shift: the mean r under every shift, which shows how it spreads here.
    """
    independent = 1 / np.sqrt(n * len(EMOTIONS))
    if by_shift is None:
        return float(independent)
    usual = np.median(np.abs(by_shift - np.median(by_shift))) / NormalDist().inv_cdf(0.75)
    return float(max(independent, usual))


def _is_turned(r: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    return np.asarray(r < -_TURNED / np.sqrt(n))


def _is_far(as_is: float, best: float, error: float) -> bool:
    return bool(best > _FAR * error and best - as_is > max(_GAIN, _FAR * error))
