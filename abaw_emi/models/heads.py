"""Vectors (B, W) to intensities (B, 6), and what losses alone read beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

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


class AuxiliaryHeads(nn.Module):
    """A head for each modality whose vector is to predict by itself, too: deep supervision.

    Lee et al., arXiv 1409.5185, for layers; for modalities Huang et al., arXiv 2603.13760. Only losses read
    what they say. They end as the head does (normalisation, dropout, sigmoid), without its dense layer.

    Args:
        widths: W of each such modality, by its place among the model's.
        config: of the head.
    """

    def __init__(self, widths: Mapping[int, int], config: FusionConfig) -> None:
        super().__init__()
        self._places = list(widths)
        config = replace(config, gate=False)
        self.heads = nn.ModuleList(Head(width, config, dense=False) for width in widths.values())

    def forward(self, vectors: Sequence[Tensor], present: Tensor | None) -> Tensor:
        """(B, 7 K): of each of K modalities the intensities, and 1 where a clip has it, else 0.

        Args:
            vectors: (B, W) of all modalities of the model.
            present: (B, M), which of them count; None for all.
        """
        parts = []
        for place, head in zip(self._places, self.heads, strict=True):
            vector = vectors[place]
            there = vector.new_ones(len(vector)) if present is None else present[:, place].to(vector.dtype)
            parts += [head(vector), there[:, None]]
        return torch.cat(parts, dim=-1)
