"""Values brought into the range that the organisers accept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import Problem
from abaw_emi.submission.format import SubmissionFormat

Bounds = Literal["clip", "rescale", "auto", "refuse"]
"""clip: what lies outside becomes the nearest bound. rescale: the whole column by an increasing affine map,
to which r is blind. auto: clip, or rescale where clipping leaves one value or is known to lower r. refuse:
neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A table within the range, or what stands against it.

    Attributes:
        table: of the predictions.
        clipped: by emotion, how many values were clipped.
        rescaled: by emotion that was rescaled, factor and offset.
        problems: of bounds "refuse".
    """

    table: pl.DataFrame
    clipped: dict[str, int]
    rescaled: dict[str, tuple[float, float]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def bring_into_range(
    table: pl.DataFrame,
    where: str,
    profile: SubmissionFormat,
    bounds: Bounds = "auto",
    harmed: Collection[str] | None = None,
) -> Bounded:
    """The table with all values within the profile's range.

    Args:
        table: the predictions.
        where: what messages call them.
        profile: says the range.
        bounds: what becomes of values outside.
        harmed: emotions whose r on valid is lower when clipped, for "auto"; None where that is not known.
    """
    low, high = profile.range
    outside = {
        emotion: int(table.select(((pl.col(emotion) < low) | (pl.col(emotion) > high)).sum()).item())
        for emotion in EMOTIONS
    }
    if bounds == "refuse":
        problems = [
            Problem(f"{where}, {emotion}", f"{count:,} values lie outside [{low:g}, {high:g}]")
            for emotion, count in outside.items()
            if count
        ]
        return Bounded(table=table, clipped=dict.fromkeys(EMOTIONS, 0), problems=tuple(problems))
    rescaled = {
        emotion: find_map(table[emotion].to_numpy(), low, high)
        for emotion, count in outside.items()
        if count and _is_rescaled(table[emotion], low, high, bounds, harmed or ())
    }
    columns = [
        pl.col(emotion).cast(pl.Float64) * rescaled[emotion][0] + rescaled[emotion][1]
        if emotion in rescaled
        else pl.col(emotion)
        for emotion in EMOTIONS
    ]
    # In float32, which is what is written: rounded afterwards, a value could leave the range again.
    kept = table.with_columns(columns).with_columns(pl.col(EMOTIONS).cast(pl.Float32).clip(*profile.bounds))
    counts = {emotion: 0 if emotion in rescaled else count for emotion, count in outside.items()}
    return Bounded(table=kept, clipped=counts, rescaled=rescaled)


def _is_rescaled(values: pl.Series, low: float, high: float, bounds: Bounds, harmed: Collection[str]) -> bool:
    """Whether a column is not clipped: on demand, or where that would lower its r or make it constant."""
    if bounds != "auto":
        return bounds == "rescale"
    return values.name in harmed or (values.clip(low, high).n_unique() == 1 and values.n_unique() > 1)


def find_map(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Factor and offset that bring all values into [low, high]; the factor is 1 where moving them is enough.

    >>> find_map(np.array([-0.5, 0.25]), 0.0, 1.0)
    (1.0, 0.5)
    >>> find_map(np.array([-1.0, 3.0]), 0.0, 1.0)
    (0.25, 0.25)
    >>> find_map(np.array([1.0, 3.0]), 0.25, 0.5)
    (0.125, 0.125)
    """
    wide = np.asarray(values, np.float64)
    wide = wide[np.isfinite(wide)]
    least, greatest = float(wide.min()), float(wide.max())
    factor = min(1.0, (high - low) / (greatest - least)) if greatest > least else 1.0
    return factor, min(max(0.0, low - factor * least), high - factor * greatest)
