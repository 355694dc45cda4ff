"""The families of speech encoders that run through transformers' own classes, and the choice among all."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import Lengths, SoundEncoder, may_be_padded
from abaw_emi.models.encoders.spec_augment import Masks, Regularisation
from abaw_emi.models.encoders.spectrogram import HOP, WINDOW, FilterBank, WhisperSpectrogram
from abaw_emi.models.encoders.transformers_encoder import WHERE, Call, TransformersEncoder
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder, count_frames

OWN_NETWORK = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")
"""Types of model that `wav2vec2.Wav2Vec2` is; WavLM's weights have the same names and are another network."""

SPEECH_ENCODERS = (*OWN_NETWORK, "wavlm", "data2vec-audio", "wav2vec2-bert", "whisper")
"""Types of model that can be trained."""


def make_encoder(config: dict[str, Any]) -> SoundEncoder:
    """The encoder of a backbone's `config.json`, with new weights.

    Raises:
        WeightsError: it is of another type, or asks for what the encoder does not have.
    """
    model_type = config.get("model_type", "wav2vec2")
    # wav2vec 2.0 has a norm there; HuBERT may have none.
    if model_type in OWN_NETWORK and config.get("feat_proj_layer_norm", True):
        return Wav2Vec2Encoder(config)
    if model_type in ("wavlm", "data2vec-audio", "hubert"):
        return WaveformEncoder(config)
    if model_type == "wav2vec2-bert":
        return FilterBankEncoder(config)
    if model_type == "whisper":
        return SpectrogramEncoder(config)
    raise WeightsError(
        Problem(WHERE, f"model_type is {model_type!r}", f"one of {', '.join(SPEECH_ENCODERS)}")
    )


