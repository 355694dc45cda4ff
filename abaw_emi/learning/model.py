"""The model of Hallmen et al. (PAPER, section 4 and Figure 3; see `challenge.facts`).

    waveforms (B, T) -- encoder --> hidden states (B, F, H) --+--> frames (B, F, D), D = H + 3
                                       '-- VAD head (B, F, 3)-'        |
                           mean over frames (B, D) <-------------------+
                           LSTM, last state (B, D) <-------------------'
                           both, concatenated (B, 2D) --> dense, tanh, projection --> intensities (B, 6)

The VAD head, the global vector, the LSTM and the regression head can each be switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from abaw_emi.challenge.facts import EMOTIONS
from abaw_emi.config import LogMelConfig, ModelConfig
from abaw_emi.learning.encoders import Wav2Vec2Encoder
from abaw_emi.learning.logmel import LogMelEncoder
from abaw_emi.learning.regularisation import Draws


class EmiConfig(PreTrainedConfig):
    """What rebuilds an `EmiModel`: the encoder's own config and the parts of `config.ModelConfig`.

    Args:
        encoder: "wav2vec2" or "logmel".
        encoder_config: the backbone's `config.json`, or the fields of `LogMelConfig`.
        vad_head: see `config.ModelConfig`, as for the rest.
    """

    model_type = "abaw_emi"

    def __init__(
        self,
        *,
        encoder: str = "logmel",
        encoder_config: dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        freeze_extractor: bool = False,
        vad_head: bool = False,
        global_vector: bool = True,
        lstm: bool = True,
        regression_head: bool = True,
        lstm_layers: int = 2,
        lstm_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder
        self.encoder_config = asdict(LogMelConfig()) if encoder_config is None else encoder_config
        self.freeze_encoder = freeze_encoder
        self.freeze_extractor = freeze_extractor
        self.vad_head = vad_head
        self.global_vector = global_vector
        self.lstm = lstm
        self.regression_head = regression_head
        self.lstm_layers = lstm_layers
        self.lstm_dropout = lstm_dropout
        super().__init__(**kwargs)

    @classmethod
    def from_parts(cls, model: ModelConfig, encoder_config: dict[str, Any] | None = None) -> Self:
        """The config of the model that `model` describes on a backbone of `encoder_config`."""
        parts = asdict(model)
        del parts["backbone"], parts["revision"]
        logmel = parts.pop("logmel")
        return cls(encoder_config=logmel if encoder_config is None else encoder_config, **parts)


class VadHead(nn.Module):
    """Valence, arousal and dominance of a hidden state, as the audeering checkpoint predicts them.

    Linear output without squashing, in the checkpoint's order arousal, dominance, valence; applied to
    each frame (CODE).
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, outputs)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., H) to (..., 3), in the weights' dtype."""
        hidden_states = hidden_states.to(self.dense.weight.dtype)
        hidden_states = torch.tanh(self.dense(self.dropout(hidden_states)))
        vad: Tensor = self.out_proj(self.dropout(hidden_states))
        return vad


