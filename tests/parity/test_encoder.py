from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
from transformers.models.wav2vec2 import modeling_wav2vec2

from abaw_emi.batching.batches import make_batch
from abaw_emi.config.model import ModelConfig
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weights import load_backbone
from tests.backbones import backbone_weights, small_config, write_backbone
from tests.small_models import LONGEST, make_example

LENGTHS = (400, 719, 720, 1_024, 3_279, 20_000, 20_000, 64_321, LONGEST)
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]

KINDS: dict[str, dict[str, Any]] = {
    "layer": small_config("layer"),
    "group": small_config("group"),
    "layer, odd positional kernel": small_config("layer", num_conv_pos_embeddings=15),
    "layer, norms after each layer": small_config("layer", do_stable_layer_norm=False),
    "group, norms before each layer": small_config("group", do_stable_layer_norm=True),
    "other activations": small_config("layer", hidden_act="relu", feat_extract_activation="gelu_new"),
    "other convolutions": small_config(
        "layer", conv_kernel=[10, 4, 1], conv_stride=[5, 8, 8], conv_dim=[8, 12, 16], conv_bias=False
    ),
}
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
)


def transformers_model(config: dict[str, Any]) -> Wav2Vec2Model:
    """transformers' own model with the weights of `backbone_weights`, filled by transformers' names."""
    model = Wav2Vec2Model(Wav2Vec2Config(**config))
    weights = {
        name.removeprefix("wav2vec2.")
        .replace("weight_g", "parametrizations.weight.original0")
        .replace("weight_v", "parametrizations.weight.original1"): value
        for name, value in backbone_weights(config).items()
        if name.startswith("wav2vec2.")
    }
    model.load_state_dict(weights, strict=True)
    return model.eval()


