"""The arithmetic of prediction: groups of examples to intensities or frames.

A clip's result does not depend on the clips beside it, so groups are made for speed alone. On a CPU padding
costs exactly its share and a large encoder gains nothing from company: each clip is encoded alone, and only
the LSTM, whose weights are otherwise read again for each frame of each clip, runs on a whole group. On a GPU,
and for the small log-mel encoder, a group of similar lengths is encoded side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from abaw_emi.batching.batches import Batch, collect_modalities, join_frames, make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.batching.sampler import group_by_length, sort_by_length
from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import SAMPLE_RATE
from abaw_emi.core.errors import Problem, TrainingError
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.models.device import Runtime, empty_memory, memory_errors, set_up_gpus
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.sound import Fixed
from abaw_emi.models.fusion import Modalities

ARITHMETIC = 3
"""Raised whenever the same weights and clips give something else: what was kept is then made again."""

CPU_SECONDS = 96.0
"""Padded seconds of a group on a CPU. On one thread the paper's LSTM takes 76 ms for each second of a clip
alone and 19 ms in a group of 8 clips; 16 clips would win 2 ms more, and divide worse among cores."""

GPU_SECONDS = 384.0
"""Padded seconds of a group on a GPU: 4.3 GiB with the paper's encoder in bf16. On an H100 twice as many are
4 % faster (`benchmarks/README.md`)."""

Work = Literal["intensities"] | Fixed
"""What is asked for: (6,), (F, D) or (S, H) of each example."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Examples whose intensities are computed side by side.

    Attributes:
        batches: in which their sound is encoded.
        modalities: their features.
    """

    batches: list[Batch]
    modalities: Modalities | None


class Inference:
    """Runs a model, which stays as it is; it is in evaluation mode already.

    Args:
        model: its encoder may have half-precision weights (`predict.load_run`), which need no autocast.
        runtime: what it runs with.

    Attributes:
        alone: whether each clip is encoded by itself.
    """

    def __init__(self, model: EmiModel, runtime: Runtime) -> None:
        self.model = model
        self.runtime = runtime
        self.device = runtime.device
        self.alone = self.device.type == "cpu" and model.encoder is not None and model.encoder.is_large

    def run(
        self,
        work: Work,
        groups: Sequence[Sequence[Example]],
        advance: Callable[[int], object] = lambda clips: None,
    ) -> Generator[list[Float32]]:
        """What is asked for of each example of each group, in their order.

        Args:
            work: "frames" and "states" only of examples with sound that is not encoded yet.
            groups: as `plan_groups` makes them.
            advance: called with the number of examples that were finished since the last call.

        Raises:
            TrainingError: a single clip does not fit the memory, or the model fails on it.
        """
        set_up_gpus(self.runtime.precision)  # a model of another precision may have run since
        before: tuple[Sequence[Example], list[Tensor]] | None = None
        for group, ready in zip(groups, run_ahead(self._prepare, groups, 1), strict=True):
            outputs = self._forward(work, group, ready, advance)
            if before is not None:
                yield self._fetch(work, *before)  # while the GPU works on the group just begun
            before = group, outputs
        if before is not None:
            yield self._fetch(work, *before)

    def _prepare(self, examples: Sequence[Example]) -> _Group:
        alone = self.alone and all(example.frames is None for example in examples)
        parts = [[each] for each in examples] if alone else [examples]
        batches = [make_batch(part, standardise=self.model.standardises) for part in parts]
        uses_audio = self.model.encoder is not None
        modalities = collect_modalities(examples, self.model.input_widths, uses_audio=uses_audio)
        if self.device.type == "cuda":
            batches = [batch.pin_memory() for batch in batches]
            modalities = None if modalities is None else modalities.map(Tensor.pin_memory)
        return _Group(batches, modalities)

    def _forward(
        self,
        work: Work,
        examples: Sequence[Example],
        group: _Group,
        advance: Callable[[int], object],
    ) -> list[Tensor]:
        """Tensors (b, ...) that hold the examples in their order; in halves if the memory is too small."""
        try:
            with memory_errors(), torch.inference_mode(), self._context():
                return [self._run(work, group, advance)]
        except torch.OutOfMemoryError as error:
            if len(examples) == 1:
                advice = "use --device cpu, or a device with more memory"
                raise TrainingError(
                    Problem(examples[0].filename, "does not fit the device's memory", next_step=advice)
                ) from error
        # Outside the handler: the traceback holds on to what filled the memory.
        empty_memory(self.device)
        middle = len(examples) // 2
        return [
            output
            for half in (examples[:middle], examples[middle:])
            for output in self._forward(work, half, self._prepare(half), advance)
        ]

    def _run(self, work: Work, group: _Group, advance: Callable[[int], object]) -> Tensor:
        parts = []
        for batch in group.batches:
            parts.append(self._encode(work, batch.to(self.device)))
            advance(len(batch))
        frames, lengths = parts[0] if len(parts) == 1 else join_frames(parts)
        if work != "intensities":
            assert frames is not None, "they are made of sound"
            return frames
        modalities = group.modalities
        if modalities is not None:
            modalities = modalities.map(lambda values: values.to(self.device, non_blocking=True))
        return self.model.regress(frames, lengths, self.model.encode_text(modalities))

    def _encode(self, work: Work, batch: Batch) -> tuple[Tensor | None, Tensor]:
        try:
            with memory_errors():
                return batch.make_states(self.model) if work == "states" else batch.encode(self.model)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            where, reason = ", ".join(batch.filenames), str(error).splitlines()[0]
            raise TrainingError(Problem(where, f"the model fails on it: {reason}")) from error

    def _fetch(self, work: Work, examples: Sequence[Example], outputs: Sequence[Tensor]) -> list[Float32]:
        rows: list[Float32] = [row for output in outputs for row in output.float().cpu().numpy()]
        if work == "intensities":
            return rows
        assert self.model.encoder is not None, "they come from an encoder"
        count = self.model.encoder.state_lengths if work == "states" else self.model.encoder.frame_lengths
        return [row[: count(example.samples)] for row, example in zip(rows, examples, strict=True)]

    def _context(self) -> AbstractContextManager[Any]:
        encoder = self.model.encoder
        if encoder is not None and next(encoder.parameters()).dtype != torch.float32:
            return nullcontext()
        return self.runtime.autocast()


def plan_groups(examples: Sequence[Example], device: torch.device) -> list[list[int]]:
    """Places of examples to run side by side, each once: of similar lengths, the longest first."""
    lengths = [example.samples for example in examples]
    ordered = sort_by_length(range(len(lengths)), lengths)
    seconds = CPU_SECONDS if device.type == "cpu" else GPU_SECONDS
    return group_by_length(ordered, lengths, budget=round(seconds * SAMPLE_RATE))
