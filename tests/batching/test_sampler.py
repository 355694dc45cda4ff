from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.batching.sampler import (
    group_by_length,
    padding_efficiency,
    plan_epoch,
    plan_epoch_by_budget,
    share_batch,
    sort_by_length,
)
from tests.small_models import LONGEST, SHORTEST

patient = settings(deadline=None)  # other work on the machine is no failure

LENGTHS = st.lists(st.integers(SHORTEST, LONGEST), min_size=1, max_size=70)
SEEDS = st.integers(0, 2**31)
EPOCHS = st.integers(0, 100)


@patient
@given(LENGTHS, st.integers(1, 40), SEEDS, EPOCHS)
def test_an_epoch_holds_every_clip_once_in_batches_of_the_size_longest_first(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    batches = plan_epoch(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert 0 < len(batches[-1]) <= batch_size
    for batch in batches:
        in_order = [lengths[index] for index in batch]
        assert in_order == sorted(in_order, reverse=True)


@patient
@given(LENGTHS, st.integers(1, 3 * LONGEST), SEEDS, EPOCHS)
def test_a_seconds_budget_is_kept_padding_included_and_no_clip_is_lost(
    lengths: list[int], budget: int, seed: int, epoch: int
) -> None:
    batches = plan_epoch_by_budget(lengths, budget=budget, seed=seed, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        in_order = [lengths[index] for index in batch]
        assert in_order == sorted(in_order, reverse=True)
        assert max(in_order) * len(batch) <= budget or len(batch) == 1


@pytest.mark.parametrize("plan", [plan_epoch, plan_epoch_by_budget])
def test_a_plan_is_the_same_every_time_and_differs_by_epoch_and_by_seed(plan: object) -> None:
    lengths = np.random.default_rng(0).integers(SHORTEST, LONGEST, 500).tolist()
    dial = {"batch_size": 16} if plan is plan_epoch else {"budget": 16 * 100_000}
    first = plan(lengths, **dial, seed=3, epoch=2)  # type: ignore[operator]
    assert plan(lengths, **dial, seed=3, epoch=2) == first  # type: ignore[operator]
    assert plan(lengths, **dial, seed=3, epoch=3) != first  # type: ignore[operator]
    assert plan(lengths, **dial, seed=4, epoch=2) != first  # type: ignore[operator]


def test_a_seconds_budget_pads_little_and_its_batches_come_in_no_order_of_length() -> None:
    lengths = (np.random.default_rng(0).beta(1.6, 1.2, 4_000) * LONGEST).astype(int).clip(SHORTEST).tolist()
    batches = plan_epoch_by_budget(lengths, budget=32 * 7 * 16_000, seed=1, epoch=0)
    assert padding_efficiency(batches, lengths) > 0.93
    longest = np.array([lengths[batch[0]] for batch in batches])
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.3


@patient
@given(LENGTHS, st.integers(1, 9))
def test_processes_share_a_batch_whole_and_evenly(lengths: list[int], size: int) -> None:
    batch = sort_by_length(range(len(lengths)), lengths)
    shares = [share_batch(batch, rank, size) for rank in range(size)]
    assert sorted(index for share in shares for index in share) == sorted(batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for share in shares:
        assert share == sort_by_length(share, lengths)


@patient
@given(LENGTHS, st.integers(1, 12), st.integers(1, 4 * LONGEST))
def test_groups_are_the_ordered_clips_cut_where_they_are_full(
    lengths: list[int], size: int, budget: int
) -> None:
    ordered = sort_by_length(range(len(lengths)), lengths)
    groups = group_by_length(ordered, lengths, size=size, budget=budget)
    assert [index for group in groups for index in group] == ordered
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        assert len(group) <= size
        assert lengths[group[0]] * len(group) <= budget or len(group) == 1
        if following is not None:  # nothing is cut before it is full
            assert len(group) == size or lengths[group[0]] * (len(group) + 1) > budget


def test_padding_efficiency_is_the_share_of_real_samples() -> None:
    assert padding_efficiency([[0, 1], [2]], [4, 2, 3]) == pytest.approx(9 / 11)
    assert padding_efficiency([[0], [1]], [5, 7]) == 1
