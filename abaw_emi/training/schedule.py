"""The learning rate over a run: linear warm-up, then half a cosine (PAPER, section 4; the warm-up CODE)."""

from __future__ import annotations

import math


def rate_factor(done: float, *, warmup: float, epochs: int) -> float:
    """The share of the peak learning rate, in [0, 1], after `done` epochs; `warmup` of them are warm-up.

    That of transformers' get_cosine_schedule_with_warmup where all epochs have as many steps; counted in
    epochs, because batches of so many seconds do not come to the same number every epoch. It needs no
    state: where a run stands says it all.

    >>> [round(rate_factor(done, warmup=1, epochs=3), 3) for done in (0, 0.5, 1, 2, 2.5)]
    [0.0, 0.5, 1.0, 0.5, 0.146]
    """
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / max(epochs - warmup, 1e-9))) / 2