class EmiModel(PreTrainedModel):
    """Waveforms to six intensities; saved and loaded with `save_pretrained` and `from_pretrained`."""

    config_class = EmiConfig
    base_model_prefix = "emi"
    main_input_name = "waveforms"

    def __init__(self, config: EmiConfig) -> None:
        super().__init__(config)
        self.encoder: Wav2Vec2Encoder | LogMelEncoder
        if config.encoder == "wav2vec2":
            self.encoder = Wav2Vec2Encoder(config.encoder_config)
        else:
            self.encoder = LogMelEncoder(LogMelConfig(**config.encoder_config))
        width = self.encoder.hidden_size
        if config.vad_head:
            assert isinstance(self.encoder, Wav2Vec2Encoder), "config.ModelConfig sees to it"
            backbone: Any = self.encoder.wav2vec2.config
            self.vad_head = VadHead(width, backbone.num_labels, backbone.final_dropout)
            width += backbone.num_labels
        if config.lstm:
            self.lstm = nn.LSTM(
                width,
                width,
                num_layers=config.lstm_layers,
                dropout=config.lstm_dropout if config.lstm_layers > 1 else 0.0,
                batch_first=True,
            )
        clip_width = width * (config.global_vector + config.lstm)
        if config.regression_head:
            self.dense = nn.Linear(clip_width, clip_width)
        self.projection = nn.Linear(clip_width, len(EMOTIONS))
        self.post_init()  # type: ignore[no-untyped-call]
        for module in self._frozen():
            module.requires_grad_(False)

    def draw(self, lengths: Sequence[int], rng: np.random.Generator) -> Draws | None:
        """What the encoder leaves out of clips of `lengths` samples in one pass of training, on the CPU.

        None for encoders that leave nothing out, and for a frozen one. Nothing but `rng` is drawn from; see
        `regularisation` for the order.
        """
        if self.config.freeze_encoder or isinstance(self.encoder, LogMelEncoder):
            return None
        return self.encoder.draw(lengths, rng)

    def forward(self, waveforms: Tensor, lengths: Tensor, draws: Draws | None = None) -> Tensor:
        """The intensities (B, 6) of each clip: `regress` of `encode`, whose arguments it takes."""
        return self.regress(*self.encode(waveforms, lengths, draws))

    def encode(self, waveforms: Tensor, lengths: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """The frames of each clip.

        Args:
            waveforms: (B, T) at 16 kHz, each clip normalised to zero mean and unit variance
                (`batches.normalise`), zero-padded at its end.
            lengths: (B,) samples of each clip, at least `facts.MIN_SAMPLES`.
            draws: what `draw` drew for these clips, on the waveforms' device. Without it there is neither
                LayerDrop nor SpecAugment, in training mode neither.

        Returns:
            Frames (B, F, D), meaningless beyond a clip's last one, and how many each clip has (B,). Of the
            encoder's dtype, or as autocast has it.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            frames, frame_lengths = self.encoder(waveforms, lengths, draws)  # (B, F, H)
            if self.config.vad_head:
                frames = torch.cat([frames, self.vad_head(frames)], dim=-1)  # (B, F, D)
        return frames, frame_lengths

    def regress(self, frames: Tensor, frame_lengths: Tensor) -> Tensor:
        """The intensities of each clip from its frames, as `encode` returns them, of any dtype.

        Computed in the dtype of the weights that are used here, whatever autocast says: rounding adds up
        over the LSTM's hundreds of steps, cuDNN's recurrent layers know fp16 alone under autocast, and
        intensities rounded to bf16 would leave a correlation as a loss nothing to go by.

        Returns:
            (B, 6) in float32 or wider, in the order of `facts.EMOTIONS`; unbounded.
        """
        with torch.autocast(frames.device.type, enabled=False):
            return self._regress(frames.to(self.projection.weight.dtype), frame_lengths)

    def _regress(self, frames: Tensor, frame_lengths: Tensor) -> Tensor:
        parts = []
        if self.config.global_vector:
            real = torch.arange(frames.shape[1], device=frames.device) < frame_lengths[:, None]  # (B, F)
            wide = torch.promote_types(frames.dtype, torch.float32)  # half precision would lose late frames
            total = frames.masked_fill(~real[..., None], 0).sum(dim=1, dtype=wide)
            parts.append((total / frame_lengths[:, None]).to(frames.dtype))
        if self.config.lstm:
            states, _ = self.lstm(frames)
            # The LSTM runs forwards, so its state at a clip's last frame has seen no padding.
            parts.append(states[torch.arange(len(frames), device=frames.device), frame_lengths - 1])
        clip = torch.cat(parts, dim=-1)  # (B, 2D)
        if self.config.regression_head:
            clip = torch.tanh(self.dense(clip))
        intensities: Tensor = self.projection(clip)
        return intensities.to(torch.promote_types(intensities.dtype, torch.float32))

    def train(self, mode: bool = True) -> Self:
        """Sets training mode; what is frozen stays frozen, and in evaluation mode, without dropout."""
        super().train(mode)
        for module in self._frozen():
            module.eval().requires_grad_(False)  # from_pretrained makes new, trainable parameters
        return self

    def _frozen(self) -> list[nn.Module]:
        if self.config.freeze_encoder:
            return [self.encoder, *([self.vad_head] if self.config.vad_head else [])]
        if self.config.freeze_extractor and isinstance(self.encoder, Wav2Vec2Encoder):
            return [self.encoder.wav2vec2.feature_extractor]
        return []

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves new layers as torch initialises them, as CODE does; the backbone is loaded."""
