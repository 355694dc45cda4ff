"""The steps of an epoch, made in a thread of their own while the model runs on the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.augment import Augmentation
from abaw_emi.batching.batches import Batch, Labels, collect_modalities, make_batch
from abaw_emi.batching.examples import Example
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
from abaw_emi.core.prefetch import count_cores, run_ahead
from abaw_emi.models.emi import EmiModel

_AHEAD = 2
"""Steps that are ready, or being made, while one runs."""

_GPU_GROUP, _CPU_GROUP = 16, 8
"""Clips of a group, where `group_size` is 0 (`benchmarks/gpu.py` and `benchmarks/planning.py`)."""

_THREADS = 4
"""That make steps with augmentation for a GPU: one takes up to 110 ms a step of 32 clips for speed and noise,
which is what the GPU may take for it, and 9 ms without (`benchmarks/counting.py`)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What this process does in a step.

    Attributes:
        groups: the examples that run side by side.
        counts: how many examples each process has.
    """

    groups: list[Batch]
    counts: list[int]

    @property
    def size(self) -> int:
        """Examples of the step, over all processes."""
        return sum(self.counts)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Makes steps; each is a pure function of the config and of its place in the run.

    Attributes:
        examples: what to train on; the sound of those that a frozen encoder has encoded is not varied.
        labels: their intensities (6,), by Filename.
        model: says which layers and frames each example leaves out.
        config: how the run trains.
        rank: of this process, among those that share each batch.
        size: how many processes those are.
        pinned: whether batches go into memory that a GPU reads by itself.
    """

    examples: Sequence[Example]
    labels: Labels
    model: EmiModel
    config: TrainingConfig
    rank: int = 0
    size: int = 1
    pinned: bool = False

    @cached_property
    def _lengths(self) -> list[int]:
        return [example.samples for example in self.examples]

    @cached_property
    def _augmentation(self) -> Augmentation:
        return Augmentation(self.config.augmentation, max(example.samples for example in self.examples))

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, over all processes."""
        lengths, seed = self._lengths, self.config.seed
        if self.config.batch_seconds:
            budget = round(self.config.batch_seconds * SAMPLE_RATE)
            return plan_epoch_by_budget(lengths, budget=budget, seed=seed, epoch=epoch)
        return plan_epoch(lengths, batch_size=self.config.batch_size, seed=seed, epoch=epoch)

    def load(self, plan: Sequence[Sequence[int]], epoch: int, start: int) -> Iterator[Step]:
        """The steps of `plan`, an epoch's, from `start` on."""
        steps, threads = range(start, len(plan)), self.threads
        return run_ahead(
            lambda step: self.make(plan[step], epoch, step), steps, _AHEAD + threads - 1, threads
        )

    @property
    def threads(self) -> int:
        """How many threads make steps; on a CPU the model uses the cores."""
        if not self.pinned or not self.config.augmentation.active:
            return 1
        return min(_THREADS, count_cores())

    def make(self, indices: Sequence[int], epoch: int, step: int, most: int | None = None) -> Step:
        """One step, in groups of at most `most` examples; what is random does not depend on the groups."""
        place = (self.config.seed, epoch, step, self.rank)
        varying, masking = make_generator("augmentation", *place), make_generator("masks", *place)
        leaving_out = make_generator("modalities", *place)
        shares = share_batch(indices, self._lengths, self.size)
        share = [self.examples[index] for index in shares[self.rank]]
        examples = [self._vary(example, varying) for example in share]
        groups = []
        for places in self._group([example.samples for example in examples], most):
            group = [examples[index] for index in places]
            batch = self._make_batch(group, masking, leaving_out)
            self._vary_normalised(batch, group, varying)
            groups.append(batch.pin_memory() if self.pinned else batch)
        return Step(groups, [len(share) for share in shares])

    def _make_batch(
        self, group: Sequence[Example], masking: np.random.Generator, leaving_out: np.random.Generator
    ) -> Batch:
        model = self.model
        modalities = collect_modalities(group, model.input_widths, uses_audio=model.encoder is not None)
        return make_batch(
            group,
            self.labels,
            masks=model.draw_masks([example.samples for example in group], masking),
            modalities=modalities and modalities.leave_out(model.parts.fusion, leaving_out),
            standardise=model.standardises,
        )

    def _vary(self, example: Example, generator: np.random.Generator) -> Example:
        """The example with its sound varied, as far as that is done before it is normalised."""
        clip = example.audio
        if clip is None or example.frames is not None or not self.config.augmentation.active:
            return example
        waveform = self._augmentation.before_normalising(torch.from_numpy(clip.waveform), generator)
        varied = Clip.from_waveform(clip.filename, waveform.numpy(), clip.source)
        return replace(example, audio=varied, samples=varied.samples)

    def _vary_normalised(
        self, batch: Batch, group: Sequence[Example], generator: np.random.Generator
    ) -> None:
        """Varies the sound of the batch in place, as far as that is done after it is normalised."""
        if batch.waveforms is None or not self.config.augmentation.active:
            return
        for row, example in zip(batch.waveforms, group, strict=True):
            if example.audio is not None:
                waveform = row[: example.samples]
                waveform.copy_(self._augmentation.after_normalising(waveform, generator))

    def padding_efficiency(self, epoch: int) -> float:
        """The share of the samples of this process's part of an epoch that belong to clips."""
        lengths = self._lengths
        groups: list[list[int]] = []
        for batch in self.plan(epoch):
            share = share_batch(batch, lengths, self.size)[self.rank]
            groups += [[share[i] for i in group] for group in self._group([lengths[i] for i in share])]
        return padding_efficiency(groups, lengths)

    def _group(self, lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
        """Positions of a share, cut into the groups that run side by side."""
        usual = _GPU_GROUP if self.pinned else _CPU_GROUP
        size = len(lengths) if self.config.batch_seconds else self.config.group_size or usual
        return group_by_length(range(len(lengths)), lengths, size=min(size, most or size))
