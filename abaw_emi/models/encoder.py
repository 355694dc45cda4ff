"""wav2vec 2.0 as a frame encoder whose result does not depend on what else is in the batch.

An encoder turns waveforms (B, T), normalised per clip and zero-padded, and their lengths (B,) in samples
into hidden states (B, F, H) and their lengths (B,) in frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config
from transformers.activations import ACT2FN

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.spec_augment import Masks, Regularisation, Spans
from abaw_emi.models.wav2vec2 import Wav2Vec2

_Lengths = TypeVar("_Lengths", int, Tensor)


class Wav2Vec2Encoder(nn.Module):
    """`wav2vec2.Wav2Vec2` as an encoder of padded batches.

    Checkpoints whose feature extractor normalises each frame (`feat_extract_norm = "layer"`, such as the
    audeering model) run as one padded batch with an attention mask, which equals running each clip alone.
    Those that normalise over time ("group") must see no padding at all (transformers pull request 10117):
    clips of equal length run together, the others alone.

    Args:
        config: the backbone's own `config.json`.

    Raises:
        WeightsError: the config asks for what this network does not have.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        backbone = Wav2Vec2Config(**config)
        problems = _check(backbone)
        if problems:
            raise WeightsError(problems)
        self.wav2vec2 = Wav2Vec2(backbone)
        self.hidden_size: int = backbone.hidden_size
        self._regularisation = _read_regularisation(backbone)

    def frame_lengths(self, lengths: _Lengths) -> _Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        config = self.wav2vec2.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def draw_masks(self, lengths: Sequence[int], rng: np.random.Generator) -> Masks | None:
        """What clips of `lengths` samples leave out in one pass of training; None where it is never anything.

        Reads the backbone's `layerdrop`, `mask_time_*` and `mask_feature_*`; see `regularisation`.
        """
        if not self._regularisation:
            return None
        return self._regularisation.draw([self.frame_lengths(length) for length in lengths], rng)

    def forward(
        self, waveforms: Tensor, lengths: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,); frames beyond a clip's length mean nothing.

        Without `masks` there is no LayerDrop and no SpecAugment, in training neither; the other dropouts
        are torch's own, on in training mode. Hidden states are of the weights' dtype, or as autocast has it.
        """
        if not torch.is_autocast_enabled(waveforms.device.type):
            waveforms = waveforms.to(self.wav2vec2.feature_projection.projection.weight.dtype)
        frames = self.frame_lengths(lengths)
        if self.wav2vec2.config.feat_extract_norm == "group":
            return self._run_by_length(waveforms, lengths, masks), frames
        real = None
        if _may_be_padded(waveforms, lengths):
            places = self.frame_lengths(waveforms.shape[1])
            real = torch.arange(places, device=frames.device) < frames[:, None]  # (B, F)
        return self.wav2vec2(waveforms, real, masks), frames

    def compile_regions(self, backend: str = "inductor") -> None:
        """Compiles the convolutions and each layer, in place, with torch.compile at their first run.

        The layers share one compiled graph, so it takes a minute and not twelve. Names in the state dict
        stay. Without it everything runs as well; on a CPU that is the better choice, as compiling takes
        minutes there.
        """
        self.wav2vec2.feature_extractor.compile(backend=backend)
        for layer in self.wav2vec2.encoder.layers:
            layer.compile(backend=backend)

    def _run_by_length(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        hidden_states: Tensor | None = None
        for length in lengths.unique().tolist():
            rows = lengths == length
            frames = self.frame_lengths(length)
            taken = None if masks is None else masks.take(rows, frames)
            alone = self.wav2vec2(waveforms[rows, :length], None, taken)  # (rows, its frames, H)
            if hidden_states is None:
                places = self.frame_lengths(waveforms.shape[1])
                hidden_states = alone.new_zeros(len(lengths), places, self.hidden_size)
            hidden_states[rows, :frames] = alone
        assert hidden_states is not None
        return hidden_states


def _may_be_padded(waveforms: Tensor, lengths: Tensor) -> bool:
    """Whether a clip may end before its row does, by what is known without waiting for a device."""
    if torch.compiler.is_compiling() or lengths.device.type != "cpu":
        return True
    return bool((lengths < waveforms.shape[1]).any())


def _check(config: Wav2Vec2Config) -> list[Problem]:
    where = "backbone config.json"
    problems = []
    if config.add_adapter:
        problems.append(Problem(where, "add_adapter is true", "a wav2vec 2.0 without adapter layers"))
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


def _read_regularisation(config: Wav2Vec2Config) -> Regularisation:
    time = Spans(
        share=config.mask_time_prob, length=config.mask_time_length, at_least=config.mask_time_min_masks
    )
    features = Spans(
        share=config.mask_feature_prob,
        length=config.mask_feature_length,
        at_least=config.mask_feature_min_masks,
    )
    on = config.apply_spec_augment
    return Regularisation(
        layers=config.num_hidden_layers,
        layerdrop=config.layerdrop,
        width=config.hidden_size,
        time=time if on and time.share > 0 else None,
        features=features if on and features.share > 0 else None,
    )
