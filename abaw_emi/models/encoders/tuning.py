"""The encoder of sound that a config describes, and what of it stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import SoundEncoder
from abaw_emi.models.encoders.logmel import LogMelEncoder
from abaw_emi.models.encoders.speech import make_encoder
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder


def make_sound_encoder(parts: ModelConfig, encoder_config: dict[str, Any]) -> SoundEncoder:
    """The encoder of `parts`, with new weights.

    Args:
        parts: of a model that reads sound.
        encoder_config: the `config.json` of a pretrained one.

    Raises:
        WeightsError: a backbone has not what `parts` ask for.
    """
    if parts.encoder == "logmel":
        return LogMelEncoder(parts.logmel)
    encoder = make_encoder(set_dropouts(encoder_config, parts.tuning.dropouts))
    check_layers(encoder, parts.tuning)
    if parts.tuning.keep_lower:
        encoder.leave_lower_whole(encoder.layers - parts.tuning.train_layers)
    if parts.vad_head and not isinstance(encoder, Wav2Vec2Encoder):
        found = f"model_type is {encoder_config['model_type']!r}, which has no VAD head"
        step = "turn it off with --set model.vad_head=false"
        raise WeightsError(Problem("backbone config.json", found, next_step=step))
    return encoder


def find_frozen(encoder: SoundEncoder | None, parts: ModelConfig) -> list[nn.Module]:
    """The modules of an encoder that stay as they are, in evaluation mode, without dropout."""
    if encoder is None:
        return []
    if parts.freeze_encoder:
        return [encoder]
    if parts.tuning.train_layers:
        return encoder.lower_parts(parts.tuning.train_layers)
    return encoder.extractor() if parts.freeze_extractor else []


def set_dropouts(config: dict[str, Any], dropouts: Mapping[str, float]) -> dict[str, Any]:
    """A backbone's config with other dropouts, by the names that wav2vec 2.0 gives them.

    Raises:
        WeightsError: the backbone has no such dropout.
    """
    if config.get("model_type") == "whisper":
        if "feat_proj_dropout" in dropouts:
            raise WeightsError(Problem("model.tuning.feat_proj_dropout", "Whisper has none", "-1"))
        dropouts = {name.replace("hidden_", ""): value for name, value in dropouts.items()}
    return {**config, **dropouts}


def check_layers(encoder: SoundEncoder, tuning: TuningConfig) -> None:
    """Raises a WeightsError where `tuning` names more layers than there are."""
    for name, count in (("reset_layers", tuning.reset_layers), ("train_layers", tuning.train_layers)):
        if count > encoder.layers:
            raise WeightsError(
                Problem(f"model.tuning.{name}", str(count), f"at most {encoder.layers}, its layers")
            )
