"""What wav2vec 2.0 leaves out while training, drawn before the model runs: LayerDrop and SpecAugment.

Everything is drawn on the CPU, for each clip by itself, as the released code's one-by-one forward does
(CODE; see `core.constants`), and from one generator that the caller seeds. The forward pass itself then
draws nothing but torch's own dropouts.

Order: one seed for each clip is drawn from the caller's generator, clip by clip. From its seed a clip draws
which layers it skips, then its frames' spans, then its features' spans. So what a clip draws depends on the
caller's generator, its place in the batch and its own length, and not on the clips beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What one training pass over a batch leaves out: layers (LayerDrop), frames and features (SpecAugment).

    Attributes:
        layers_kept: (L, B) bool, the layers that each clip goes through.
        masked_frames: (B, F) bool, the frames that SpecAugment writes over, none beyond a clip's end; F may
            be smaller than the batch's. None where it is off along time.
        masked_features: (B, H) bool, the features that it zeroes. None where it is off along features.
    """

    layers_kept: Tensor
    masked_frames: Tensor | None = None
    masked_features: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Masks:
        """The masks with `change` applied to each tensor."""
        return Masks(
            layers_kept=change(self.layers_kept),
            masked_frames=None if self.masked_frames is None else change(self.masked_frames),
            masked_features=None if self.masked_features is None else change(self.masked_features),
        )

    def take(self, rows: Tensor, frames: int) -> Masks:
        """The masks of the clips `rows` (bool mask or indices), in a batch of at most `frames` frames."""
        return Masks(
            layers_kept=self.layers_kept[:, rows],
            masked_frames=None if self.masked_frames is None else self.masked_frames[rows, :frames],
            masked_features=None if self.masked_features is None else self.masked_features[rows],
        )

    def write_over(self, x: Tensor, vector: Tensor | None) -> Tensor:
        """Frames x (B, F, H) with `vector` (H,) where they are masked, and zeros in the masked features."""
        if self.masked_frames is not None and vector is not None:
            frames = F.pad(self.masked_frames, (0, x.shape[1] - self.masked_frames.shape[1]))
            x = torch.where(frames[..., None], vector.to(x.dtype), x)
        if self.masked_features is not None:
            x = x.masked_fill(self.masked_features[:, None], 0)
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """SpecAugment along one axis, as transformers' `_compute_mask_indices` draws it for a single clip.

    Attributes:
        share: of the places to be masked, if no spans overlapped; in (0, 1].
        length: places in a span.
        at_least: spans in any case, as far as there is room.
    """

    share: float
    length: int
    at_least: int

    def draw(self, places: int, rng: np.random.Generator) -> Bool:
        """Which of `places` are masked (places,); none where one span is longer than all of them.

        transformers raises there, and so could not train on a clip of less than 0.2 s.
        """
        mask = np.zeros(places, dtype=np.bool_)
        if places < self.length:
            return mask
        # A fraction of a span is a whole one as often as it is large: its number is right on average.
        count = max(int(self.share * places / self.length + rng.random()), self.at_least)
        count = min(count, places // self.length)
        starts = rng.choice(places - self.length + 1, count, replace=False)
        mask[starts[:, None] + np.arange(self.length)] = True
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Regularisation:
    """How much is left out.

    Attributes:
        layers: L, the transformer's layers.
        layerdrop: probability that a clip skips a layer.
        width: H, the features of a frame.
        time: SpecAugment along time, None for none.
        features: SpecAugment along features, None for none.
        first: the number of the first layer that clips may skip.
    """

    layers: int
    layerdrop: float
    width: int
    time: Spans | None
    features: Spans | None
    first: int = 0

    def only_from(self, first: int) -> Regularisation:
        """The same from the layer `first` on, and nothing below it, where SpecAugment acts."""
        return replace(self, first=first, time=None, features=None)

    def describe_below(self, first: int) -> tuple[str, ...]:
        """What `only_from` turns off, in words."""
        off = []
        if self.layerdrop > 0 and first > 0:
            above = f"the last {self.layers - first} layers" if self.layers - first > 1 else "the last layer"
            off.append(f"LayerDrop ({self.layerdrop:g}) acts on {above} alone")
        spans = {"time": self.time, "features": self.features}
        shares = [f"{name} {axis.share:g}" for name, axis in spans.items() if axis is not None]
        if shares:
            off.append(f"SpecAugment ({', '.join(shares)}), which acts below all layers, is off")
        return tuple(off)

    def __bool__(self) -> bool:
        """Whether anything is ever left out."""
        return self.layerdrop > 0 or self.time is not None or self.features is not None

    def draw(self, frames: Sequence[int], rng: np.random.Generator) -> Masks:
        """What a batch of clips of so many frames leaves out, in the order that the module's text gives."""
        kept = np.ones((self.layers, len(frames)), dtype=np.bool_)
        masked_frames = np.zeros((len(frames), max(frames)), dtype=np.bool_)
        masked_features = np.zeros((len(frames), self.width), dtype=np.bool_)
        for row, seed in enumerate(rng.integers(2**63, size=len(frames)).tolist()):
            own = np.random.default_rng(seed)
            kept[:, row] = own.random(self.layers) >= self.layerdrop
            kept[: self.first, row] = True
            if self.time is not None:
                masked_frames[row, : frames[row]] = self.time.draw(frames[row], own)
            if self.features is not None:
                masked_features[row] = self.features.draw(self.width, own)
        return Masks(
            layers_kept=torch.from_numpy(kept),
            masked_frames=None if self.time is None else torch.from_numpy(masked_frames),
            masked_features=None if self.features is None else torch.from_numpy(masked_features),
        )
