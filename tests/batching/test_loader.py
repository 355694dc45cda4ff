from __future__ import annotations

import numpy as np
import torch

from abaw_emi.batching.loader import Loader, Step
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
