"""What the labels of a split look like, and how those of two splits differ.

Labels look like votes over raters, k/N (see `demo.corpus`). Nothing is checked here: `label_findings` judges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, Split
from abaw_emi.evaluation.significance import holm

MOST_RATERS = 200
"""Denominators that are tried; TAEMI (arXiv 2603.14976), whose code weights clips by them, tries as many."""

_ROUNDING = 1e-6
"""How far a label may lie from k/N: the files hold float64, some tools write six decimals."""

PUBLISHED_MEANS: Mapping[Split, Mapping[str, float]] = {
    "train": dict(zip(EMOTIONS, (0.178, 0.125, 0.097, 0.021, 0.142, 0.116), strict=True)),
    "valid": dict(zip(EMOTIONS, (0.159, 0.130, 0.067, 0.013, 0.129, 0.099), strict=True)),
}
"""Mean intensities (MimicMetrics, arXiv 2605.21869, poster), to three decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionStatistics:
    """Of one emotion in one split: mean, standard deviation, range, share of zeros."""

    mean: float
    std: float
    smallest: float
    largest: float
    zero_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelStatistics:
    """Of one split.

    Attributes:
        rows: how many clips have labels.
        emotions: by name.
        all_zero: clips whose six labels are 0.
        fractions: share of clips whose six labels are k/N of one N, `MOST_RATERS` at most.
        raters: lowest, median and highest such N over the clips with a label above 0; None without one.
        largest_sum: of the six labels of a clip.
    """

    rows: int
    emotions: dict[str, EmotionStatistics]
    all_zero: int
    fractions: float
    raters: tuple[int, int, int] | None
    largest_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelShift:
    """How far the mean of an emotion in valid lies from that in train.

    Attributes:
        difference: valid minus train.
        effect: in standard deviations (pooled).
        p: of no difference, by the normal approximation, corrected for six emotions after Holm.
    """

    difference: float
    effect: float
    p: float


def describe_labels(labels: pl.DataFrame) -> LabelStatistics:
    """The statistics of a label table of one row at least."""
    values = labels.select(EMOTIONS).to_numpy()
    raters = count_raters(values)
    known = raters[(raters > 0) & (values > 0).any(axis=1)]
    quantiles = (known.min(), np.median(known), known.max()) if known.size else None
    return LabelStatistics(
        rows=len(values),
        emotions={
            emotion: EmotionStatistics(
                mean=float(column.mean()),
                std=float(column.std()),
                smallest=float(column.min()),
                largest=float(column.max()),
                zero_share=float((column == 0).mean()),
            )
            for emotion, column in zip(EMOTIONS, values.T, strict=True)
        },
        all_zero=int((values == 0).all(axis=1).sum()),
        fractions=float((raters > 0).mean()),
        raters=quantiles and (int(quantiles[0]), int(quantiles[1]), int(quantiles[2])),
        largest_sum=float(values.sum(axis=1).max()),
    )


def find_all_zero(labels: pl.DataFrame) -> list[str]:
    """Ids of the clips whose six labels are 0."""
    return labels.filter(pl.all_horizontal(pl.col(EMOTIONS) == 0))[FILENAME].to_list()


def count_raters(values: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each row (N, 6) the smallest N of which all six are k/N; 0 where none up to `MOST_RATERS` is.

    >>> count_raters(np.array([[0.4, 0.2, 0], [1 / 3, 0, 0.5], [0.7182818, 0, 0]])).tolist()
    [5, 6, 0]
    """
    found = np.zeros(len(values), np.int64)
    for raters in range(1, MOST_RATERS + 1):
        rest = np.flatnonzero(found == 0)
        votes = values[rest] * raters
        whole = (np.abs(votes - np.rint(votes)) <= raters * _ROUNDING).all(axis=1)
        found[rest[whole]] = raters
    return found


def compare_labels(train: pl.DataFrame, valid: pl.DataFrame) -> dict[str, LabelShift]:
    """How far valid lies from train, by emotion; nothing where one of them has fewer than two clips."""
    a, b = (table.select(EMOTIONS).to_numpy() for table in (train, valid))
    if min(len(a), len(b)) < 2:
        return {}
    difference = b.mean(axis=0) - a.mean(axis=0)
    variances = a.var(axis=0, ddof=1), b.var(axis=0, ddof=1)
    error = np.sqrt(variances[0] / len(a) + variances[1] / len(b))
    pooled = np.sqrt((variances[0] + variances[1]) / 2)
    p = [_two_sided(d, e) for d, e in zip(difference.tolist(), error.tolist(), strict=True)]
    return {
        emotion: LabelShift(difference=d, effect=d / s if s else 0.0, p=adjusted)
        for emotion, d, s, adjusted in zip(
            EMOTIONS, difference.tolist(), pooled.tolist(), holm(p).tolist(), strict=True
        )
    }


def _two_sided(difference: float, error: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))
