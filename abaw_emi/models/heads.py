"""Vectors (B, W) to intensities (B, 6), and what else a loss is told of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw_emi.config.parts import FusionConfig
from abaw_emi.core.constants import EMOTIONS


class Head(nn.Module):
    """A vector (B, W) to intensities (B, 6): dense, tanh, projection, or the projection alone.

    With all of `config`.head_...: normalisation, dense, tanh or GELU, dropout, projection, sigmoid. With
    `config.gate` as `Gate`.
    """

    def __init__(self, width: int, config: FusionConfig, *, dense: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if config.head_norm else None
        if dense:
            self.dense = nn.Linear(width, config.head_size or width)
            width = config.head_size or width
        self.projection = nn.Linear(width, len(EMOTIONS))
        self.gate = Gate(width) if config.gate else None
        self._has_dense = dense
        self._config = config

    def forward(self, vector: Tensor) -> Tensor:
        """(B, W) to (B, 6), or to (B, 12) with a gate."""
        if self.norm is not None:
            vector = self.norm(vector)
        if self._has_dense:
            vector = self.dense(vector)
            vector = F.gelu(vector) if self._config.head_activation == "gelu" else torch.tanh(vector)
        if self._config.head_dropout:
            vector = F.dropout(vector, self._config.head_dropout, self.training)
        intensities: Tensor = self.projection(vector)
        if self._config.head_output == "sigmoid":
            intensities = intensities.sigmoid()
        return intensities if self.gate is None else self.gate(intensities, vector)


class Gate(nn.Module):
    """Intensities times the probability that they are not 0: a hurdle model's mean (Cragg, 1971).

    In github.com/ZZZRamsey/CVPR_2026_ABAW_10th_EMI, abaw/model_ablation.py (off by default there), the gate
    has a hidden layer of its own, and the intensities a sigmoid; here it shares the head's hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, len(EMOTIONS))

    def forward(self, intensities: Tensor, vector: Tensor) -> Tensor:
        """Intensities (B, 6) before the gate and the head's last vector (B, W) to (B, 12).

        First the intensities, then the gate's logits, which the loss "gate" reads.
        """
        logits = self.dense(vector)
        return torch.cat([logits.sigmoid() * intensities, logits], dim=-1)
