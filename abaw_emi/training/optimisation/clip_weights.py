"""Weights of clips in a loss: an intensity that more raters voted on is known better."""

from __future__ import annotations

import numpy as np
import polars as pl

from abaw_emi.audit.label_statistics import MOST_RATERS, count_raters
from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import CorpusError, Problem, show_first
from abaw_emi.core.ids import pack_ids


def weigh_clips(labels: pl.DataFrame) -> Float32:
    """The square root of each clip's number of raters N, over the mean of all: (clips,).

    As the winner of 2026 offers it (github.com/ZZZRamsey/CVPR_2026_ABAW_10th_EMI, abaw/abaw_dataset.py, off
    by default): theirs is the largest denominator of the six labels, N here the smallest of which all six
    are k/N.

    Args:
        labels: the label table of the clips to train on.

    Raises:
        CorpusError: labels of a clip are no such fractions; all clips are named.
    """
    raters = count_raters(labels.select(EMOTIONS).to_numpy())
    if unknown := labels[FILENAME].to_numpy()[raters == 0].tolist():
        found = f"{len(unknown):,} clips have labels that are no k/N: {show_first(pack_ids(unknown))}"
        expected = f"fractions of N up to {MOST_RATERS}"
        raise CorpusError(Problem("training.clip_weights", found, expected, "set it to 'equal'"))
    weights = np.sqrt(raters.astype(np.float64))
    shares: Float32 = (weights / weights.mean()).astype(np.float32)
    return shares
