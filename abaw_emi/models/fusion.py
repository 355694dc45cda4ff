"""The modalities of a batch, and how their vectors become six intensities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from abaw_emi.config.parts import FusionConfig
from abaw_emi.core.constants import EMOTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Modalities:
    """What a batch of B clips brings beside its sound.

    Attributes:
        frames: (B, F, D) float32 of each feature folder, zero-padded at the end.
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


class Head(nn.Module):
    """A vector (B, W) to intensities (B, 6): dense, tanh, projection, or the projection alone."""

    def __init__(self, width: int, *, dense: bool, size: int) -> None:
        super().__init__()
        if dense:
            self.dense = nn.Linear(width, size or width)
            width = size or width
        self.projection = nn.Linear(width, len(EMOTIONS))
        self._has_dense = dense

    def forward(self, vector: Tensor) -> Tensor:
        """(B, W) to (B, 6)."""
        if self._has_dense:
            vector = torch.tanh(self.dense(vector))
        intensities: Tensor = self.projection(vector)
        return intensities


class LateMean(nn.Module):
    """A head for each modality; the mean of the intensities of those that a clip has."""

    def __init__(self, widths: Sequence[int], *, dense: bool, size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, dense=dense, size=size) for width in widths)

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
