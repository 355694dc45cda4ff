"""Branches: a vector for each clip that knows nothing of its batch, and is what its parts are named after."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from abaw_emi.config.parts import FeatureConfig
from abaw_emi.models.branches import Branch, encode_places

WIDTH = 6
TEMPORAL: tuple[tuple[str, ...], ...] = (
    (),
    ("gru",),
    ("lstm",),
    ("tcn",),
    ("transformer",),
    ("tcn", "transformer"),
)
POOLING = ("mean", "first", "last", "mean+last", "statistics", "attention", "attentive-statistics")


def make_branch(temporal: tuple[str, ...], pooling: str, **dials: Any) -> Branch:
    values: dict[str, Any] = {"hidden_size": 8, "layers": 2, "heads": 2, **dials}
    torch.manual_seed(0)
    branch = Branch(FeatureConfig(name="vit", temporal=temporal, pooling=pooling, **values), WIDTH)  # type: ignore[arg-type]
    branch.fit_scale([np.random.default_rng(3).normal(2, 5, (50, WIDTH)).astype(np.float32)])
    return branch.double().eval()


def draw_frames(length: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(length).normal(2, 5, (length, WIDTH)))


@pytest.mark.parametrize(("temporal", "pooling"), list(product(TEMPORAL, POOLING)))
@settings(max_examples=6)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), garbage=st.floats(-1e6, 1e6))
def test_a_clip_gets_the_same_vector_alone_and_beside_others(
    temporal: tuple[str, ...], pooling: str, lengths: list[int], garbage: float
) -> None:
    branch = make_branch(temporal, pooling)
    clips = [draw_frames(length) for length in lengths]
    batch = torch.full((len(clips), max(lengths) + 3, WIDTH), garbage, dtype=torch.float64)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    with torch.no_grad():
        together = branch(batch, torch.tensor(lengths))
        alone = torch.cat([branch(clip[None], torch.tensor([len(clip)])) for clip in clips])
    assert together.shape == (len(clips), branch.output_width)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("temporal", "pooling"), list(product(TEMPORAL[1:], POOLING)))
def test_a_clip_without_frames_has_a_finite_vector_and_gives_finite_gradients(
    temporal: tuple[str, ...], pooling: str
) -> None:
    branch = make_branch(temporal, pooling)
    branch(torch.zeros(2, 4, WIDTH, dtype=torch.float64), torch.tensor([0, 1])).sum().backward()
    for name, weight in branch.named_parameters():
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name


def test_statistics_are_those_of_numpy_on_standardised_frames() -> None:
    branch = make_branch((), "statistics")
    clip = draw_frames(9)
    scaled = ((clip - branch.mean) / branch.scale).numpy()
    expected = np.concatenate([scaled.mean(0), scaled.std(0), scaled.min(0), scaled.max(0)])
    np.testing.assert_allclose(branch(clip[None], torch.tensor([9]))[0], expected, rtol=0, atol=1e-6)


def test_attention_pools_by_the_softmax_of_a_score_of_each_frame() -> None:
    clip = draw_frames(9)
    branch = make_branch((), "attentive-statistics")
    state = {name: value.numpy() for name, value in branch.state_dict().items()}
    scaled = (clip.numpy() - state["mean"]) / state["scale"]
    scores = np.exp(scaled @ state["pooling.score.weight"][0] + state["pooling.score.bias"])
    weights = (scores / scores.sum())[:, None]
    assert weights.std() > 0.01  # not the plain mean
    mean = (weights * scaled).sum(0)
    deviation = np.sqrt((weights * scaled**2).sum(0) - mean**2)
    found = branch(clip[None], torch.tensor([9]))[0].detach()
    np.testing.assert_allclose(found, np.concatenate([mean, deviation]), rtol=0, atol=1e-5)
    alone = make_branch((), "attention")  # of the same seed, so with the same score
    np.testing.assert_allclose(alone(clip[None], torch.tensor([9]))[0].detach(), mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "pooling"), list(product(("gru", "lstm"), POOLING)))
def test_both_ways_a_clip_alone_is_the_clip_beside_others(kind: str, pooling: str) -> None:
    branch = make_branch((kind,), pooling, bidirectional=True)
    clips = [draw_frames(length) for length in (7, 1, 12)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=9e3)
    with torch.no_grad():
        together = branch(batch, torch.tensor([7, 1, 12]))
        alone = torch.cat([branch(clip[None], torch.tensor([len(clip)])) for clip in clips])
    assert together.shape == (3, branch.output_width)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_both_ways_the_last_state_is_that_of_two_networks_of_one_direction_each(kind: str) -> None:
    branch = make_branch((kind,), "last", bidirectional=True, layers=1)
    clip = draw_frames(9)
    scaled = ((clip - branch.mean) / branch.scale)[None]
    state = branch.temporal[0].network.state_dict()
    ends = []
    for suffix, frames in (("", scaled), ("_reverse", scaled.flip(1))):
        alone = (torch.nn.GRU if kind == "gru" else torch.nn.LSTM)(WIDTH, 8, batch_first=True).double()
        alone.load_state_dict({name: state[name + suffix] for name in alone.state_dict()})
        ends.append(alone(frames)[0][0, -1])
    found = branch(clip[None], torch.tensor([9]))[0]
    torch.testing.assert_close(found, torch.cat(ends), rtol=0, atol=1e-5)


def test_both_ways_needs_a_recurrent_network() -> None:
    with pytest.raises(ValueError, match="bidirectional is for a branch with gru or lstm"):
        FeatureConfig(name="vit", temporal=("tcn",), bidirectional=True)


@pytest.mark.parametrize("norm", ["first", "last"])
def test_the_projection_is_dense_norm_and_gelu(norm: str) -> None:
    branch = make_branch((), "mean", projection=5, projection_norm=norm)
    clip = draw_frames(9)
    x = (clip - branch.mean) / branch.scale
    state = branch.temporal[0].state_dict()
    for part in ("norm", "dense") if norm == "first" else ("dense", "norm"):
        if part == "dense":
            x = x @ state["dense.weight"].T + state["dense.bias"]
        else:
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = (x * (1 + torch.erf(x / math.sqrt(2))) / 2).mean(0)
    torch.testing.assert_close(branch(clip[None], torch.tensor([9]))[0], expected, rtol=0, atol=1e-5)


def test_the_scale_is_that_of_all_training_frames_together() -> None:
    clips = [draw_frames(length).numpy().astype(np.float32) for length in (3, 7, 20)]
    for clip in clips:
        clip[:, 2] = 4.0  # a feature that never changes is not blown up
    branch = Branch(FeatureConfig(name="vit"), WIDTH)
    branch.fit_scale(clips)
    frames = np.concatenate(clips).astype(np.float64)
    expected = np.where(frames.std(0) == 0, 1, frames.std(0))
    np.testing.assert_allclose(branch.mean, frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(branch.scale, expected, rtol=1e-6)


def test_a_tcn_is_residual_dilated_convolutions_over_the_clip_alone() -> None:
    branch = make_branch(("tcn",), "mean", layers=3, kernel=3)
    clip = draw_frames(11)
    (tcn,) = branch.temporal
    state = {name: value.detach() for name, value in tcn.named_parameters()}
    x = (clip - branch.mean) / branch.scale
    x = x @ state["entry.weight"][..., 0].T + state["entry.bias"]
    for layer in range(3):
        seen = F.layer_norm(x, (8,), state[f"norms.{layer}.weight"], state[f"norms.{layer}.bias"])
        heard = state[f"convolutions.{layer}.bias"].repeat(len(clip), 1)
        for tap in range(3):  # written out, place by place: what lies outside the clip is zero
            for place in range(len(clip)):
                source = place + (tap - 1) * 2**layer
                if 0 <= source < len(clip):
                    heard[place] += state[f"convolutions.{layer}.weight"][..., tap] @ seen[source]
        x = x + heard.clamp(min=0)
    torch.testing.assert_close(branch(clip[None], torch.tensor([11]))[0], x.mean(0), rtol=0, atol=1e-9)


def test_a_transformer_knows_the_order_of_frames() -> None:
    branch = make_branch(("transformer",), "mean")
    clip = draw_frames(12)
    length = torch.tensor([12])
    assert not torch.allclose(branch(clip[None], length), branch(clip.flip(0)[None], length), atol=1e-3)


@pytest.mark.parametrize("width", [5, 8])
def test_places_are_sines_and_cosines_of_geometric_rates(width: int) -> None:
    places = encode_places(30, width, torch.device("cpu"))
    for place, feature in product((0, 1, 29), range(width)):
        angle = place / 10_000 ** (2 * (feature // 2) / width)
        expected = math.sin(angle) if feature % 2 == 0 else math.cos(angle)
        assert float(places[place, feature]) == pytest.approx(expected, abs=1e-5)
