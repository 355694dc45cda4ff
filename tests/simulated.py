"""Splits with labels like the official ones, for tests: shares of a few raters, mostly 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from tests.csv_tables import EMOTIONS

Array = npt.NDArray[np.float64]


def draw_labels(rng: np.random.Generator, n: int) -> Array:
    """(n, 6) labels k/N, whose rows sum to at most 1."""
    evoked = rng.dirichlet(1.6 * np.array([0.16, 0.13, 0.07, 0.06, 0.13, 0.1, 0.35]), n)
    raters = rng.integers(2, 6, n)
    return np.asarray(rng.multinomial(raters, evoked)[:, :6] / raters[:, None])


def predict(rng: np.random.Generator, labels: Array, error: float) -> Array:
    """Predictions whose error's standard deviation is `error`; inside [0, 1] up to an error of 5."""
    return 0.5 + 0.02 * (labels + error * rng.standard_normal(labels.shape))


def name(values: Array, start: int = 8072) -> pl.DataFrame:
    """(n, 6) as a table, with ids counted from `start`."""
    ids = [f"{start + i:05}" for i in range(len(values))]
    return pl.DataFrame({"Filename": ids, **dict(zip(EMOTIONS, values.T, strict=True))})
