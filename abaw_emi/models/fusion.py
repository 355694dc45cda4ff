"""The modalities of a batch, and how their vectors become six intensities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw_emi.config.parts import FusionConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.models.heads import Gate, Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Modalities:
    """What a batch of B clips brings beside its sound.

    Attributes:
        frames: (B, F, D) float32 of each feature folder, zero-padded at the end; of a transcript
            (B, F, 1), the numbers of its tokens.
        lengths: (B,) frames of each clip, 0 where it has none.
        present: (B, M) bool, which modalities each clip is to be predicted from: the sound, if the model
            uses it, and the folders, in the model's order.
    """

    frames: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    present: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Modalities:
        """The same with `change` applied to each tensor."""
        return Modalities(
            frames={name: change(values) for name, values in self.frames.items()},
            lengths={name: change(values) for name, values in self.lengths.items()},
            present=change(self.present),
        )

    @classmethod
    def join(cls, parts: Sequence[Modalities]) -> Modalities:
        """The clips of several batches as one batch, in their order."""
        names = parts[0].frames
        return cls(
            frames={name: join_padded([part.frames[name] for part in parts]) for name in names},
            lengths={name: torch.cat([part.lengths[name] for part in parts]) for name in names},
            present=torch.cat([part.present for part in parts]),
        )

    def leave_out(self, config: FusionConfig, rng: np.random.Generator) -> Modalities:
        """The same with modalities left out for one step of training; each clip keeps one that it has."""
        present = self.present.numpy()
        # Drawn for all clips and modalities, so that a clip's numbers follow from its place alone.
        order = rng.random(present.shape)
        kept = order >= config.modality_dropout
        if config.one_at_a_time:
            kept[:] = False
        kept[np.arange(len(present)), np.where(present, order, -1.0).argmax(axis=1)] = True
        return replace(self, present=torch.from_numpy(present & kept))


def join_padded(parts: Sequence[Tensor]) -> Tensor:
    """Frames (B, F, D) of several batches as one, zero-padded to the most frames of any."""
    most = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts])


class LateMean(nn.Module):
    """A head for each modality; the mean of the intensities of those that a clip has."""

    def __init__(self, widths: Sequence[int], config: FusionConfig, *, dense: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, config, dense=dense) for width in widths)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """Vectors (B, W) of each modality, and which of them count (B, M), to (B, 6)."""
        each = torch.stack([head(part) for head, part in zip(self.heads, vectors, strict=True)], dim=1)
        counted = torch.where(present[..., None], each, 0.0)  # (B, M, 6)
        return counted.sum(dim=1) / present.sum(dim=1, keepdim=True)


class Join(nn.Module):
    """All vectors side by side, with a learned one in the place of each modality that a clip is missing."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.missing = nn.ParameterList(torch.zeros(width) for width in widths)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """Vectors (B, W) of each modality, and which of them count (B, M), to (B, sum of W)."""
        parts = [
            torch.where(present[:, number, None], vector, self.missing[number])
            for number, vector in enumerate(vectors)
        ]
        return torch.cat(parts, dim=-1)


class CrossAttention(nn.Module):
    """What a query (B, Q) finds in frames (B, F, D): a vector (B, W).

    Query and keys are projected and normalised, values projected alone (github.com/ZZZRamsey/
    CVPR_2026_ABAW_10th_EMI, abaw/model_ablation.py).
    """

    def __init__(self, query_width: int, width: int, config: FusionConfig) -> None:
        super().__init__()
        size = config.attention_size
        self.heads, self.dropout = config.attention_heads, config.attention_dropout
        self.q_proj = nn.Linear(query_width, size)
        self.k_proj = nn.Linear(width, size)
        self.v_proj = nn.Linear(width, size)
        self.out_proj = nn.Linear(size, size)
        self.q_norm = nn.LayerNorm(size)
        self.k_norm = nn.LayerNorm(size)

    def forward(self, query: Tensor, frames: Tensor, real: Tensor) -> Tensor:
        """Queries (B, Q), frames (B, F, D) and which of them count (B, F), at least one of each clip."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, F, W / heads)
            for part in (
                self.q_norm(self.q_proj(query))[:, None],
                self.k_norm(self.k_proj(frames)),
                self.v_proj(frames),
            )
        )
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=real[:, None, None], dropout_p=dropout
        )
        vector: Tensor = self.out_proj(found.transpose(1, 2).flatten(1))
        return vector


class TextAnchored(nn.Module):
    """A vector, and what it finds in the frames of each other modality, to intensities (B, 6).

    After the winner of 2026 (source as in `CrossAttention`): a learned vector stands for a missing query, and
    a learned frame for all frames of another missing modality.
    """

    def __init__(self, query_width: int, widths: Sequence[int], config: FusionConfig) -> None:
        super().__init__()
        size = config.attention_size
        self.missing_query = nn.Parameter(0.02 * torch.randn(query_width))
        self.missing = nn.ParameterList(0.02 * torch.randn(width) for width in widths)
        self.attentions = nn.ModuleList(CrossAttention(query_width, width, config) for width in widths)
        hidden = config.head_size or size
        self.dense = nn.Linear(query_width + size * len(widths), hidden)
        self.dropout = nn.Dropout(config.attention_dropout)
        self.projection = nn.Linear(hidden, len(EMOTIONS))
        self.gate = Gate(hidden) if config.gate else None

    def forward(
        self, query: Tensor, frames: Sequence[Tensor], lengths: Sequence[Tensor], present: Tensor
    ) -> Tensor:
        """Intensities (B, 6), or as `Gate` returns them.

        Args:
            query: (B, Q).
            frames: (B, F, D) of each other modality.
            lengths: (B,) frames of each clip, of each of them.
            present: (B, 1 + modalities) bool, the query's first.
        """
        query = torch.where(present[:, :1], query, self.missing_query)
        parts = [query]
        for number, (values, counts) in enumerate(zip(frames, lengths, strict=True)):
            there = present[:, number + 1, None]  # (B, 1)
            places = torch.arange(values.shape[1], device=values.device)
            real = places < torch.where(there[:, 0], counts, 1).clamp(min=1)[:, None]
            values = torch.where(there[..., None], values, self.missing[number])
            parts.append(self.attentions[number](query, values, real))
        hidden = self.dropout(F.gelu(self.dense(torch.cat(parts, dim=-1))))
        intensities: Tensor = self.projection(hidden)
        return intensities if self.gate is None else self.gate(intensities, hidden)
