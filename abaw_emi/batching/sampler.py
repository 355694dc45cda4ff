"""Which clips a step trains on, and which of them run side by side: indices into a list of lengths.

Everything here is a pure function of its arguments, so a resumed run continues where it was, and the batches
do not depend on how many processes share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_WINDOW = 16
"""Batches' worth of clips among which a seconds budget looks for clips of similar length: .95 of the frames
are then real, and the batches still differ from epoch to epoch (benchmarks/README.md)."""


def plan_epoch(lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, each sorted longest first; which clips a batch holds is random."""
    order = _shuffle(len(lengths), seed, epoch)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [sort_by_length(batch, lengths) for batch in batches]


def plan_epoch_by_budget(lengths: Sequence[int], *, budget: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, each of similar lengths and at most `budget` samples, padding included.

    A clip longer than the budget is a batch of its own.
    """
    order = _shuffle(len(lengths), seed, epoch)
    reached = np.cumsum([lengths[index] for index in order]) // (_WINDOW * budget)
    windows = np.split(np.asarray(order), np.flatnonzero(np.diff(reached)) + 1)
    batches = [
        batch
        for window in windows
        for batch in group_by_length(sort_by_length(window.tolist(), lengths), lengths, budget=budget)
    ]
    return [batches[index] for index in _shuffle(len(batches), seed, epoch)]


def share_batch(batch: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """What each of `size` processes does of a sorted batch: a stretch of it, which needs little padding.

    The most samples that any of them has are the fewest possible. A process may have no clip.

    >>> share_batch([3, 0, 1, 2], [4, 3, 3, 8], 2)
    [[3], [0, 1, 2]]
    """
    sums = np.cumsum([max(1, lengths[index]) for index in batch])  # without sound there are no samples
    low, high = 0, int(sums[-1]) if len(batch) else 0
    while low < high:
        middle = (low + high) // 2
        if len(_cut(sums, middle, size)) > size:
            low = middle + 1
        else:
            high = middle
    ends = _cut(sums, high, size)
    ends += [len(batch)] * (size - len(ends))
    return [list(batch[start:end]) for start, end in pairwise([0, *ends])]


def _cut(sums: npt.NDArray[np.int64], most: int, size: int) -> list[int]:
    """Where stretches of at most `most` samples end; more than `size` of them if that many are too few."""
    ends: list[int] = []
    done = start = 0
    while start < len(sums) and len(ends) <= size:
        end = int(np.searchsorted(sums, done + most, side="right"))
        if end == start:  # a clip alone is longer
            return [0] * (size + 1)
        ends.append(end)
        done, start = int(sums[end - 1]), end
    return ends


def sort_by_length(indices: Iterable[int], lengths: Sequence[int]) -> list[int]:
    """`indices`, the longest clip first."""
    return sorted(indices, key=lambda index: (-lengths[index], index))


def group_by_length(
    ordered: Sequence[int], lengths: Sequence[int], *, size: int | None = None, budget: int | None = None
) -> list[list[int]]:
    """Clips to run side by side: `ordered`, longest first, cut where a group is full.

    Args:
        ordered: Indices as `sort_by_length` returns them.
        lengths: Samples of each clip.
        size: Most clips of a group.
        budget: Most samples of a group, padding included; a longer clip stands alone.
    """
    groups: list[list[int]] = []
    for index in ordered:
        group = groups[-1] if groups else []
        full = size is not None and len(group) >= size
        if not group or full or (budget is not None and lengths[group[0]] * (len(group) + 1) > budget):
            groups.append([index])
        else:
            group.append(index)
    return groups


def padding_efficiency(groups: Iterable[Sequence[int]], lengths: Sequence[int]) -> float:
    """The share of the samples run that belong to clips, in (0, 1]; the rest is padding."""
    real = padded = 0
    for group in groups:
        real += sum(lengths[index] for index in group)
        padded += max(lengths[index] for index in group) * len(group)
    return real / padded


def _shuffle(count: int, seed: int, epoch: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return order
