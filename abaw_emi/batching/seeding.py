"""Where the randomness of training comes from: a pure function of the place in the run.

Nothing is drawn from numpy's or random's global generators. torch's own dropout knows no other generator
than torch's global one, which is therefore seeded again for every group of clips that is run.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Purpose = Literal["masks", "augmentation", "dropout", "modalities"]

_STREAMS: dict[Purpose, int] = {"masks": 1, "augmentation": 2, "dropout": 3, "modalities": 4}


def make_generator(purpose: Purpose, seed: int, epoch: int, step: int, rank: int) -> np.random.Generator:
    """The generator of a step's random numbers, one for each purpose and rank."""
    return np.random.default_rng(_sequence(purpose, seed, epoch, step, rank))


def seed_dropout(seed: int, epoch: int, step: int, rank: int, group: int) -> None:
    """Seeds torch for one group of a step; a second pass over the group draws the same."""
    torch.manual_seed(int(_sequence("dropout", seed, epoch, step, rank, group).generate_state(1)[0]))


def _sequence(purpose: Purpose, *place: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([_STREAMS[purpose], *place])
