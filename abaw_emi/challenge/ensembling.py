"""Many predictions of the same clips, combined into one.

Members are matched by Filename, never by row. Weights of different runs are never averaged, only what
they predict.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from abaw_emi.challenge.facts import EMOTIONS, FILENAME
from abaw_emi.challenge.scoring import compare_ids
from abaw_emi.errors import Problem, ScoreError


def ensemble(members: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The mean of the members' predictions for each clip and emotion, sorted by id, in float64.

    Args:
        members: prediction tables (`tables.read_predictions`) by a name for messages; at least one.

    Raises:
        ScoreError: no member, a member lacks clips that another one has, or a clip is there twice; all named.
    """
    if not members:
        raise ScoreError(Problem("ensemble", "no member", "at least one prediction table"))
    first = next(iter(members))
    clips = sorted(members[first][FILENAME])
    problems = [
        problem
        for name, table in members.items()
        for problem in compare_ids(clips, table[FILENAME].to_list(), name, first)
    ]
    if problems:
        raise ScoreError(problems)
    stacked = np.stack([table.sort(FILENAME).select(EMOTIONS).to_numpy() for table in members.values()])
    mean = stacked.mean(axis=0, dtype=np.float64)  # (N, 6)
    return pl.DataFrame({FILENAME: clips, **dict(zip(EMOTIONS, mean.T, strict=True))})
