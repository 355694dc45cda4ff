"""Speech encoders that run through transformers' own classes, and the choice among all of them.

What training leaves out (LayerDrop, SpecAugment) is drawn by us, clip by clip, for these as for wav2vec 2.0:
the classes' own draws are turned off, and hooks on the first projection and on each layer take their place.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import Lengths, SoundEncoder, check_config, find_code, may_be_padded
from abaw_emi.models.encoders.spec_augment import Masks, Regularisation
from abaw_emi.models.encoders.spectrogram import HOP, WINDOW, FilterBank, WhisperSpectrogram
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder, count_frames, read_regularisation

_WHERE = "backbone config.json"

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
        Problem(_WHERE, f"model_type is {model_type!r}", f"one of {', '.join(SPEECH_ENCODERS)}")
    )


class TransformersEncoder(SoundEncoder):
    """A model of transformers as an encoder of padded batches.

    Args:
        config: the backbone's `config.json`.

    Attributes:
        model: without its own LayerDrop and SpecAugment.

    Raises:
        WeightsError: the config asks for what is not supported.
    """

    layer_prefixes = ("model.encoder.layers",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        if problems := [*check_config(config), *find_code(config, _WHERE)]:
            raise WeightsError(problems)
        backbone = AutoConfig.for_model(**config)
        self.hidden_size = backbone.hidden_size
        self.standardises = config.get("do_normalize", True)
        self.layers = backbone.num_hidden_layers
        self._regularisation = self._read_regularisation(backbone)
        backbone.layerdrop = 0.0
        backbone.apply_spec_augment = False
        self.model: nn.Module = self._make(backbone)
        self._masks: Masks | None = None
        self._layer_weights: Tensor | None = None
        self._mixed: Tensor | None = None
        self._add_hooks()

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,), as `SoundEncoder.forward`."""
        self._layer_weights = layer_weights
        try:
            return self._run(waveforms, lengths, masks), self.frame_lengths(lengths)
        finally:
            self._layer_weights = self._mixed = None

    def _run(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        raise NotImplementedError

    def _call(self, masks: Masks | None, **inputs: Tensor | None) -> Tensor:
        """The model's last hidden states, or the weighted sum of all."""
        weight = next(self.model.parameters())
        if not torch.is_autocast_enabled(weight.device.type):
            inputs = {
                name: value.to(weight.dtype) if value is not None and value.is_floating_point() else value
                for name, value in inputs.items()
            }
        self._masks = masks
        try:
            states: Tensor = self.model(**inputs).last_hidden_state
        finally:
            self._masks = None
        if self._mixed is not None and self._layer_weights is not None:
            return self._mixed + self._layer_weights[-1] * states
        return states

    def _read_regularisation(self, backbone: Any) -> Regularisation:
        return read_regularisation(backbone)

    def _make(self, backbone: Any) -> nn.Module:
        # Not in the dtype of its file: half precision is asked for by --precision.
        model: nn.Module = AutoModel.from_config(backbone, dtype=torch.float32)
        return model

    def _add_hooks(self) -> None:
        for number, layer in enumerate(self.layer_modules()):
            layer.register_forward_hook(partial(self._skip_layer, number))
        projection = getattr(self.model, "feature_projection", None)
        if isinstance(projection, nn.Module):
            projection.register_forward_hook(self._mask_frames)

    def _skip_layer(self, number: int, layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        """LayerDrop: clips that skip a layer keep what went into it. WavLM's gives its position bias, too."""
        # What goes into a layer is what comes out of the one before; the last one's comes after the norm.
        if self._layer_weights is not None:
            part = self._layer_weights[number] * inputs[0]
            self._mixed = part if number == 0 or self._mixed is None else self._mixed + part
        if self._masks is None:
            return output
        kept = self._masks.layers_kept[number][:, None, None]
        if isinstance(output, tuple):
            return torch.where(kept, output[0], inputs[0]), *output[1:]
        return torch.where(kept, output, inputs[0])

    def _mask_frames(self, projection: nn.Module, inputs: object, output: Any) -> Any:
        """SpecAugment, where the classes have it; HuBERT's projection gives a tensor, the others a tuple."""
        if self._masks is None:
            return output
        vector = getattr(self.model, "masked_spec_embed", None)
        if isinstance(output, tuple):
            return self._masks.write_over(output[0], vector), *output[1:]
        return self._masks.write_over(output, vector)


class WaveformEncoder(TransformersEncoder):
    """WavLM, data2vec-audio, and forms of HuBERT that `wav2vec2.Wav2Vec2` is not.

    As with wav2vec 2.0, those that normalise each frame run as one padded batch with a mask, and the others,
    and those whose positions would see what padding has become, see no padding at all.
    """

    extractor_prefixes = ("model.feature_extractor",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        backbone: Any = self.model.config
        norm_is_last = getattr(backbone, "do_stable_layer_norm", False)
        self.norm_prefix = "model.encoder.layer_norm" if norm_is_last else None
        if backbone.model_type == "wavlm":  # whose attention gives torch the weights, not the layers
            self.adapter_targets = {**self.adapter_targets, "attention": ()}
        self._masked = backbone.model_type == "wavlm" and backbone.feat_extract_norm == "layer"

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one."""
        return count_frames(self.model.config, lengths)

    def _run(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        if not self._masked:
            return self._run_by_length(self._run_alone, waveforms, lengths, masks)
        seen = None
        if may_be_padded(waveforms, lengths):
            seen = (torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]).long()
        return self._call(masks, input_values=waveforms, attention_mask=seen)

    def _run_alone(self, waveforms: Tensor, masks: Masks | None) -> Tensor:
        return self._call(masks, input_values=waveforms)


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

    def _run(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        short = max(0, self._LEAST - waveforms.shape[1])
        values = self._filters(nn.functional.pad(waveforms, (0, short)), lengths.clamp(min=self._LEAST))
        places = torch.arange(values.shape[1], device=values.device)
        seen = (places < self.frame_lengths(lengths)[:, None]).long()
        return self._call(masks, input_features=values, attention_mask=seen)


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
        self.max_samples = self._spectrogram.samples

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples, (B,) or of a single one; one for each begun 20 ms."""
        return -(-lengths // (2 * HOP))

    def _run(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        states = self._call(masks, input_features=self._spectrogram(waveforms))
        return states[:, : self.frame_lengths(waveforms.shape[1])]

    def _make(self, backbone: Any) -> nn.Module:
        return WhisperEncoder(backbone)

    def _read_regularisation(self, backbone: Any) -> Regularisation:
        if backbone.apply_spec_augment:
            found = "apply_spec_augment is true, which is not supported for Whisper"
            raise WeightsError(Problem(_WHERE, found, "false, as in the published checkpoints"))
        layerdrop, backbone.encoder_layerdrop = backbone.encoder_layerdrop, 0.0
        return Regularisation(
            layers=backbone.encoder_layers,
            layerdrop=layerdrop,
            width=backbone.d_model,
            time=None,
            features=None,
        )
