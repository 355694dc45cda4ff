"""Clips to padded batches, and the order in which they come.

Filenames travel inside the batch, and labels are looked up by Filename: nothing is matched by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abaw_emi.audio.clips import Clip, measure
from abaw_emi.models.fusion import Modalities
from abaw_emi.models.spec_augment import Masks

if TYPE_CHECKING:
    from abaw_emi.models.emi import EmiModel

Float32 = npt.NDArray[np.float32]

Labels = Mapping[str, Float32]
"""Intensities (6,), by Filename."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Clips side by side.

    Attributes:
        filenames: B ids.
        waveforms: (B, T) float32, normalised per clip, zero-padded at the end.
        lengths: (B,) samples of each clip.
        intensities: (B, 6) labels, None where there are none.
        masks: which layers and frames of each clip are left out in training, None for none.
        modalities: what the feature folders hold of them, None for a system that reads none.
    """

    filenames: tuple[str, ...]
    waveforms: Tensor
    lengths: Tensor
    intensities: Tensor | None = None
    masks: Masks | None = None
    modalities: Modalities | None = None

    def __len__(self) -> int:
        return len(self.filenames)

    def run(self, model: EmiModel) -> Tensor:
        """The model's intensities (B, 6)."""
        output: Tensor = model(self.waveforms, self.lengths, self.masks, self.modalities)
        return output

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; from pinned memory without waiting for it."""
        return self._map(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU reads by itself."""
        return self._map(lambda values: values.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            waveforms=change(self.waveforms),
            lengths=change(self.lengths),
            intensities=None if self.intensities is None else change(self.intensities),
            masks=None if self.masks is None else self.masks.map(change),
            modalities=None if self.modalities is None else self.modalities.map(change),
        )


def normalise(waveform: Float32) -> Float32:
    """The waveform (T,) at zero mean and unit variance, as the wav2vec 2.0 pre-processor does it."""
    normalised = waveform.copy()
    _normalise(normalised, *measure(waveform))
    return normalised


def _normalise(waveform: Float32, mean: np.float32, variance: np.float32) -> None:
    """Normalises in place.

    The 1e-7 under the root is transformers' Wav2Vec2FeatureExtractor's own: it matters for quiet clips.
    """
    waveform -= mean
    waveform /= np.sqrt(variance + 1e-7)


def make_batch(clips: Sequence[Clip], labels: Labels | None = None) -> Batch:
    """The batch of `clips`, in their order, with labels (6,) looked up by Filename; no modalities."""
    lengths = [clip.samples for clip in clips]
    waveforms = torch.empty(len(clips), max(lengths))
    # Each clip is read straight into its row: at memory's own speed (benchmarks/data.py).
    for clip, row, length in zip(clips, waveforms.numpy(), lengths, strict=True):
        clip.read_into(row[:length])
        _normalise(row[:length], *clip.moments)
        row[length:] = 0
    intensities = None
    if labels is not None:
        intensities = torch.from_numpy(np.stack([labels[clip.filename] for clip in clips]))
    return Batch(
        filenames=tuple(clip.filename for clip in clips),
        waveforms=waveforms,
        lengths=torch.tensor(lengths),
        intensities=intensities,
    )
