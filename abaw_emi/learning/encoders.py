"""wav2vec 2.0 as a frame encoder whose result does not depend on what else is in the batch.

An encoder turns waveforms (B, T), normalised per clip and zero-padded, and their lengths (B,) in samples
into hidden states (B, F, H) and their lengths (B,) in frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from abaw_emi.errors import Problem, WeightsError


class Wav2Vec2Encoder(nn.Module):
    """transformers' Wav2Vec2Model behind the encoder's door.

    Checkpoints whose feature extractor normalises each frame (`feat_extract_norm = "layer"`, such as the
    audeering model) run as one padded batch with an attention mask, which equals running each clip alone.
    Those that normalise over time ("group") must see no padding at all (transformers pull request 10117):
    clips of equal length run together, the others alone.

    Args:
        config: the backbone's own `config.json`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        backbone = Wav2Vec2Config(**config)
        if backbone.add_adapter:
            raise WeightsError(
                Problem("backbone config.json", "add_adapter is true", "a wav2vec 2.0 without adapter layers")
            )
        self.wav2vec2 = Wav2Vec2Model(backbone)
        self.hidden_size: int = backbone.hidden_size

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames (B,) of clips of `lengths` samples (B,)."""
        frames: Tensor = self.wav2vec2._get_feat_extract_output_lengths(lengths)  # type: ignore[arg-type]
        return frames

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H) and frame lengths (B,); frames beyond a clip's length mean nothing."""
        frames = self.frame_lengths(lengths)
        if self.wav2vec2.config.feat_extract_norm == "layer":
            mask = torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]  # (B, T)
            return self._run(waveforms, mask.long()), frames
        width = int(self.frame_lengths(torch.tensor(waveforms.shape[1])))
        hidden_states: Tensor | None = None
        for length in lengths.unique().tolist():
            rows = lengths == length
            alone = self._run(waveforms[rows, :length], None)  # (rows, its frames, H)
            if hidden_states is None:
                hidden_states = alone.new_zeros(len(lengths), width, self.hidden_size)
            hidden_states[rows, : alone.shape[1]] = alone
        assert hidden_states is not None
        return hidden_states, frames

    def _run(self, waveforms: Tensor, mask: Tensor | None) -> Tensor:
        config = self.wav2vec2.config
        frames = int(self.frame_lengths(torch.tensor(waveforms.shape[1])))
        spans = None
        masks = config.apply_spec_augment and config.mask_time_prob > 0
        if self.training and masks and frames < config.mask_time_length:
            # transformers raises where the longest clip is shorter than one SpecAugment span.
            spans = waveforms.new_zeros(len(waveforms), frames, dtype=torch.bool)
        output = self.wav2vec2(waveforms, attention_mask=mask, mask_time_indices=spans)
        hidden_states: Tensor = output.last_hidden_state
        return hidden_states