class WaveformEncoder(TransformersEncoder):
    """WavLM, data2vec-audio, and forms of HuBERT that `wav2vec2.Wav2Vec2` is not.

    As with wav2vec 2.0, those that normalise each frame run as one padded batch with a mask, and the others,
    and those whose positions would see what padding has become, see no padding at all.
    """

    extractor_prefixes = ("model.feature_extractor",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        backbone: Any = self.model.config
        # data2vec's comes before the first layer, whatever its config says.
        norm_is_last = backbone.model_type != "data2vec-audio" and backbone.do_stable_layer_norm
        self.norm_prefix = "model.encoder.layer_norm" if norm_is_last else None
        if backbone.model_type == "wavlm":  # whose attention gives torch the weights, not the layers
            self.adapter_targets = {**self.adapter_targets, "attention": ()}
        self._masked = backbone.model_type == "wavlm" and backbone.feat_extract_norm == "layer"

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        return count_frames(self.model.config, lengths)

    def _run(self, call: Call, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        if not self._masked:

            def run_alone(waveforms: Tensor, masks: Masks | None) -> Tensor:
                return call(masks, input_values=waveforms)

            return self._run_by_length(run_alone, waveforms, lengths, masks)
        return call(masks, input_values=waveforms, attention_mask=_mark_real(waveforms, lengths))

    def _run_layers(self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None) -> Tensor:
        if not self._masked:

            def run_alone(states: Tensor, masks: Masks | None) -> Tensor:
                return self._call_layers(states, first, masks, self._describe(states, first, None))

            return self._run_by_length(run_alone, states, lengths, masks)
        seen = _mark_real(states, self.frame_lengths(lengths))
        return self._call_layers(states, first, masks, self._describe(states, first, seen))

    def _describe(self, states: Tensor, first: int, seen: Tensor | None) -> dict[str, Tensor | None]:
        """What layers from `first` on are given beside the states (B, S, H)."""
        backbone: Any = self.model.config
        if backbone.model_type != "wavlm":
            return {"attention_mask": None}
        attention: Any = self.layer_modules()[0].attention
        bias = None  # which the first layer would compute, and hands on to the others
        if first > 0:
            bias = attention.compute_bias(states.shape[1], states.shape[1]).repeat(len(states), 1, 1)
        return {"attention_mask": seen, "position_bias": bias}


class FilterBankEncoder(TransformersEncoder):
    """wav2vec2-BERT (Barrault et al., arXiv 2312.05187): a conformer on Kaldi's filter bank."""

    adapter_targets = MappingProxyType(
        {**SoundEncoder.adapter_targets, "attention": ("linear_q", "linear_v")}
    )

    _LEAST = WINDOW + 3 * HOP
    """Samples that a shorter clip is zero-padded to: of fewer windows there is no spread, or no frame."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.standardises = False  # the filter bank does
        backbone: Any = self.model.config
        self._filters = FilterBank(backbone.feature_projection_input_dim)

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        least = max(lengths, self._LEAST) if isinstance(lengths, int) else lengths.clamp(min=self._LEAST)
        return ((least - WINDOW) // HOP + 1) // self._filters.stride

    def _run(self, call: Call, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        short = max(0, self._LEAST - waveforms.shape[1])
        samples = lengths.clamp(min=self._LEAST).to(waveforms.device, non_blocking=True)
        values = self._filters(nn.functional.pad(waveforms, (0, short)), samples)
        seen = _mark_real(values, self.frame_lengths(lengths))
        return call(masks, input_features=values, attention_mask=seen)

    def _run_layers(self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None) -> Tensor:
        encoder: Any = self.model.encoder
        seen = _mark_real(states, self.frame_lengths(lengths))
        given = {
            "attention_mask": create_bidirectional_mask(
                config=encoder.config, inputs_embeds=states, attention_mask=seen
            ),
            "conv_attention_mask": seen,
            "relative_position_embeddings": encoder.embed_positions and encoder.embed_positions(states),
        }
        return self._call_layers(states, first, masks, given)


class SpectrogramEncoder(TransformersEncoder):
    """Whisper's encoder (Radford et al., arXiv 2212.04356), which reads 30 s of everything."""

    layer_prefixes = ("model.layers",)
    norm_prefix = "model.layer_norm"
    extractor_prefixes = ("model.conv1", "model.conv2")
    adapter_targets = MappingProxyType({**SoundEncoder.adapter_targets, "feed-forward": ("fc1", "fc2")})

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.standardises = False  # its spectrogram does, but for the loudness
        backbone: Any = self.model.config
        self._spectrogram = WhisperSpectrogram(backbone.num_mel_bins, 2 * backbone.max_source_positions)
        self.max_samples: int = self._spectrogram.samples

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one; one for each begun 20 ms."""
        return -(-lengths // (2 * HOP))

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,), as `SoundEncoder.forward`."""
        states, frames = super().forward(waveforms, lengths, masks, layer_weights)
        return states[:, : self.frame_lengths(waveforms.shape[1])], frames

    def run_upper(
        self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and frame lengths, as `SoundEncoder.run_upper`."""
        states, frames = super().run_upper(states, lengths, first, masks)
        return states[:, : int(frames.max())], frames

    def leave_lower_whole(self, first: int) -> None:
        """Turns off what training leaves out below the layer `first`, a dropout of its own too."""
        super().leave_lower_whole(first)
        network: Any = self.model
        if network.dropout:
            self.changed += (f"dropout ({network.dropout:g}) of what goes into the first layer is off",)
            network.dropout = 0.0

    def state_lengths(self, lengths: Lengths) -> Lengths:
        """States of clips, (B,) or of a single one: of all 30 s, whose layers look at each other."""
        places = self.max_samples // (2 * HOP)
        return places if isinstance(lengths, int) else lengths.new_full(lengths.shape, places)

    def _run(self, call: Call, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        return call(masks, input_features=self._spectrogram(waveforms))

    def _run_layers(self, states: Tensor, lengths: Tensor, first: int, masks: Masks | None) -> Tensor:
        return self._call_layers(states, first, masks, {"attention_mask": None})

    def _make(self, backbone: Any) -> nn.Module:
        return WhisperEncoder(backbone)

    def _read_regularisation(self, backbone: Any) -> Regularisation:
        if backbone.apply_spec_augment:
            found = "apply_spec_augment is true, which is not supported for Whisper"
            raise WeightsError(Problem(WHERE, found, "false, as in the published checkpoints"))
        layerdrop, backbone.encoder_layerdrop = backbone.encoder_layerdrop, 0.0
        return Regularisation(
            layers=backbone.encoder_layers,
            layerdrop=layerdrop,
            width=backbone.d_model,
            time=None,
            features=None,
        )


def _mark_real(inputs: Tensor, lengths: Tensor) -> Tensor | None:
    """(B, T) of ones within each clip of `lengths` (B,) and zeros beyond; None where nothing is padded."""
    if not may_be_padded(inputs, lengths):
        return None
    lengths = lengths.to(inputs.device, non_blocking=True)
    return (torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]).long()
