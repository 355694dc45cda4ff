from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from abaw_emi.batching.batches import Batch
from abaw_emi.batching.loader import Loader, Step
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import TrainingConfig
from tests.small_models import make_example, small_model

CLIPS = [make_example(number, 16_000) for number in range(24)]
LABELS = {clip.filename: np.zeros(6, np.float32) for clip in CLIPS}
MODEL = small_model("layer", backbone={"layerdrop": 0.5, "num_hidden_layers": 8})


def load(*, seed: int = 1, rank: int = 0, epoch: int = 0, step: int = 0, most: int | None = None) -> Step:
    loader = Loader(
        examples=CLIPS,
        labels=LABELS,
        model=MODEL,
        config=TrainingConfig(seed=seed),
        rank=rank,
        size=2,
    )
    return loader.make(range(len(CLIPS)), epoch, step, most)


def drawn(step: Step) -> list[list[bool]]:
    """The layers that each clip goes through, and the frames that it keeps."""
    parts = []
    for group in step.groups:
        assert group.masks is not None
        parts.append(torch.cat([group.masks.layers_kept.T, group.masks.masked_frames], dim=1))
    rows: list[list[bool]] = torch.cat(parts).tolist()
    return rows


def test_what_is_left_out_is_the_same_at_the_same_place_and_another_at_any_other() -> None:
    here = drawn(load())
    assert drawn(load()) == here
    assert drawn(load(most=3)) == here  # however the batch is cut
    others = [load(seed=2), load(epoch=1), load(step=1), load(rank=1)]
    assert all(drawn(other) != here for other in others)
    assert len({str(row) for row in here}) > len(here) / 2  # and each clip has its own


def test_threads_make_the_steps_that_one_makes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)  # there is no GPU to pin it for
    monkeypatch.setattr("abaw_emi.batching.loader.count_cores", lambda: 3)
    varied = AugmentationConfig(speed=(0.9, 1.1), noise_probability=1.0, gain_db=3.0, time_mask_seconds=0.2)
    config = TrainingConfig(batch_size=4, group_size=2, augmentation=varied)
    loaders = [
        Loader(examples=CLIPS, labels=LABELS, model=MODEL, config=config, pinned=pinned)
        for pinned in (False, True)
    ]
    assert [loader.threads for loader in loaders] == [1, 3]
    assert replace(loaders[1], config=replace(config, augmentation=AugmentationConfig())).threads == 1
    expected, found = ([*loader.load(loader.plan(0), 0, 1)] for loader in loaders)
    assert len(expected) == len(found) == 5
    for step, other in zip(expected, found, strict=True):
        for group, same in zip(step.groups, other.groups, strict=True):
            assert group.filenames == same.filenames
            assert torch.equal(group.waveforms, same.waveforms)


def test_groups_are_larger_on_a_gpu_unless_they_are_given() -> None:
    clips = [make_example(number, 1_000 + 311 * number) for number in range(32)]

    def efficiency(group_size: int, *, pinned: bool) -> float:
        config = TrainingConfig(group_size=group_size)
        loader = Loader(examples=clips, labels=LABELS, model=MODEL, config=config, pinned=pinned)
        return loader.padding_efficiency(0)

    on_cpu, on_gpu = efficiency(0, pinned=False), efficiency(0, pinned=True)
    assert on_cpu == efficiency(8, pinned=True) > on_gpu == efficiency(16, pinned=False)
