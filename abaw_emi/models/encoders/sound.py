"""What a model does with sound: waveforms to frames, and these to a vector.

The encoder runs whole, or in two parts: the lower one, which is not trained, once for each clip
(`make_states`), and then the upper one alone (`encode_states`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw_emi.config.model import ModelConfig
from abaw_emi.models.encoders.base import SoundEncoder
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.input_check import describe_unnormalised

Fixed = Literal["frames", "states"]
"""What of a clip's sound stays as it is: (F, D) that a frozen encoder makes, or (S, H) that go into the first
layer that is trained."""


class SoundBranch:
    """The sound branch of `emi.EmiModel`, which inherits it."""

    parts: ModelConfig
    config: Any
    encoder: SoundEncoder | None
    vad_head: nn.Module
    layer_weights: Tensor
    lstm: nn.Module
    pooling: nn.Module
    training: bool
    _warned = False
    _warned_of_masks = False

    @property
    def standardises(self) -> bool:
        """Whether each waveform is to have zero mean and unit variance."""
        return self.encoder is None or self.encoder.standardises

    def find_fixed(self, *, training: bool) -> Fixed | None:
        """What of a clip's sound is the same, whatever is trained; None for nothing.

        Args:
            training: whether the model is trained, where LayerDrop and SpecAugment may act on all layers.
        """
        parts = self.parts
        if self.encoder is None or parts.layer_weights:
            return None
        if parts.freeze_encoder:
            return "frames"
        tuning = parts.tuning
        same = tuning.keep_lower or not training
        return "states" if tuning.train_layers and same and not self.config.pad_samples else None

    @property
    def first_trained(self) -> int:
        """The number of the first layer that is trained, where the lower ones are not."""
        assert self.encoder is not None, "there are layers"
        return self.encoder.layers - self.parts.tuning.train_layers

    def draw_masks(self, lengths: Sequence[int], rng: np.random.Generator) -> Masks | None:
        """What the encoder leaves out of clips of `lengths` samples in one pass of training, on the CPU.

        None for encoders that leave nothing out, and for a frozen one. Nothing but `rng` is drawn from; see
        `spec_augment` for the order.
        """
        if self.parts.freeze_encoder or self.encoder is None:
            return None
        return self.encoder.draw_masks(lengths, rng)

    def encode(self, waveforms: Tensor, lengths: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """The frames of each clip; for models that have an encoder.

        Args:
            waveforms: (B, T) at 16 kHz, zero-padded at each clip's end; if `standardises`, of zero mean and
                unit variance, clip by clip.
            lengths: (B,) samples of each clip, at least `constants.MIN_SAMPLES`; on the CPU or the waveforms'
                device, see `SoundEncoder.forward`.
            masks: what `draw_masks` drew for these clips, on the waveforms' device. Without them there is
                neither LayerDrop nor SpecAugment, not even in training mode.

        Returns:
            Frames (B, F, D), meaningless beyond a clip's last one, of the encoder's dtype or as autocast has
            it, and how many each clip has (B,), on their device.
        """
        assert self.encoder is not None, "a model without an encoder starts at regress"
        if self.config.pad_samples:  # for comparison: from here on, padding counts as sound
            waveforms = F.pad(waveforms, (0, max(0, self.config.pad_samples - waveforms.shape[1])))
            lengths = lengths.clamp(min=self.config.pad_samples)
        weights = self.layer_weights.softmax(dim=0) if self.parts.layer_weights else None
        return self._finish(partial(self.encoder, waveforms, lengths, masks, weights))

    def make_states(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the first layer that is trained, (B, S, H), and how many each clip has (B,).

        Args:
            waveforms: see `encode`.
            lengths: see `encode`.
        """
        assert self.encoder is not None, "there are layers"
        with torch.no_grad():
            states = self.encoder.run_lower(waveforms, lengths, self.first_trained)
        return states, self.encoder.state_lengths(lengths)

    def encode_states(
        self, states: Tensor, lengths: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `encode` returns, of the states (B, S, H) that `make_states` returns.

        Args:
            states: zeros beyond a clip's last one.
            lengths: (B,) samples of each clip.
            masks: see `encode`; of which the trained layers are used.
        """
        assert self.encoder is not None, "there are layers"
        return self._finish(partial(self.encoder.run_upper, states, lengths, self.first_trained, masks))

    def _finish(self, run: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Frames (B, F, D) of the hidden states that `run` returns."""
        # These are trained even where the encoder is not.
        trained = self.parts.layer_weights or not self.parts.freeze_encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            frames, frame_lengths = run()  # (B, F, H)
            if self.parts.vad_head:
                frames = torch.cat([frames, self.vad_head(frames)], dim=-1)  # (B, F, D)
        return frames, frame_lengths.to(frames.device, non_blocking=True)

    def _check_input(self, waveforms: Tensor, lengths: Tensor) -> None:
        """Warns once of waveforms that are not normalised; the toolkit's own path does not come here."""
        if self._warned or self.encoder is None or not self.standardises:
            return
        if torch.compiler.is_compiling() or waveforms.is_meta:  # there are no values to look at
            return
        if found := describe_unnormalised(waveforms, lengths):
            self._warned = True
            step = "bring each clip to that, or use abaw_emi.load(RUN).predict, which does"
            warnings.warn(
                f"waveforms: {found}; expected mean 0, deviation 1: the intensities are wrong; {step}",
                stacklevel=5,  # whoever called the model
            )

    def _check_masks(self, masks: Masks | None) -> None:
        """Warns once of training without what the encoder's config leaves out; as `_check_input`."""
        if masks is not None or self._warned_of_masks or not (self.training and torch.is_grad_enabled()):
            return
        if self.encoder is not None and self.encoder.leaves_out and not self.parts.freeze_encoder:
            self._warned_of_masks = True
            warnings.warn(
                "training without LayerDrop and SpecAugment, which the encoder's config has: give the masks "
                "that draw_masks(lengths, rng) draws, or call eval()",
                stacklevel=5,  # whoever called the model
            )

    def _summarise(self, frames: Tensor, frame_lengths: Tensor) -> Tensor:
        """A vector of each clip's sound, (B, D to 3D): the mean of its frames, the LSTM's last state."""
        parts = []
        if self.parts.pooling != "mean":
            parts.append(self.pooling(frames, frame_lengths))
        elif self.parts.global_vector:
            real = torch.arange(frames.shape[1], device=frames.device) < frame_lengths[:, None]  # (B, F)
            wide = torch.promote_types(frames.dtype, torch.float32)  # half precision would lose late frames
            total = frames.masked_fill(~real[..., None], 0).sum(dim=1, dtype=wide)
            parts.append((total / frame_lengths[:, None]).to(frames.dtype))
        if self.parts.lstm:
            states, _ = self.lstm(frames)
            # The LSTM runs forwards, so its state at a clip's last frame has seen no padding.
            parts.append(states[torch.arange(len(frames), device=frames.device), frame_lengths - 1])
        return torch.cat(parts, dim=-1)
