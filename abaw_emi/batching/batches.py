"""Examples to padded batches.

Filenames travel inside the batch, and labels are looked up by Filename: nothing is matched by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abaw_emi.batching.examples import Example
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.constants import MIN_SAMPLES
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.fusion import Modalities, join_padded

Labels = Mapping[str, Float32]
"""Intensities (6,), by Filename."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Examples side by side. Without sound, there are no waveforms, states and frames, and no encoder runs.

    Attributes:
        filenames: B ids.
        lengths: (B,) of each example, in frames where these are given, else in samples; 0 without sound.
            Samples stay on the CPU: what they say about padding is known there without waiting for a GPU.
        waveforms: (B, T) float32, of zero mean and unit variance or as they are, zero-padded at the end.
        states: (B, S, H) float32 that the lower part of an encoder made, zero-padded at the end.
        frames: (B, F, D) float32 that a frozen encoder made, zero-padded at the end.
        intensities: (B, 6) labels, (B, 7) with weights of the clips, None if there are none.
        masks: which layers, frames and features training leaves out, None for none.
        modalities: the examples' features, None for a system that reads none.
    """

    filenames: tuple[str, ...]
    lengths: Tensor
    waveforms: Tensor | None = None
    states: Tensor | None = None
    frames: Tensor | None = None
    intensities: Tensor | None = None
    masks: Masks | None = None
    modalities: Modalities | None = None

    def __len__(self) -> int:
        return len(self.filenames)

    def run(self, model: EmiModel, *, for_loss: bool = False) -> Tensor:
        """The model's intensities (B, 6), or all that losses read."""
        return model.regress(*self.encode(model), model.encode_text(self.modalities), for_loss=for_loss)

    def encode(self, model: EmiModel) -> tuple[Tensor | None, Tensor]:
        """The frames (B, F, D) of the sound, and how many each example has (B,); None without any sound."""
        if self.states is not None:
            return model.encode_states(self.states, self.lengths, self.masks)
        if self.waveforms is None:
            return self.frames, self.lengths
        return model.encode(self.waveforms, self.lengths, self.masks)

    def make_states(self, model: EmiModel) -> tuple[Tensor, Tensor]:
        """What goes into the first layer that is trained (`EmiModel.make_states`), of examples with sound."""
        assert self.waveforms is not None, "states are made of sound"
        return model.make_states(self.waveforms, self.lengths)

    def encoded(self, model: EmiModel) -> Batch:
        """The same batch with frames in place of waveforms, and hidden states in place of tokens."""
        frames, lengths = self.encode(model)
        modalities = model.encode_text(self.modalities)
        kept = replace(self, waveforms=None, states=None, masks=None)
        return replace(kept, frames=frames, lengths=lengths, modalities=modalities)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; from pinned memory without waiting for it."""
        moved = self._map(lambda values: values.to(device, non_blocking=True))
        are_samples = self.waveforms is not None or self.states is not None
        return replace(moved, lengths=self.lengths) if are_samples else moved

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU reads by itself."""
        return self._map(lambda values: values.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, (Masks, Modalities)):
                changed[field.name] = value.map(change)
        return replace(self, **changed)


def make_batch(
    examples: Sequence[Example],
    labels: Labels | None = None,
    *,
    masks: Masks | None = None,
    modalities: Modalities | None = None,
    standardise: bool = True,
) -> Batch:
    """The batch of `examples`, in their order; an example without sound has a row of zeros beside others.

    Args:
        examples: all of them encoded as far, where they have sound, or none.
        labels: (6,) of each example.
        masks: what training leaves out of these examples.
        modalities: see `collect_modalities`.
        standardise: whether each waveform is brought to zero mean and unit variance.
    """
    waveforms = states = frames = None
    lengths = [0] * len(examples)
    if any(example.frames is not None for example in examples):
        frames, lengths = _stack_frames([example.frames for example in examples])
    elif any(example.states is not None for example in examples):
        states, _ = _stack_frames([example.states for example in examples])
        lengths = [example.samples for example in examples]
    elif any(example.audio is not None for example in examples):
        waveforms, lengths = _stack_waveforms(examples, standardise)
    intensities = None
    if labels is not None:
        intensities = torch.from_numpy(np.stack([labels[example.filename] for example in examples]))
    return Batch(
        filenames=tuple(example.filename for example in examples),
        lengths=torch.tensor(lengths),
        waveforms=waveforms,
        states=states,
        frames=frames,
        intensities=intensities,
        masks=masks,
        modalities=modalities,
    )


