from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from abaw_emi.config import ModelConfig
from abaw_emi.learning.batches import make_batch
from abaw_emi.learning.encoders import Wav2Vec2Encoder
from abaw_emi.learning.model import EmiConfig, EmiModel
from abaw_emi.learning.weights import find_backbone, load_backbone
from tests.backbones import backbone_weights, small_config, write_backbone
from tests.learning.small_models import LONGEST, make_clip

LENGTHS = (400, 719, 720, 1_024, 3_279, 20_000, 20_000, 64_321, LONGEST)
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]

KINDS: dict[str, dict[str, Any]] = {
    "layer": small_config("layer"),
    "group": small_config("group"),
    "layer, odd positional kernel": small_config("layer", num_conv_pos_embeddings=15),
}


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
    load_backbone(model, find_backbone(str(write_backbone(tmp_path, config))))
    encoder = model.to(dtype).eval().encoder
    assert isinstance(encoder, Wav2Vec2Encoder)
    theirs = transformers_model(config).to(dtype)
    batch = make_batch([make_clip(number, length) for number, length in enumerate(LENGTHS)])
    waveforms = batch.waveforms.to(dtype)
    with torch.no_grad():
        hidden_states, frames = encoder(waveforms, batch.lengths)
    for row, length in enumerate(LENGTHS):
        expected = alone(theirs, waveforms[row, :length])
        assert frames[row] == len(expected)
        torch.testing.assert_close(hidden_states[row, : frames[row]], expected, rtol=0, atol=tolerance)
        assert expected.std() > 0.1  # far above the tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_frame_lengths_are_those_that_transformers_gives(kind: str) -> None:
    encoder = Wav2Vec2Encoder(KINDS[kind])
    theirs = transformers_model(KINDS[kind])
    lengths = [400, 401, 719, 720, 1_039, 1_040, 3_279, 3_280, 16_000]
    found = encoder.frame_lengths(torch.tensor(lengths)).tolist()
    assert found == [len(alone(theirs, torch.randn(length))) for length in lengths]
    assert encoder.frame_lengths(torch.tensor(LONGEST)) == 599


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_vad_head_and_whole_model_equal_a_forward_on_transformers_states(kind: str, tmp_path: Path) -> None:
    config = KINDS[kind]
    model = EmiModel(EmiConfig.from_parts(ModelConfig(), config))
    load_backbone(model, find_backbone(str(write_backbone(tmp_path, config))))
    model = model.double().eval()
    theirs = transformers_model(config).double()
    head = {name: value.double() for name, value in backbone_weights(config).items() if "classifier" in name}
    batch = make_batch([make_clip(number, length) for number, length in enumerate(LENGTHS)])
    with torch.no_grad():
        found = model(batch.waveforms.double(), batch.lengths)
        for row, length in enumerate(LENGTHS):
            hidden = alone(theirs, batch.waveforms[row, :length].double())
            inner = torch.tanh(hidden @ head["classifier.dense.weight"].T + head["classifier.dense.bias"])
            vad = inner @ head["classifier.out_proj.weight"].T + head["classifier.out_proj.bias"]
            frames = torch.cat([hidden, vad], dim=1)
            last = model.lstm(frames[None])[1][0][-1, 0]  # torch's own final state of the upper layer
            clip = torch.tanh(model.dense(torch.cat([frames.mean(0), last])))
            torch.testing.assert_close(found[row], model.projection(clip), rtol=0, atol=1e-10)


@pytest.mark.parametrize("decibels", [0.0, -40.0, -60.0, -90.0])
def test_waveforms_are_those_of_transformers_own_feature_extractor(decibels: float) -> None:
    clips = [make_clip(number, length, decibels=decibels) for number, length in enumerate(LENGTHS)]
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    # As the released code calls it: all clips at once, padded, with the mask.
    expected = extractor(
        [clip.waveform for clip in clips],
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
    clip = make_clip(0, 8_000)
    moved = make_clip(0, 8_000)
    moved.waveform[:] = clip.waveform * 0.5 + 0.25
    batch = make_batch([clip, moved])
    np.testing.assert_allclose(batch.waveforms[0], batch.waveforms[1], rtol=0, atol=1e-5)
