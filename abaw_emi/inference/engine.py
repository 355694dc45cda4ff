"""The arithmetic of prediction: groups of clips to intensities or frames.

A clip's result does not depend on the clips beside it, so groups are made for speed alone. On a CPU padding
costs exactly its share and a large encoder gains nothing from company: each clip is encoded alone, and only
the LSTM, whose weights are otherwise read anew for each frame of each clip, runs on a whole group. On a GPU,
and for the small log-mel encoder, a group of similar lengths is encoded side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.batches import Batch, make_batch
from abaw_emi.batching.frames import EncodedClip, FrameBatch, make_frame_batch
from abaw_emi.batching.sampler import group_by_length, sort_by_length
from abaw_emi.core.constants import SAMPLE_RATE, Precision
from abaw_emi.core.errors import Problem, TrainingError
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.models.device import autocast
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoder import Wav2Vec2Encoder
from abaw_emi.models.fusion import Modalities

ARITHMETIC = 1
"""Raised whenever the same weights and clips give something else: what was stored is then made anew."""

CPU_SECONDS = 96.0
"""Padded seconds of a group on a CPU. On one thread the paper's LSTM takes 76 ms for each second of a clip
alone and 19 ms in a group of 8 clips; 16 clips would win 2 ms more, and divide worse among cores."""

GPU_SECONDS = 192.0
"""Padded seconds of a group on a GPU: some 6 GB with the paper's encoder in float32."""

Float32 = npt.NDArray[np.float32]

Work = Literal["intensities", "frames"]
"""What is asked for: (6,) or (F, D) of each clip."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Clips whose intensities are computed side by side.

    Attributes:
        batches: in which they are encoded.
        modalities: what the feature folders hold of them.
    """

    batches: list[Batch | FrameBatch]
    modalities: Modalities | None


class Inference:
    """A model that answers, and is not changed by it; it is in evaluation mode already.

    Args:
        model: its encoder may have half-precision weights (`prediction.load_model`), which need no autocast.
        device: where it is.
        precision: of its arithmetic.
    """

    def __init__(self, model: EmiModel, *, device: torch.device, precision: Precision) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.alone = device.type == "cpu" and isinstance(model.encoder, Wav2Vec2Encoder)

    def run(
        self,
        work: Work,
        groups: Sequence[Sequence[Clip | EncodedClip]],
        advance: Callable[[int], object] = lambda clips: None,
    ) -> Iterator[list[Float32]]:
        """What is asked for of each clip of each group, in their order.

        Args:
            work: "frames" only of clips that are not encoded yet.
            groups: as `plan_groups` makes them.
            advance: told how many clips more are done.

        Raises:
            TrainingError: a single clip does not fit the memory, or the model fails on it.
        """
        before: tuple[Sequence[Clip | EncodedClip], list[Tensor]] | None = None
        for group, ready in zip(groups, run_ahead(self._prepare, groups, 1), strict=True):
            outputs = self._forward(work, group, ready, advance)
            if before is not None:
                yield self._fetch(work, *before)  # while the GPU works on the group just begun
            before = group, outputs
        if before is not None:
            yield self._fetch(work, *before)

    def _prepare(self, clips: Sequence[Clip | EncodedClip]) -> _Group:
        sounds = [clip for clip in clips if isinstance(clip, Clip)]
        frames = [clip for clip in clips if isinstance(clip, EncodedClip)]
        batches: list[Batch | FrameBatch] = []
        if frames:
            assert not sounds, "a group is encoded, or is not"
            batches.append(make_frame_batch(frames))
        elif self.alone:
            batches += [make_batch([clip]) for clip in sounds]
        else:
            batches.append(make_batch(sounds))
        modalities = self.model.collect(clips)
        if self.device.type == "cuda":
            batches = [batch.pin_memory() for batch in batches]
            modalities = None if modalities is None else modalities.map(Tensor.pin_memory)
        return _Group(batches, modalities)

    def _forward(
        self,
        work: Work,
        clips: Sequence[Clip | EncodedClip],
        group: _Group,
        advance: Callable[[int], object],
    ) -> list[Tensor]:
        """Tensors (b, ...) that hold the group's clips in their order; in halves where memory is short."""
        try:
            with torch.inference_mode(), self._context():
                return [self._run(work, group, advance)]
        except torch.OutOfMemoryError as error:
            if len(clips) == 1:
                advice = "use --device cpu, or a device with more memory"
                raise TrainingError(
                    Problem(clips[0].filename, "does not fit the device's memory", next_step=advice)
                ) from error
        # Outside the handler: the traceback holds on to what filled the memory.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(clips) // 2
        return [
            output
            for half in (clips[:middle], clips[middle:])
            for output in self._forward(work, half, self._prepare(half), advance)
        ]

    def _run(self, work: Work, group: _Group, advance: Callable[[int], object]) -> Tensor:
        parts: list[tuple[Tensor, Tensor]] = []
        for made in group.batches:
            batch = made.to(self.device)
            if isinstance(batch, FrameBatch):
                parts.append((batch.frames, batch.lengths))
            else:
                parts.append(self._encode(batch))
            advance(len(batch))
        frames, lengths = parts[0] if len(parts) == 1 else _stack(parts)
        if work == "frames":
            return frames
        modalities = group.modalities
        if modalities is not None:
            modalities = modalities.map(lambda values: values.to(self.device, non_blocking=True))
        return self.model.regress(frames, lengths, modalities)

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        try:
            return self.model.encode(batch.waveforms, batch.lengths)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            where, reason = ", ".join(batch.filenames), str(error).splitlines()[0]
            raise TrainingError(Problem(where, f"the model fails on it: {reason}")) from error

    def _fetch(
        self, work: Work, clips: Sequence[Clip | EncodedClip], outputs: Sequence[Tensor]
    ) -> list[Float32]:
        rows: list[Float32] = [row for output in outputs for row in output.float().cpu().numpy()]
        if work == "intensities":
            return rows
        assert self.model.encoder is not None, "frames come from an encoder"
        counts = [self.model.encoder.frame_lengths(torch.tensor(clip.samples)) for clip in clips]
        return [row[: int(count)] for row, count in zip(rows, counts, strict=True)]

    def _context(self) -> AbstractContextManager[Any]:
        encoder = self.model.encoder
        if encoder is not None and next(encoder.parameters()).dtype != torch.float32:
            return nullcontext()
        return autocast(self.precision, self.device)


def plan_groups(clips: Sequence[Clip | EncodedClip], device: torch.device) -> list[list[int]]:
    """Places of clips to run side by side, each once: of similar lengths, the longest clips first."""
    lengths = [clip.samples for clip in clips]
    ordered = sort_by_length(range(len(lengths)), lengths)
    seconds = CPU_SECONDS if device.type == "cpu" else GPU_SECONDS
    return group_by_length(ordered, lengths, budget=round(seconds * SAMPLE_RATE))


def _stack(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Frames (b, F, D) of clips that were encoded alone, side by side, zero past each one's end."""
    lengths = torch.cat([lengths for _, lengths in parts])
    frames = [frame for part, _ in parts for frame in part]
    return torch.nn.utils.rnn.pad_sequence(frames, batch_first=True), lengths
