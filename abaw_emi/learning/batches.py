"""Clips to padded batches, and the order in which they come.

Filenames travel inside the batch, and labels are looked up by Filename: nothing is matched by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abaw_emi.corpus.clips import Clip

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Clips side by side.

    Attributes:
        filenames: B ids.
        waveforms: (B, T) float32, normalised per clip, zero-padded at the end.
        lengths: (B,) samples of each clip.
        intensities: (B, 6) labels, None where there are none.
    """

    filenames: tuple[str, ...]
    waveforms: Tensor
    lengths: Tensor
    intensities: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(
            filenames=self.filenames,
            waveforms=self.waveforms.to(device),
            lengths=self.lengths.to(device),
            intensities=None if self.intensities is None else self.intensities.to(device),
        )


def normalise(waveform: Float32) -> Float32:
    """The waveform (T,) at zero mean and unit variance, as the wav2vec 2.0 pre-processor does it.

    The 1e-7 under the root is transformers' Wav2Vec2FeatureExtractor's own: it matters for quiet clips.
    """
    return np.asarray((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7), dtype=np.float32)


def make_batch(clips: Sequence[Clip], labels: Mapping[str, Float32] | None = None) -> Batch:
    """The batch of `clips`, in their order, with their labels (6,) looked up by Filename."""
    lengths = [clip.samples for clip in clips]
    waveforms = torch.zeros(len(clips), max(lengths))
    for row, clip in enumerate(clips):
        waveforms[row, : lengths[row]] = torch.from_numpy(normalise(clip.waveform))
    intensities = None
    if labels is not None:
        intensities = torch.from_numpy(np.stack([labels[clip.filename] for clip in clips]))
    return Batch(
        filenames=tuple(clip.filename for clip in clips),
        waveforms=waveforms,
        lengths=torch.tensor(lengths),
        intensities=intensities,
    )


def plan_epoch(
    lengths: Sequence[int], *, batch_size: int, group_size: int, seed: int, epoch: int
) -> list[list[list[int]]]:
    """The batches of an epoch, each split into groups of similar length: indices into `lengths`.

    A pure function of its arguments. Batches are random; inside a batch, clips are sorted by length.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [group_by_length(batch, lengths, group_size) for batch in batches]


def group_by_length(indices: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """`indices` sorted by length, longest first, in groups of at most `size`."""
    ordered = sorted(indices, key=lambda index: (-lengths[index], index))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
