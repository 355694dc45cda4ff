"""The challenge's score: Pearson's correlation per emotion, and the plain mean of the six.

Source: PAPER (see `facts`), equations 1 and 2. The order of arguments is truth, prediction. Tables are
matched by Filename, never by row. Everything is float64. A constant column has no correlation: it is
reported as undefined and counted as 0 in the mean.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.challenge.facts import EMOTIONS, FILENAME
from abaw_emi.errors import Problem, ScoreError
from abaw_emi.version import VERSION

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Share of resamples that a bootstrap interval holds."""

DEFAULT_RESAMPLES = 1_000
DEFAULT_SEED = 1

# A variance below this share of its second moment is what rounding leaves of a constant column.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What `score` found.

    Attributes:
        pearson: Pearson's r per emotion, in [-1, 1]; None where it is undefined.
        mean_pearson: their mean, an undefined one counted as 0: the challenge score.
        interval: percentile bootstrap intervals (low, high) under "mean_pearson" and each emotion,
            None where r is undefined; empty without resamples.
        n: clips compared.
        signature: the settings that made these numbers, on one line.
        seen: how many of the clips the predictor was trained on.
        problems: what a reader of the score must know.
    """

    pearson: dict[str, float | None]
    mean_pearson: float
    interval: dict[str, tuple[float, float] | None]
    n: int
    signature: str
    seen: int = 0
    problems: tuple[Problem, ...] = field(default=())

    @property
    def undefined(self) -> tuple[str, ...]:
        """The emotions whose correlation is undefined."""
        return tuple(emotion for emotion, value in self.pearson.items() if value is None)


def pearson(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> Array:
    """Pearson's r of each column, in [-1, 1]; nan for a constant column of either side.

    Args:
        truth: (N,) or (N, K).
        prediction: the same shape.

    Returns:
        (K,), or a 0-d array for (N,).

    Raises:
        ScoreError: the shapes differ, there are fewer than 2 rows, or a value is not finite.

    >>> round(pearson([0.0, 0.5, 1.0], [2.0, 3.0, 4.0]).item(), 12)
    1.0
    >>> pearson([0.0, 0.5, 1.0], [7.0, 7.0, 7.0]).item()
    nan
    """
    y = np.asarray(truth, dtype=np.float64)
    p = np.asarray(prediction, dtype=np.float64)
    if y.shape != p.shape or y.ndim not in (1, 2) or len(y) < 2:
        raise ScoreError(
            Problem("pearson", f"shapes {y.shape} and {p.shape}", "two equal shapes of at least 2 rows")
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ScoreError(Problem("pearson", "a value that is not finite", "finite numbers"))
    r: Array = np.einsum("n...,n...->...", _standardise(y), _standardise(p))
    return r.clip(-1.0, 1.0)


def mean_pearson(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """The challenge score: the mean over the columns of `pearson`, an undefined one counted as 0."""
    r = pearson(truth, prediction)
    return float(np.where(np.isnan(r), 0.0, r).mean())


def score(
    truth: pl.DataFrame,
    prediction: pl.DataFrame,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
    trained_on: Collection[str] = (),
    names: tuple[str, str] = ("labels", "predictions"),
) -> Score:
    """Scores a prediction table against the label table of the same clips.

    Args:
        truth: the labels (`tables.read_labels`).
        prediction: the predictions (`tables.read_predictions`), rows in any order.
        resamples: bootstrap resamples of the clips, taken as independent; 0 for no interval.
        seed: seed of the resampling.
        trained_on: ids that the predictor was trained on.
        names: what messages call the two tables.

    Raises:
        ScoreError: ids are missing, extra or duplicate; all of them named.
    """
    y, p = align(truth, prediction, names)
    r = pearson(y, p)
    per_emotion = {e: None if np.isnan(v) else float(v) for e, v in zip(EMOTIONS, r, strict=True)}
    seen = len(set(trained_on).intersection(truth[FILENAME]))
    problems = []
    for emotion, value, column in zip(EMOTIONS, r, p.T, strict=True):
        if np.isnan(value):
            side = "predictions" if np.ptp(column) == 0 else "labels"
            problems.append(
                Problem(emotion, f"the {side} are constant, so Pearson's r is undefined; counted as 0")
            )
    if seen:
        problems.append(
            Problem(
                "SEEN IN TRAINING",
                f"the predictor was trained on {seen:,} of these {len(y):,} clips; "
                "this is not a validation score",
            )
        )
    interval: dict[str, tuple[float, float] | None] = {}
    if resamples:
        low_high = bootstrap(y, p, resamples=resamples, seed=seed)
        interval.update(zip(("mean_pearson", *EMOTIONS), low_high, strict=True))
        interval.update(dict.fromkeys(emotion for emotion, value in per_emotion.items() if value is None))
    return Score(
        pearson=per_emotion,
        mean_pearson=mean_pearson(y, p),
        interval=interval,
        n=len(y),
        signature=_signature(len(y), resamples, seed),
        seen=seen,
        problems=tuple(problems),
    )


def align(
    truth: pl.DataFrame, prediction: pl.DataFrame, names: tuple[str, str] = ("labels", "predictions")
) -> tuple[Array, Array]:
    """The two tables as (N, 6) arrays whose rows are the same clips, in the order of `truth`.

    Raises:
        ScoreError: an id is missing, extra or appears twice; all problems at once.
    """
    problems = [
        *compare_ids(truth[FILENAME].to_list(), prediction[FILENAME].to_list(), names[1], names[0]),
        *_duplicates(truth, names[0]),
    ]
    if problems:
        raise ScoreError(problems)
    rows = truth.select(FILENAME).join(prediction, on=FILENAME, how="left", maintain_order="left")
    return truth.select(EMOTIONS).to_numpy(), rows.select(EMOTIONS).to_numpy()


def compare_ids(
    expected: Collection[str], found: Collection[str], name: str, against: str, *, if_missing: str = ""
) -> list[Problem]:
    """A problem for the ids that `found` lacks (with the next step `if_missing`), has too many, or twice."""
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    problems = []
    if missing:
        problems.append(Problem(name, _list(missing, f"missing, against {against}"), next_step=if_missing))
    if extra:
        problems.append(Problem(name, _list(extra, f"too many, against {against}")))
    return problems + _duplicates(pl.DataFrame({FILENAME: list(found)}, schema={FILENAME: pl.String}), name)


def bootstrap(truth: Array, prediction: Array, *, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Percentile intervals (low, high) of the mean Pearson and of each column's r.

    A resample is a vector of counts; with the columns' moments every r of every resample is one matrix
    product. Columns are standardised first, so that the moments keep their digits. A resample in which a
    column is constant counts as 0.
    """
    n, k = truth.shape
    y, p = _standardise(truth) * np.sqrt(n), _standardise(prediction) * np.sqrt(n)
    moments = np.concatenate([y, p, y * y, p * p, y * p], axis=1)  # (N, 5K)
    generator = np.random.default_rng(seed)
    r = np.empty((resamples, k))
    chunk = 128  # resamples at a time: bounds the count matrix to a few MiB
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        my, mp, myy, mpp, myp = np.split(counts @ moments / n, 5, axis=1)
        vy, vp = myy - my * my, mpp - mp * mp
        varies = (vy > _ROUNDING * myy) & (vp > _ROUNDING * mpp)
        with np.errstate(invalid="ignore", divide="ignore"):
            r[start : start + size] = np.where(varies, (myp - my * mp) / np.sqrt(vy * vp), 0.0)
    r = r.clip(-1.0, 1.0)
    tail = (1 - CONFIDENCE) / 2 * 100
    columns = np.concatenate([r.mean(axis=1, keepdims=True), r], axis=1)
    low, high = np.percentile(columns, [tail, 100 - tail], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _standardise(values: Array) -> Array:
    """Columns of mean 0 and Euclidean norm 1; nan for a constant column."""
    # A constant column of, say, 0.1 does not centre to exact zeros: it is found by its range.
    constant = np.ptp(values, axis=0) == 0
    centred = values - values.mean(axis=0)
    centred = centred - centred.mean(axis=0)  # again: what rounding left of a large offset
    # Scaled before squaring, so that tiny or huge columns neither under- nor overflow.
    largest = np.where(constant, np.nan, np.abs(centred).max(axis=0))
    scaled = centred / largest
    return np.asarray(scaled / np.linalg.norm(scaled, axis=0))


def _duplicates(table: pl.DataFrame, name: str) -> list[Problem]:
    twice = table.filter(pl.col(FILENAME).is_duplicated())[FILENAME].unique().sort().to_list()
    if not twice:
        return []
    return [Problem(name, _list(twice, "more than once"), "each id once")]


def _list(ids: list[str], what: str, shown: int = 10) -> str:
    more = f" and {len(ids) - shown:,} more" if len(ids) > shown else ""
    return f"{len(ids):,} {'id' if len(ids) == 1 else 'ids'} {what}: {', '.join(ids[:shown])}{more}"


def _signature(n: int, resamples: int, seed: int) -> str:
    interval = f"percentile,{CONFIDENCE:g},{resamples},seed:{seed}" if resamples else "none"
    return f"mean_pearson|n:{n}|undefined:0|ci:{interval}|abaw_emi:{VERSION}"
