"""Clips without sound that is to be encoded: only what follows the encoder is run.

Either a frozen encoder has been run on them, and their frames are read; or the system has no encoder, and
reads feature folders alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abaw_emi.batching.batches import Labels
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.constants import HOP_SAMPLES
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.fusion import Modalities

if TYPE_CHECKING:
    from abaw_emi.features.reader import FeatureClip

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedClip:
    """The frames and the features of one clip, on disk.

    Attributes:
        filename: its id.
        samples: of the sound that they were made of, so that clips are planned alike either way.
        array: where the encoder's frames lie, (F, D) float32; None where there is no encoder.
        features: what was read of its feature folders.
        has_sound: whether the frames mean anything.
    """

    filename: str
    samples: int
    array: CachedArray | None
    features: FeatureClip | None = None
    has_sound: bool = True

    @classmethod
    def without_encoder(cls, features: FeatureClip) -> EncodedClip:
        """A clip for a system that only reads features; planned as a sound of as many frames would be."""
        samples = HOP_SAMPLES * features.samples
        return cls(features.filename, samples, None, features, has_sound=False)

    @property
    def content_hash(self) -> str:
        """SHA-256 of its features' files, in hexadecimal digits."""
        return "" if self.features is None else self.features.source_hash

    @property
    def frames_length(self) -> int:
        """The number of frames F."""
        return 0 if self.array is None else self.array.shape[0]

    @property
    def width(self) -> int:
        """The width of a frame, D."""
        return 0 if self.array is None else self.array.shape[1]

    def read(self) -> Float32:
        """The frames (F, D), in memory of their own."""
        frames = np.empty((self.frames_length, self.width), np.float32)
        self.read_into(frames)
        return frames

    def read_into(self, out: Float32) -> None:
        """Fills `out` (F, D), contiguous and float32, with the frames; errors as `CachedArray.read_into`."""
        if self.array is not None:
            self.array.read_into(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBatch:
    """Encoded clips side by side; stands where a `batches.Batch` does.

    Attributes:
        filenames: B ids.
        frames: (B, F, D) float32, zero-padded at the end; empty where there is no encoder.
        lengths: (B,) frames of each clip.
        modalities: what the feature folders hold of them, None for a system that reads none.
        intensities: (B, 6) labels, None where there are none.
    """

    filenames: tuple[str, ...]
    frames: Tensor
    lengths: Tensor
    intensities: Tensor | None = None
    modalities: Modalities | None = None

    def __len__(self) -> int:
        return len(self.filenames)

    def run(self, model: EmiModel) -> Tensor:
        """The model's intensities (B, 6)."""
        return model.regress(self.frames, self.lengths, self.modalities)

    def to(self, device: torch.device) -> FrameBatch:
        """The same batch on `device`; from pinned memory without waiting for it."""
        return self._map(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> FrameBatch:
        """The same batch in memory that a GPU reads by itself."""
        return self._map(lambda values: values.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> FrameBatch:
        return replace(
            self,
            frames=change(self.frames),
            lengths=change(self.lengths),
            intensities=None if self.intensities is None else change(self.intensities),
            modalities=None if self.modalities is None else self.modalities.map(change),
        )


def make_frame_batch(clips: Sequence[EncodedClip], labels: Labels | None = None) -> FrameBatch:
    """The batch of `clips`, in their order, with labels (6,) looked up by Filename; no modalities."""
    lengths = [clip.frames_length for clip in clips]
    frames = torch.empty(len(clips), max(lengths), clips[0].width)
    for clip, rows, length in zip(clips, frames.numpy(), lengths, strict=True):
        clip.read_into(rows[:length])
        rows[length:] = 0
    intensities = None
    if labels is not None:
        intensities = torch.from_numpy(np.stack([labels[clip.filename] for clip in clips]))
    return FrameBatch(
        filenames=tuple(clip.filename for clip in clips),
        frames=frames,
        lengths=torch.tensor(lengths),
        intensities=intensities,
    )
