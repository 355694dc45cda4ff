"""`config.json`: what earlier runs stored still gives the model that they had, and is stored alike."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig, FusionConfig, LogMelConfig
from abaw_emi.config.presets import PRESETS
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.models.config import EmiConfig
from tests.backbones import small_config

# As version 0.1.0 wrote it, before the fields came from `ModelConfig` itself.
STORED = """
{
  "encoder": "logmel",
  "encoder_config": {
    "dropout": 0.3, "hidden_size": 48, "kernel": 5, "layers": 2, "n_mels": 32, "window": 512
  },
  "features": [
    {
      "dropout": 0.0, "heads": 4, "hidden_size": 64, "kernel": 3, "layers": 1, "name": "vit",
      "pooling": "last", "temporal": ["gru"], "transformer_layers": 2
    }
  ],
  "freeze_encoder": false,
  "freeze_extractor": false,
  "fusion": {"head_size": 0, "kind": "mean", "modality_dropout": 0.0, "one_at_a_time": true},
  "global_vector": true,
  "lstm": true,
  "lstm_dropout": 0.1,
  "lstm_layers": 2,
  "model_type": "abaw_emi",
  "pad_samples": 192000,
  "regression_head": true,
  "transformers_version": "5.24.0",
  "vad_head": false,
  "widths": [384]
}
"""
PARTS = ModelConfig(
    encoder="logmel",
    vad_head=False,
    features=(FeatureConfig(name="vit", temporal=("gru",), pooling="last", hidden_size=64),),
    fusion=FusionConfig(kind="mean", one_at_a_time=True),
    logmel=LogMelConfig(n_mels=32),
    pad_seconds=12.0,
    lstm_dropout=0.1,
)


def test_the_file_of_an_earlier_run_gives_its_parts_and_is_written_as_it_was() -> None:
    stored = json.loads(STORED)
    config = EmiConfig.from_dict(stored)
    assert config.to_parts() == PARTS
    written = json.loads(config.to_json_string())
    assert written.pop("text_config") is None  # this and what follows were added since
    assert written.pop("id2label") == {str(place): emotion for place, emotion in enumerate(EMOTIONS)}
    assert written.pop("label2id") == {emotion: place for place, emotion in enumerate(EMOTIONS)}
    assert written.pop("problem_type") == "regression"
    for name in ("pooling", "tuning", "layer_weights", "auxiliary_weight"):
        assert written.pop(name) == asdict(ModelConfig())[name]
    assert {**written, "transformers_version": "5.24.0"} == stored
    again = json.loads(EmiConfig.from_parts(PARTS, None, {"vit": 384}).to_json_string())
    for name, value in stored.items():
        if name in ("fusion", "features"):  # with options that were added since
            continue
        assert again[name] == value or name == "transformers_version"
    assert again["fusion"].items() >= stored["fusion"].items()
    assert again["features"][0].items() >= stored["features"][0].items()


def test_the_earlier_name_of_the_encoder_is_still_read() -> None:
    stored = json.loads(EmiConfig.from_parts(ModelConfig(), small_config()).to_json_string())
    before = {key: value for key, value in stored.items() if key != "text_config"} | {"encoder": "wav2vec2"}
    assert EmiConfig.from_dict(before).to_parts() == ModelConfig()
    assert EmiConfig.from_dict(before).encoder_config == small_config()


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_stored_gives_the_parts_back(preset: str) -> None:
    model = PRESETS[preset].model
    backbone = small_config() if model.encoder == "pretrained" else None
    widths = {feature.name: 8 for feature in model.features}
    stored = json.loads(EmiConfig.from_parts(model, backbone, widths).to_json_string())
    default = ModelConfig()
    assert EmiConfig.from_dict(stored).to_parts() == replace(
        model, backbone=default.backbone, revision=default.revision
    )