def alone(model: Wav2Vec2Model, waveform: Tensor) -> Tensor:
    with torch.no_grad():
        return model(waveform[None]).last_hidden_state[0]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_equal_transformers_clip_by_clip(
    kind: str, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    config = KINDS[kind]
    parts = ModelConfig(vad_head=False, lstm=False)
    model = EmiModel(EmiConfig.from_parts(parts, config))
    assert load_backbone(model, find_backbone(str(write_backbone(tmp_path, config)))) == []
    encoder = model.to(dtype).eval().encoder
    assert isinstance(encoder, Wav2Vec2Encoder)
    theirs = transformers_model(config).to(dtype)
    batch = make_batch([make_example(number, length) for number, length in enumerate(LENGTHS)])
    waveforms = batch.waveforms.to(dtype)
    with torch.no_grad():
        hidden_states, frames = encoder(waveforms, batch.lengths)
        real = torch.arange(int(frames.max())) < frames[:, None]
        padded = encoder.wav2vec2(waveforms, None, lengths=batch.lengths, real=real)  # of any kind on a GPU
    for row, length in enumerate(LENGTHS):
        expected = alone(theirs, waveforms[row, :length])
        assert frames[row] == len(expected)
        torch.testing.assert_close(hidden_states[row, : frames[row]], expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(padded[row, : frames[row]], expected, rtol=0, atol=tolerance)
        assert expected.std() > 0.1  # far above the tolerance


# Two clips that are too short for a span of SpecAugment, and longer ones.
TRAINED = (400, 3_279, 3_280, 9_999, 20_000, 20_000, 48_000)


@contextmanager
def features_masked(mask: Tensor | None) -> Iterator[None]:
    """Has transformers mask these features (H,) in its next forward of one clip, instead of drawing them."""
    with pytest.MonkeyPatch.context() as patch:
        if mask is not None:
            patch.setattr(modeling_wav2vec2, "_compute_mask_indices", lambda *_, **__: mask[None].numpy())
        yield


def left_out(theirs: Wav2Vec2Model, waveform: Tensor, masks: Masks, row: int) -> Tensor:
    """transformers' hidden states (F, H) of one clip alone, with what `masks` leaves out of it."""
    layers = theirs.encoder.layers
    spans = None
    if masks.masked_frames is not None:
        frames = int(theirs._get_feat_extract_output_lengths(len(waveform)))
        spans = masks.masked_frames[row : row + 1, :frames]
    theirs.encoder.layers = nn.ModuleList(
        layer for layer, kept in zip(layers, masks.layers_kept[:, row], strict=True) if kept
    )
    try:
        with features_masked(None if masks.masked_features is None else masks.masked_features[row]):
            return theirs(waveform[None].clone(), mask_time_indices=spans).last_hidden_state[0]
    finally:
        theirs.encoder.layers = layers


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(
    "masks",
    [
        {"mask_time_prob": 0.4},
        {"mask_time_prob": 0.4, "mask_feature_prob": 0.5, "mask_feature_length": 3},
        {"mask_time_prob": 0.0, "mask_feature_prob": 0.5, "mask_feature_length": 3},
        {"mask_time_prob": 0.0},
        {"apply_spec_augment": False},
    ],
)
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_in_training_states_and_gradients_are_those_of_transformers_with_the_same_left_out(
    norm: str, masks: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    config = small_config(norm, num_hidden_layers=4, layerdrop=0.4, **NO_DROPOUT, **masks)
    theirs = transformers_model({**config, "layerdrop": 0.0}).to(dtype).train()
    ours = Wav2Vec2Encoder(config).to(dtype).train()
    ours.wav2vec2.load_state_dict(theirs.state_dict(), strict=True)
    batch = make_batch([make_example(number, length) for number, length in enumerate(TRAINED)])
    waveforms = batch.waveforms.to(dtype)
    masks = ours.draw_masks(TRAINED, np.random.default_rng(5))
    assert masks is not None
    hidden_states, frames = ours(waveforms, batch.lengths, masks)
    places = torch.arange(hidden_states.shape[1])
    weights = torch.randn(hidden_states.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (hidden_states * weights)[places < frames[:, None]].sum().backward()
    names = dict(theirs.named_parameters())  # before layers are taken out
    for row, length in enumerate(TRAINED):
        expected = left_out(theirs, waveforms[row, :length], masks, row)
        torch.testing.assert_close(hidden_states[row, : frames[row]], expected, rtol=0, atol=tolerance)
        (expected * weights[row, : frames[row]]).sum().backward()
    found = dict(ours.wav2vec2.named_parameters())
    assert found.keys() == names.keys()
    for name, weight in names.items():
        if name == "masked_spec_embed" and not config["apply_spec_augment"]:
            assert found[name].grad is None
            continue
        gradient = found[name].grad
        assert gradient is not None, name
        # Where transformers ran nothing that has a weight, its gradient is None and this one's is zero.
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(gradient / scale, expected / scale, rtol=0, atol=tolerance)
        assert expected.abs().max() > 0 or name == "masked_spec_embed", name


def test_under_autocast_the_states_round_as_those_of_transformers() -> None:
    config = small_config("layer")
    theirs, ours = transformers_model(config), Wav2Vec2Encoder(config).eval()
    ours.wav2vec2.load_state_dict(theirs.state_dict(), strict=True)
    waveform = make_batch([make_example(0, 16_000)]).waveforms
    with torch.no_grad():
        exact = ours(waveform, torch.tensor([16_000]))[0][0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, expected = ours(waveform, torch.tensor([16_000]))[0][0], alone(theirs, waveform[0])
    assert found.dtype == expected.dtype
    error, their_error = (float((states - exact).square().mean().sqrt()) for states in (found, expected))
    assert 0 < error < 1.2 * their_error


@pytest.mark.parametrize("kind", KINDS)
def test_frame_lengths_are_those_that_transformers_gives(kind: str) -> None:
    encoder = Wav2Vec2Encoder(KINDS[kind])
    theirs = transformers_model(KINDS[kind])
    lengths = [400, 401, 719, 720, 1_039, 1_040, 3_279, 3_280, 16_000]
    found = encoder.frame_lengths(torch.tensor(lengths)).tolist()
    assert found == [len(alone(theirs, torch.randn(length))) for length in lengths]
    assert found == [encoder.frame_lengths(length) for length in lengths]


def test_twelve_seconds_have_599_frames() -> None:
    assert Wav2Vec2Encoder(KINDS["layer"]).frame_lengths(LONGEST) == 599


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_vad_head_and_whole_model_equal_a_forward_on_transformers_states(kind: str, tmp_path: Path) -> None:
    config = KINDS[kind]
    model = EmiModel(EmiConfig.from_parts(ModelConfig(), config))
    load_backbone(model, find_backbone(str(write_backbone(tmp_path, config))))
    model = model.double().eval()
    theirs = transformers_model(config).double()
    head = {name: value.double() for name, value in backbone_weights(config).items() if "classifier" in name}
    batch = make_batch([make_example(number, length) for number, length in enumerate(LENGTHS)])
    with torch.no_grad():
        found = model(batch.waveforms.double(), batch.lengths)
        for row, length in enumerate(LENGTHS):
            hidden = alone(theirs, batch.waveforms[row, :length].double())
            inner = torch.tanh(hidden @ head["classifier.dense.weight"].T + head["classifier.dense.bias"])
            vad = inner @ head["classifier.out_proj.weight"].T + head["classifier.out_proj.bias"]
            frames = torch.cat([hidden, vad], dim=1)
            last = model.lstm(frames[None])[1][0][-1, 0]  # torch's own final state of the upper layer
            clip = torch.tanh(model.head.dense(torch.cat([frames.mean(0), last])))
            torch.testing.assert_close(found[row], model.head.projection(clip), rtol=0, atol=1e-10)


@pytest.mark.parametrize("decibels", [0.0, -40.0, -60.0, -90.0])
def test_waveforms_are_those_of_transformers_own_feature_extractor(decibels: float) -> None:
    clips = [make_example(number, length, decibels=decibels) for number, length in enumerate(LENGTHS)]
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    # As the released code calls it: all clips at once, padded, with the mask.
    expected = extractor(
        [clip.audio.waveform for clip in clips],
        padding=True,
        sampling_rate=16_000,
        truncation=True,
        max_length=LONGEST,
        return_tensors="pt",
        return_attention_mask=True,
    )
    batch = make_batch(clips)
    assert batch.lengths.tolist() == expected["attention_mask"].sum(1).tolist()
    torch.testing.assert_close(batch.waveforms, expected["input_values"], rtol=0, atol=1e-6)
    if decibels == -90.0:  # the constant under the root keeps the quietest ones quiet
        assert float(batch.waveforms[-1].std()) == pytest.approx(0.0995, abs=0.001)


def test_a_constant_offset_and_a_gain_are_taken_out() -> None:
    clip = make_example(0, 8_000)
    moved = make_example(0, 8_000)
    moved.audio.waveform[:] = clip.audio.waveform * 0.5 + 0.25
    batch = make_batch([clip, moved])
    np.testing.assert_allclose(batch.waveforms[0], batch.waveforms[1], rtol=0, atol=1e-5)
