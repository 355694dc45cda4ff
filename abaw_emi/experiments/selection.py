"""How good the best of many trials is, on clips that it was not chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from abaw_emi.core.constants import FILENAME
from abaw_emi.data.folds import hold_out
from abaw_emi.evaluation.pearson import mean_pearson

_PARTS = 5


def score_choice(predictions: Sequence[pl.DataFrame], labels: pl.DataFrame) -> float:
    """The mean Pearson of choosing among predictions, each fifth of the clips by the other four fifths.

    Args:
        predictions: of the same clips, one table a trial.
        labels: their labels.

    Returns:
        Of the predictions chosen for each fifth, put together. Still optimistic by what each trial chose on
        these clips itself, such as its epoch.
    """
    ids = labels[FILENAME].to_list()
    chosen = []
    for part in range(1, _PARTS + 1):
        held_out = pl.col(FILENAME).is_in(hold_out(ids, f"{part}/{_PARTS}"))
        rest = labels.filter(~held_out)
        best = max(predictions, key=lambda table: mean_pearson(rest, table.filter(~held_out)))
        chosen.append(best.filter(held_out))
    return mean_pearson(labels, pl.concat(chosen))


def score_choice_by_folds(values: Sequence[Mapping[int, float]]) -> float:
    """The mean score of choosing among trials, for each fold by the others.

    >>> score_choice_by_folds([{0: 0.5, 1: 0.3}, {0: 0.4, 1: 0.4}])  # fold 0 by fold 1, and the reverse
    0.35

    Args:
        values: the score of each trial on each fold.
    """
    folds = list(values[0])
    scores = []
    for fold in folds:
        best = max(values, key=lambda each: sum(each[other] for other in folds if other != fold))
        scores.append(best[fold])
    return sum(scores) / len(scores)