def join_batches(batches: Sequence[Batch]) -> Batch:
    """One batch of all clips of encoded batches, in their order, without labels; graphs go along."""
    frames, lengths = join_frames([(batch.frames, batch.lengths) for batch in batches])
    modalities = [batch.modalities for batch in batches if batch.modalities is not None]
    return Batch(
        filenames=tuple(filename for batch in batches for filename in batch.filenames),
        lengths=lengths,
        frames=frames,
        modalities=Modalities.join(modalities) if modalities else None,
    )


def join_frames(parts: Sequence[tuple[Tensor | None, Tensor]]) -> tuple[Tensor | None, Tensor]:
    """Frames (b, F, D) of several batches and their lengths (b,) as those of one; None without any sound."""
    lengths = torch.cat([lengths for _, lengths in parts])
    some = next((frames for frames, _ in parts if frames is not None), None)
    if some is None:
        return None, lengths
    # Those without sound have one frame, which `Modalities.present` says not to count.
    filled = [
        some.new_zeros(len(counts), 1, some.shape[2]) if frames is None else frames
        for frames, counts in parts
    ]
    return join_padded(filled), lengths.clamp(min=1)


def collect_modalities(
    examples: Sequence[Example], widths: Mapping[str, int], *, uses_audio: bool
) -> Modalities | None:
    """The features of `examples`, in their order, and what each has; None for a model of sound alone.

    Args:
        examples: each with at least one modality.
        widths: the model's feature folders, and their D.
        uses_audio: whether the model has an encoder of sound.
    """
    if not widths:
        return None
    frames, lengths = {}, {}
    present = [[example.audio is not None for example in examples]] if uses_audio else []
    for name, width in widths.items():
        arrays = [example.features.get(name) for example in examples]
        counts = [0 if array is None else array.shape[0] for array in arrays]
        values = torch.zeros(len(examples), max(1, *counts), width)
        for row, array, count in zip(values.numpy(), arrays, counts, strict=True):
            if array is not None:
                array.read_into(row[:count])
        frames[name], lengths[name] = values, torch.tensor(counts)
        present.append([count > 0 for count in counts])
    return Modalities(frames=frames, lengths=lengths, present=torch.tensor(present).T.contiguous())


def _stack_waveforms(examples: Sequence[Example], standardise: bool) -> tuple[Tensor, list[int]]:
    lengths = [MIN_SAMPLES if example.audio is None else example.audio.samples for example in examples]
    waveforms = torch.empty(len(examples), max(lengths))
    # Each clip is read straight into its row: at memory's own speed (benchmarks/data.py).
    for example, row, length in zip(examples, waveforms.numpy(), lengths, strict=True):
        if example.audio is None:
            row[:length] = 0  # the encoder needs a first frame; `Modalities.present` says not to count it
        else:
            example.audio.read_into(row[:length])
            if standardise:
                _normalise(row[:length], *example.audio.moments)
        row[length:] = 0
    return waveforms, lengths


def _stack_frames(arrays: Sequence[CachedArray | None]) -> tuple[Tensor, list[int]]:
    """Frames or states of examples (B, F, D), and how many each has: one, of zeros, without sound."""
    lengths = [1 if array is None else array.shape[0] for array in arrays]
    width = next(array.shape[1] for array in arrays if array is not None)
    frames = torch.empty(len(arrays), max(lengths), width)
    for array, rows, length in zip(arrays, frames.numpy(), lengths, strict=True):
        if array is None:
            rows[:length] = 0
        else:
            array.read_into(rows[:length])
        rows[length:] = 0
    return frames, lengths


def _normalise(waveform: Float32, mean: np.float32, variance: np.float32) -> None:
    """Brings a waveform to zero mean and unit variance in place, as the wav2vec 2.0 pre-processor does it.

    The 1e-7 under the root is transformers' Wav2Vec2FeatureExtractor's own: it matters for quiet clips.
    """
    waveform -= mean
    waveform /= np.sqrt(variance + 1e-7)
