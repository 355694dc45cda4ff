"""wav2vec 2.0 as a frame encoder whose result does not depend on what else is in the batch; its VAD head.

Waveforms (B, T), normalised per clip and zero-padded, become hidden states (B, F, H).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config
from transformers.activations import ACT2FN

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import Lengths, SoundEncoder, check_config, may_be_padded
from abaw_emi.models.encoders.linear import Linear
from abaw_emi.models.encoders.spec_augment import Masks, Regularisation, Spans
from abaw_emi.models.encoders.wav2vec2 import Wav2Vec2


class Wav2Vec2Encoder(SoundEncoder):
    """`wav2vec2.Wav2Vec2` as an encoder of padded batches.

    HuBERT, UniSpeech and UniSpeech-SAT are the same network (`tests/models/encoders/test_speech.py`).

    A padded batch, with an attention mask, equals running each clip alone, whether the feature extractor
    normalises each frame (`feat_extract_norm = "layer"`, such as the audeering model) or over time ("group"):
    over a clip's own frames here, where transformers would take padding for sound (its pull request 10117).
    On a CPU, the latter run clips of equal length together and the others alone, which is faster there.

    Args:
        config: the backbone's own `config.json`.

    Raises:
        WeightsError: the config asks for what this network does not have.
    """

    layer_prefixes = ("wav2vec2.encoder.layers",)
    extractor_prefixes = ("wav2vec2.feature_extractor",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        backbone = Wav2Vec2Config(**{**config, "model_type": "wav2vec2"})
        problems = _check(backbone)
        if problems:
            raise WeightsError(problems)
        self.wav2vec2 = Wav2Vec2(backbone)
        self.hidden_size = backbone.hidden_size
        self.standardises = config.get("do_normalize", True)
        self.layers = backbone.num_hidden_layers
        # With this switch (the audeering model) it comes after the last layer, without it before the first.
        self.norm_prefix = "wav2vec2.encoder.layer_norm" if backbone.do_stable_layer_norm else None
        self._regularisation = read_regularisation(backbone)

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        return count_frames(self.wav2vec2.config, lengths)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,), as `SoundEncoder.forward`.

        Hidden states are of the weights' dtype, or as autocast has it.
        """
        run = partial(self.wav2vec2, layer_weights=layer_weights)
        return self._run(run, waveforms, lengths, masks), self.frame_lengths(lengths)

    def run_lower(self, waveforms: Tensor, lengths: Tensor, first: int) -> Tensor:
        """What goes into the layer `first`, as `SoundEncoder.run_lower`."""

        def run(waveforms: Tensor, masks: None, *, lengths: Tensor | None, real: Tensor | None) -> Tensor:
            return self.wav2vec2.run_lower(waveforms, first, lengths=lengths, real=real)

        return self._run(run, waveforms, lengths, None)

    def run_upper(
        self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and frame lengths, as `SoundEncoder.run_upper`."""

        def run(
            states: Tensor, masks: Masks | None, *, lengths: Tensor | None, real: Tensor | None
        ) -> Tensor:
            return self.wav2vec2.run_upper(states, masks, first, real=real)

        return self._run(run, states, lengths, masks), self.frame_lengths(lengths)

    def _run(
        self, run: Callable[..., Tensor], inputs: Tensor, lengths: Tensor, masks: Masks | None
    ) -> Tensor:
        """What `run` makes of waveforms (B, T) or of states (B, S, H), so that padding changes nothing."""
        if not torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.to(self.wav2vec2.feature_projection.projection.weight.dtype)
        frames = self.frame_lengths(lengths)
        if self.wav2vec2.config.feat_extract_norm == "group" and inputs.device.type == "cpu":
            alone = partial(run, lengths=None, real=None)
            return self._run_by_length(alone, inputs, lengths, masks)
        are_states = inputs.ndim == 3
        if not may_be_padded(inputs, frames if are_states else lengths):
            return run(inputs, masks, lengths=None, real=None)
        places = inputs.shape[1] if are_states else self.frame_lengths(inputs.shape[1])
        lengths = lengths.to(inputs.device, non_blocking=True)
        real = torch.arange(places, device=inputs.device) < self.frame_lengths(lengths)[:, None]  # (B, F)
        return run(inputs, masks, lengths=lengths, real=real)


class VadHead(nn.Module):
    """Valence, arousal and dominance of a hidden state, as the audeering checkpoint predicts them.

    Linear output without squashing, in the checkpoint's order arousal, dominance, valence; applied to
    each frame (CODE).
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = Linear(hidden_size, outputs)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., H) to (..., 3), in the weights' dtype."""
        hidden_states = hidden_states.to(self.dense.weight.dtype)
        hidden_states = torch.tanh(self.dense(self.dropout(hidden_states)))
        vad: Tensor = self.out_proj(self.dropout(hidden_states))
        return vad


def count_frames(config: Any, lengths: Lengths) -> Lengths:
    """Frames that the convolutions of wav2vec 2.0 and its relatives make of so many samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = (lengths - kernel) // stride + 1
    return lengths


def _check(config: Wav2Vec2Config) -> list[Problem]:
    where = "backbone config.json"
    problems = check_config(config.to_dict())
    if config.adapter_attn_dim is not None:
        found = f"adapter_attn_dim is {config.adapter_attn_dim}"
        problems.append(Problem(where, found, "a wav2vec 2.0 without adapter layers"))
    if config.feat_extract_norm not in ("layer", "group"):
        found = f"feat_extract_norm is {config.feat_extract_norm!r}"
        problems.append(Problem(where, found, "'layer' or 'group'"))
    for name in ("feat_extract_activation", "hidden_act"):
        if getattr(config, name) not in ACT2FN:
            found = f"{name} is {getattr(config, name)!r}"
            problems.append(Problem(where, found, "an activation that transformers knows, such as 'gelu'"))
    if config.hidden_size % config.num_attention_heads:
        found = f"hidden_size {config.hidden_size} is no multiple of {config.num_attention_heads} heads"
        problems.append(Problem(where, found))
    problems += [
        Problem(where, f"{name} is {getattr(config, name)}", "at least 1")
        for name in ("mask_time_length", "mask_feature_length")
        if getattr(config, name) < 1
    ]
    return problems


def read_regularisation(config: Any) -> Regularisation:
    """What a backbone's config leaves out while training."""
    time = Spans(
        share=config.mask_time_prob, length=config.mask_time_length, at_least=config.mask_time_min_masks
    )
    features = Spans(
        share=config.mask_feature_prob,
        length=config.mask_feature_length,
        at_least=getattr(config, "mask_feature_min_masks", 0),  # WavLM has none
    )
    on = config.apply_spec_augment
    return Regularisation(
        layers=config.num_hidden_layers,
        layerdrop=config.layerdrop,
        width=config.hidden_size,
        time=time if on and time.share > 0 else None,
        features=features if on and features.share > 0 else None,
    )
