"""Pearson's correlation per column, and the plain mean of it: the challenge's score of arrays.

Source: PAPER (see `constants`), equations 1 and 2. The order of arguments is truth, prediction. Everything is
float64. A constant column has no correlation: nan, counted as 0 in the mean.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, INTENSITY_RANGE
from abaw_emi.core.errors import DiagnosticWarning, Problem, ScoreError
from abaw_emi.data.align import align
from abaw_emi.data.frames import Table, is_table, read_table
from abaw_emi.data.scope import find_scope


def pearson(truth: Table | npt.ArrayLike, prediction: Table | npt.ArrayLike) -> Array:
    """Pearson's r of each column, in [-1, 1]; nan for a constant column of either side.

    Args:
        truth: an array (N,) or (N, K); or labels, a CSV file or a frame of polars or pandas.
        prediction: an array of the same shape, matched by row; or predictions, matched by Filename.

    Returns:
        (K,), for tables (6,), or a 0-d array for (N,).

    Raises:
        ScoreError: the shapes differ, there are fewer than 2 rows, or a value is not finite; of tables, see
            `score`.

    >>> round(pearson([0.0, 0.5, 1.0], [2.0, 3.0, 4.0]).item(), 12)
    1.0
    >>> pearson([0.0, 0.5, 1.0], [7.0, 7.0, 7.0]).item()
    nan
    """
    y, p = _to_arrays(truth, prediction)
    if y.shape != p.shape or y.ndim not in (1, 2) or len(y) < 2:
        raise ScoreError(
            Problem("pearson", f"shapes {y.shape} and {p.shape}", "two equal shapes of at least 2 rows")
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ScoreError(Problem("pearson", "a value that is not finite", "finite numbers"))
    r: Array = np.einsum("n...,n...->...", _unit_norm(y), _unit_norm(p))
    return r.clip(-1.0, 1.0)


def mean_pearson(truth: Table | npt.ArrayLike, prediction: Table | npt.ArrayLike) -> float:
    """The challenge score: the mean over the six emotions of `pearson`, an undefined one counted as 0.

    Raises:
        ScoreError: arrays that are not (N, 6), and what `pearson` refuses.
    """
    y, p = _to_arrays(truth, prediction)
    if y.shape[1:] != (len(EMOTIONS),):
        raise ScoreError(Problem("mean_pearson", f"shape {y.shape}", f"(N, {len(EMOTIONS)}), or tables"))
    r = pearson(y, p)
    return float(np.where(np.isnan(r), 0.0, r).mean())


def clipped_mean_pearson(truth: Array, prediction: Array) -> float:
    """`mean_pearson` of the predictions clipped to [0, 1], as a submission holds them.

    Args:
        truth: (N, 6).
        prediction: (N, 6), matched by row.
    """
    return mean_pearson(truth, prediction.clip(*INTENSITY_RANGE))


def _to_arrays(truth: Any, prediction: Any) -> tuple[Array, Array]:
    """Arrays as they are, in float64; tables with the rows of the same clips."""
    if is_table(truth) or is_table(prediction):
        labels = read_table(truth, "labels", "labels").table
        scope = find_scope(labels, {"predictions": read_table(prediction, "predictions", "predictions")})
        for note in scope.notes:
            warnings.warn(str(note), DiagnosticWarning, stacklevel=3)
        return align(scope.truth, scope.tables["predictions"])
    return np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)


def standardise(values: Array) -> Array:
    """(N, ...) with mean 0 and variance 1 (divided by N) over the rows; zeros for a constant column.

    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]])).round(12).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return np.asarray(np.nan_to_num(_unit_norm(values)) * np.sqrt(len(values)))


def _unit_norm(values: Array) -> Array:
    """Columns of mean 0 and Euclidean norm 1; nan for a constant column."""
    # A constant column of, say, 0.1 does not centre to exact zeros: it is found by its range.
    constant = np.ptp(values, axis=0) == 0
    centred = values - values.mean(axis=0)
    centred = centred - centred.mean(axis=0)  # again: what rounding left of a large offset
    # Scaled before squaring, so that tiny or huge columns neither under- nor overflow.
    largest = np.where(constant, np.nan, np.abs(centred).max(axis=0))
    scaled = centred / largest
    return np.asarray(scaled / np.linalg.norm(scaled, axis=0))
