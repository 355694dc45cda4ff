from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.wav2vec2 import modeling_wav2vec2

from abaw_emi.models.encoders.spec_augment import Masks, Regularisation, Spans
from tests.small_models import small_model

PUBLISHED = Spans(share=0.05, length=10, at_least=2)
ALL = Regularisation(
    layers=12,
    layerdrop=0.1,
    width=64,
    time=PUBLISHED,
    features=Spans(share=0.1, length=4, at_least=0),
)


def theirs(spans: Spans, places: int) -> np.ndarray:
    """transformers' mask (places,) of one clip alone, drawn from numpy's global generator."""
    return modeling_wav2vec2._compute_mask_indices(
        (1, places), spans.share, spans.length, min_masks=spans.at_least
    )[0]


def equal(one: Masks, other: Masks) -> bool:
    pairs = [
        (getattr(one, name), getattr(other, name))
        for name in ("layers_kept", "masked_frames", "masked_features")
    ]
    return all(a is b is None or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


@settings(deadline=None, max_examples=300)
@given(
    share=st.floats(0.01, 1.0),
    length=st.integers(1, 12),
    at_least=st.integers(0, 4),
    places=st.integers(1, 700),
    seed=st.integers(0, 2**32),
)
def test_spans_are_transformers_own_where_both_draw_from_one_generator(
    share: float, length: int, at_least: int, places: int, seed: int
) -> None:
    spans = Spans(share=share, length=length, at_least=at_least)
    found = spans.draw(places, np.random.default_rng(seed))
    assert found.shape == (places,)
    if places < length:
        assert not found.any()
        with pytest.raises(ValueError, match="mask_length"):
            theirs(spans, places)
        return
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "rand", rng.random)
        patch.setattr(np.random, "choice", rng.choice)
        expected = theirs(spans, places)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("places", [10, 11, 29, 60, 199, 599])
def test_as_many_frames_are_masked_as_in_transformers(places: int) -> None:
    rng = np.random.default_rng(0)
    np.random.seed(0)
    found = np.stack([PUBLISHED.draw(places, rng) for _ in range(3_000)])
    expected = np.stack([theirs(PUBLISHED, places) for _ in range(3_000)])
    shares = found.mean(1), expected.mean(1)
    # Far from each other would be four standard errors.
    error = np.sqrt((shares[0].var() + shares[1].var()) / 3_000)
    assert abs(shares[0].mean() - shares[1].mean()) <= 4 * error
    # Where in the clip, and how many at once.
    counts = [np.bincount(masks.sum(1), minlength=places + 1) / 3_000 for masks in (found, expected)]
    assert np.abs(counts[0] - counts[1]).max() < 0.05
    assert np.abs(found.mean(0) - expected.mean(0)).max() < 0.06


def test_each_layer_of_each_clip_is_dropped_with_its_probability_and_by_itself() -> None:
    masks = [ALL.draw([50] * 8, np.random.default_rng(seed)) for seed in range(500)]
    kept = torch.cat([draw.layers_kept for draw in masks], dim=1).float()  # (12, 4000)
    error = (0.1 * 0.9 / kept.shape[1]) ** 0.5
    assert (kept.mean(1) - 0.9).abs().max() < 4 * error
    correlations = torch.corrcoef(kept) - torch.eye(12)
    assert correlations.abs().max() < 5 / kept.shape[1] ** 0.5
    rows = torch.stack([draw.layers_kept for draw in masks]).float().transpose(1, 2).flatten(0, 1)
    neighbours = torch.corrcoef(torch.stack([rows[:-1].flatten(), rows[1:].flatten()]))[0, 1]
    assert neighbours.abs() < 5 / rows.numel() ** 0.5


def test_draws_are_a_function_of_the_generator_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    first, again, other = (ALL.draw([400, 50, 5], np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert equal(first, again)
    assert not equal(first, other)
    rng = np.random.default_rng(7)
    assert equal(ALL.draw([400, 50, 5], rng), first)
    assert not equal(ALL.draw([400, 50, 5], rng), first)  # the next step draws anew
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_what_a_clip_draws_does_not_depend_on_the_clips_beside_it() -> None:
    lengths = [400, 50, 5, 599]
    here = ALL.draw(lengths, np.random.default_rng(3))
    beside_others = ALL.draw([12, 50, 80, 599, 20], np.random.default_rng(3))
    for row in (1, 3):
        one, other = (masks.take(torch.tensor([row]), lengths[row]) for masks in (here, beside_others))
        assert equal(one, other)


def test_nothing_is_masked_beyond_a_clips_end_or_in_a_clip_shorter_than_a_span() -> None:
    lengths = [100, 9, 10, 1, 57]
    masks = ALL.draw(lengths, np.random.default_rng(0))
    assert masks.masked_frames is not None
    assert masks.masked_frames.shape == (5, 100)
    counts = masks.masked_frames.sum(1)
    assert [int(counts[row]) for row in (1, 2, 3)] == [0, 10, 0]
    for row, length in enumerate(lengths):
        assert not masks.masked_frames[row, length:].any()
    assert counts[0] >= 10
    assert counts[4] >= 10


def test_masks_change_together() -> None:
    masks = ALL.draw([30, 20], np.random.default_rng(0))
    away = masks.map(lambda values: values.to("meta"))
    moved = (away.layers_kept, away.masked_frames, away.masked_features)
    assert all(values is not None and values.device.type == "meta" for values in moved)
    bare = Masks(layers_kept=masks.layers_kept)
    assert equal(bare.map(torch.logical_not).map(torch.logical_not), bare)


@pytest.mark.parametrize("encoder", ["layer", "group"])
def test_a_model_draws_for_the_frames_of_its_clips(encoder: str) -> None:
    model = small_model(encoder, backbone={"mask_time_prob": 0.3, "layerdrop": 0.5})
    masks = model.draw_masks([400, 32_000, 16_000], np.random.default_rng(0))
    assert masks is not None
    assert masks.layers_kept.shape == (2, 3)
    assert masks.masked_frames is not None
    assert masks.masked_frames.shape == (3, 99)
    assert masks.masked_frames.sum(1).tolist()[0] == 0
    assert masks.masked_features is None


@pytest.mark.parametrize(
    ("encoder", "parts", "backbone"),
    [
        ("logmel", {}, {}),
        ("layer", {"freeze_encoder": True}, {}),
        ("group", {"freeze_encoder": True}, {}),
        ("layer", {}, {"layerdrop": 0.0, "apply_spec_augment": False}),
        ("layer", {}, {"layerdrop": 0.0, "mask_time_prob": 0.0}),
    ],
)
def test_a_model_that_leaves_nothing_out_draws_nothing(
    encoder: str, parts: dict[str, Any], backbone: dict[str, Any]
) -> None:
    model = small_model(encoder, backbone=backbone, **parts).train()
    rng = np.random.default_rng(0)
    assert model.draw_masks([400, 32_000], rng) is None
    assert rng.random() == np.random.default_rng(0).random()
