"""The steps of an epoch, made in a thread of their own while the model runs on the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.augment import Augmentation
from abaw_emi.batching.batches import Batch, Labels, make_batch
from abaw_emi.batching.frames import EncodedClip, FrameBatch, make_frame_batch
from abaw_emi.batching.sampler import (
    group_by_length,
    padding_efficiency,
    plan_epoch,
    plan_epoch_by_budget,
    share_batch,
)
from abaw_emi.batching.seeding import make_generator
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.constants import SAMPLE_RATE
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.models.emi import EmiModel

_AHEAD = 2
"""Steps that are ready, or being made, while one runs."""

_COMPILED_SAMPLES = round(0.64 * SAMPLE_RATE)
"""Code is compiled for each length anew: padding to multiples of this leaves 19 lengths in 12 s."""


@dataclass(frozen=True, slots=True)
class Step:
    """What this process does in a step.

    Attributes:
        groups: the clips that run side by side.
        counts: how many clips each process has.
    """

    groups: list[Batch | FrameBatch]
    counts: list[int]

    @property
    def size(self) -> int:
        """Clips of the step, over all processes."""
        return sum(self.counts)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Makes steps; each is a pure function of the config and of its place in the run.

    Attributes:
        clips: the clips to train on; encoded ones are not varied.
        labels: their intensities (6,), by Filename.
        model: says which layers and frames each clip leaves out.
        config: how the run trains.
        rank: of this process, among those that share each batch.
        size: how many processes those are.
        pinned: whether batches go into memory that a GPU reads by itself.
    """

    clips: Sequence[Clip] | Sequence[EncodedClip]
    labels: Labels
    model: EmiModel
    config: TrainingConfig
    rank: int = 0
    size: int = 1
    pinned: bool = False

    @cached_property
    def _augmentation(self) -> Augmentation:
        return Augmentation(self.config.augmentation, max(clip.samples for clip in self.clips))

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, over all processes."""
        lengths, seed = [clip.samples for clip in self.clips], self.config.seed
        if self.config.batch_seconds:
            budget = round(self.config.batch_seconds * SAMPLE_RATE)
            return plan_epoch_by_budget(lengths, budget=budget, seed=seed, epoch=epoch)
        return plan_epoch(lengths, batch_size=self.config.batch_size, seed=seed, epoch=epoch)

    def load(self, plan: Sequence[Sequence[int]], epoch: int, start: int) -> Iterator[Step]:
        """The steps of `plan`, an epoch's, from `start` on."""
        return run_ahead(lambda step: self.make(plan[step], epoch, step), range(start, len(plan)), _AHEAD)

    def make(self, indices: Sequence[int], epoch: int, step: int, most: int | None = None) -> Step:
        """One step, in groups of at most `most` clips: what is drawn for a clip does not depend on that."""
        place = (self.config.seed, epoch, step, self.rank)
        varied, drawn = make_generator("augmentation", *place), make_generator("masks", *place)
        left_out = make_generator("modalities", *place)
        share = [self.clips[index] for index in share_batch(indices, self.rank, self.size)]
        clips = [self._vary(clip, varied) if isinstance(clip, Clip) else clip for clip in share]
        groups: list[Batch | FrameBatch] = []
        for places in self._group([clip.samples for clip in clips], most):
            group = [clips[index] for index in places]
            sounds = [clip for clip in group if isinstance(clip, Clip)]
            frames = [clip for clip in group if isinstance(clip, EncodedClip)]
            batch: Batch | FrameBatch
            batch = (
                make_frame_batch(frames, self.labels) if frames else self._make_batch(sounds, varied, drawn)
            )
            modalities = self.model.collect(group)
            if modalities is not None:
                modalities = modalities.leave_out(self.model.parts.fusion, left_out)
            groups.append(replace(batch, modalities=modalities))
        counts = [len(share_batch(indices, rank, self.size)) for rank in range(self.size)]
        return Step([group.pin_memory() for group in groups] if self.pinned else groups, counts)

    def _make_batch(
        self, clips: Sequence[Clip], varied: np.random.Generator, drawn: np.random.Generator
    ) -> Batch:
        batch = make_batch(clips, self.labels)
        batch = replace(batch, masks=self.model.draw_masks([clip.samples for clip in clips], drawn))
        if self.config.augmentation.active:
            for row, clip in zip(batch.waveforms, clips, strict=True):
                waveform = row[: clip.samples]
                waveform.copy_(self._augmentation.after_normalising(waveform, varied))
        if self.config.compile:
            surplus = -batch.waveforms.shape[1] % _COMPILED_SAMPLES
            batch = replace(batch, waveforms=F.pad(batch.waveforms, (0, surplus)))
        return batch

    def _vary(self, clip: Clip, generator: np.random.Generator) -> Clip:
        if not self.config.augmentation.active:
            return clip
        waveform = self._augmentation.before_normalising(torch.from_numpy(clip.waveform), generator)
        varied = Clip.from_waveform(clip.filename, waveform.numpy(), clip.source)
        return replace(varied, features=clip.features, has_sound=clip.has_sound)

    def padding_efficiency(self, epoch: int) -> float:
        """The share of the samples of this process's part of an epoch that belong to clips."""
        lengths = [clip.samples for clip in self.clips]
        groups: list[list[int]] = []
        for batch in self.plan(epoch):
            share = share_batch(batch, self.rank, self.size)
            groups += [[share[i] for i in group] for group in self._group([lengths[i] for i in share])]
        return padding_efficiency(groups, lengths)

    def _group(self, lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
        """Positions of a share, cut into the groups that run side by side."""
        size = len(lengths) if self.config.batch_seconds else self.config.group_size
        return group_by_length(range(len(lengths)), lengths, size=min(size, most or size))
