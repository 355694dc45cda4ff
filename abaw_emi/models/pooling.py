"""Frames (B, F, D) of clips of `lengths` (B,) frames to a vector a clip (B, W); padding has no part in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LEAST_VARIANCE = 1e-12
"""Added under the root: the root of 0 has no slope, and a clip of one frame has that spread."""


class AttentionPooling(nn.Module):
    """The mean of a clip's frames, weighted by the softmax of a linear score of each.

    With `deviation`, the weighted standard deviation stands beside it. Both are those of Okabe et al.,
    Attentive Statistics Pooling, Interspeech 2018 (arXiv 1803.10963), equations 3 to 6; their score has a
    hidden layer (equation 2), which ours has not.

    Args:
        width: D.
        deviation: whether the standard deviation is there, too.

    Attributes:
        output_width: W, D or 2D.
    """

    def __init__(self, width: int, *, deviation: bool) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.deviation = deviation
        self.output_width = (1 + deviation) * width

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, F, D) of clips of at least one frame each to (B, W)."""
        padding = ~find_real(frames, lengths)[..., None]
        frames = frames.masked_fill(padding, 0)
        weights = self.score(frames).masked_fill(padding, -math.inf).softmax(dim=1)  # (B, F, 1)
        mean: Tensor = (weights * frames).sum(dim=1)
        if not self.deviation:
            return mean
        variance = (weights * (frames - mean[:, None]).square()).sum(dim=1)
        return torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=-1)


class FixedPooling(nn.Module):
    """What needs no weights: "mean", "first", "last", "mean+last" or "statistics".

    Args:
        kind: one of these; "statistics" are mean, standard deviation, least and greatest.
        width: D.
        both_ways: whether the second half of a frame is the state of a network that runs backwards, whose
            last state is at the first frame.

    Attributes:
        output_width: W.
    """

    def __init__(self, kind: str, width: int, *, both_ways: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.both_ways = both_ways
        self.output_width = {"mean+last": 2, "statistics": 4}.get(kind, 1) * width

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, F, D) of clips of at least one frame each to (B, W)."""
        if self.kind == "first":
            return frames[:, 0]
        last = frames[torch.arange(len(frames), device=frames.device), lengths - 1]
        if self.both_ways:
            half = frames.shape[2] // 2
            last = torch.cat([last[:, :half], frames[:, 0, half:]], dim=-1)
        if self.kind == "last":
            return last
        padding = ~find_real(frames, lengths)[..., None]
        mean = frames.masked_fill(padding, 0).sum(dim=1) / lengths[:, None]
        if self.kind == "mean":
            return mean
        if self.kind == "mean+last":
            return torch.cat([mean, last], dim=-1)
        spread = (frames - mean[:, None]).square().masked_fill(padding, 0).sum(dim=1) / lengths[:, None]
        least = frames.masked_fill(padding, math.inf).amin(dim=1)
        greatest = frames.masked_fill(padding, -math.inf).amax(dim=1)
        return torch.cat([mean, (spread + _LEAST_VARIANCE).sqrt(), least, greatest], dim=-1)


def make_pooling(kind: str, width: int, *, both_ways: bool = False) -> AttentionPooling | FixedPooling:
    """The pooling of a name that `FeatureConfig.pooling` knows; for `both_ways` see `FixedPooling`."""
    if kind in ("attention", "attentive-statistics"):
        return AttentionPooling(width, deviation=kind == "attentive-statistics")
    return FixedPooling(kind, width, both_ways=both_ways)


def find_real(frames: Tensor, lengths: Tensor) -> Tensor:
    """(B, F) bool, true within each clip of `lengths` (B,) frames."""
    return torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
