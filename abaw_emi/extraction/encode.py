"""What an encoder of any kind shares: its sources, its settings, and frames of them, group by group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import OnBadClip, Precision
from abaw_emi.core.errors import EmiError, FeatureError, Problem, WeightsError, shorten_error
from abaw_emi.core.ids import summarise
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.models.device import autocast, empty_memory, memory_errors
from abaw_emi.models.hub import Pretrained

Content = TypeVar("Content")
Prepared = TypeVar("Prepared")


@dataclass(frozen=True, slots=True, eq=False)
class Source(Generic[Content]):
    """What one clip's features are made of.

    Attributes:
        filename: id as the label files hold it.
        sha256: of the file or files.
        size: samples, pictures or characters.
        content: a `Clip`, the paths of faces, or words.
    """

    filename: str
    sha256: str
    size: int
    content: Content


@dataclass(frozen=True, slots=True, eq=False)
class Sources(Generic[Content]):
    """The sources of the clips asked for.

    Attributes:
        found: those that can be read, in the order asked for.
        missing: ids of clips that have nothing of the kind.
        skipped: why each clip that was left out was left out, by id.
    """

    found: Sequence[Source[Content]]
    missing: Sequence[str]
    skipped: Mapping[str, Sequence[Problem]]


def read_sources(
    ids: Iterable[str], read: Callable[[str], Source[Content] | None], on_bad: OnBadClip
) -> Sources[Content]:
    """The sources of clips.

    Args:
        ids: of the clips.
        read: the source of a clip; None where it has nothing of the kind.
        on_bad: what becomes of clips whose source cannot be read.

    Raises:
        EmiError: with `on_bad="error"`, every problem of every clip, of the class of the first one.
    """
    found: list[Source[Content]] = []
    missing: list[str] = []
    errors: dict[str, EmiError] = {}
    for filename in ids:
        try:
            source = read(filename)
        except EmiError as error:
            errors[filename] = error
            continue
        if source is None:
            missing.append(filename)
        else:
            found.append(source)
    skipped = {filename: error.problems for filename, error in errors.items()}
    if errors and on_bad == "error":
        first, *_ = errors.values()
        raise type(first)(summarise(skipped))
    return Sources(found, missing, skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """How an encoder runs.

    Attributes:
        layer: whose hidden states are asked for; None for the last, as the model returns them.
        batch: clips, faces or transcripts that run side by side.
        device: where it runs.
        precision: of its arithmetic.
        max_seconds: to which sound is cut.
    """

    layer: int | None
    batch: int
    device: torch.device
    precision: Precision
    max_seconds: float


class FrameEncoder(ABC, Generic[Content, Prepared]):
    """An encoder of one kind, on its device; each kind loads its model itself.

    Args:
        pretrained: where it lies.
        settings: how it runs.
        model: what gives hidden states.
    """

    def __init__(self, pretrained: Pretrained, settings: EncoderSettings, model: Any) -> None:
        self._name = pretrained.name
        self._settings = settings
        self._model = model.to(settings.device)

    def group(self, sources: Sequence[Source[Content]]) -> list[list[Source[Content]]]:
        """The sources in the groups that are encoded side by side, each once: the largest first."""
        return cut(sources, self._settings.batch)

    def warnings(self) -> list[Problem]:
        """What is to be known of the clips that were encoded."""
        return []

    @abstractmethod
    def prepare(self, sources: Sequence[Source[Content]]) -> Prepared:
        """A group, pre-processed; runs in a thread while `encode` of the group before does."""

    @abstractmethod
    def encode(self, prepared: Prepared) -> list[Float32]:
        """The frames (T, D) of each source of the group."""

    def encode_all(self, sources: Sequence[Source[Content]]) -> Iterator[tuple[Source[Content], Float32]]:
        """Each source with its frames.

        Raises:
            WeightsError: the encoder does not run, or a single clip does not fit the memory.
        """
        groups = self.group(sources)
        for group, ready in zip(groups, run_ahead(self.prepare, groups, 1), strict=True):
            yield from zip(group, self._encode_or_halve(group, ready), strict=True)

    def _encode_or_halve(self, group: Sequence[Source[Content]], ready: Prepared) -> list[Float32]:
        """The frames of a group; in halves where memory is short."""
        where = f"{self._name}, clip {group[0].filename}"
        try:
            with memory_errors():
                return self.encode(ready)
        except EmiError:
            raise
        except torch.OutOfMemoryError as error:
            if len(group) == 1:
                step = "use a smaller --batch, --device cpu, or a device with more memory"
                problem = Problem(where, "does not fit the device's memory", next_step=step)
                raise WeightsError(problem) from error
        except Exception as error:  # whatever a model raises of input that it was not made for
            found = f"does not run: {type(error).__name__}: {shorten_error(error)}"
            raise WeightsError(Problem(where, found, "an encoder of what --kind says")) from error
        empty_memory(self._settings.device)
        middle = len(group) // 2
        return [
            frames
            for half in (group[:middle], group[middle:])
            for frames in self._encode_or_halve(half, self.prepare(half))
        ]

    def _run(self, **inputs: Tensor) -> Any:
        """What the model gives for inputs of any device."""
        settings = self._settings
        with torch.inference_mode(), autocast(settings.precision, settings.device):
            return self._model(
                **{name: value.to(settings.device) for name, value in inputs.items()},
                output_hidden_states=settings.layer is not None,
            )

    def _states(self, output: Any) -> Tensor:
        """The hidden states that are asked for, of what the model gave."""
        layer = self._settings.layer
        states: Tensor = output.last_hidden_state if layer is None else output.hidden_states[layer]
        return states


def cut(sources: Sequence[Source[Content]], size: int) -> list[list[Source[Content]]]:
    """`sources` in groups of at most `size`, those of like size together, the largest first."""
    ordered = sorted(sources, key=lambda source: (-source.size, source.filename))
    return [list(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def check_frames(source: Source[Any], frames: Float32, precision: Precision) -> None:
    """Passes where the frames of a source are such.

    Raises:
        FeatureError: they are empty, or not finite.
    """
    where = f"clip {source.filename}"
    if frames.ndim != 2 or not frames.size:
        shape = " x ".join(map(str, frames.shape))
        raise FeatureError(Problem(where, f"the encoder gives {shape} numbers", "frames x features"))
    if not np.isfinite(frames).all():
        step = "use --precision fp32" if precision != "fp32" else ""
        raise FeatureError(
            Problem(where, "the encoder gives numbers that are NaN or infinite", next_step=step)
        )


def pack_frames(frames: Float32) -> bytes:
    """The bytes of a .npy file: float32 (T, D)."""
    stream = BytesIO()
    np.save(stream, np.ascontiguousarray(frames, np.float32), allow_pickle=False)
    return stream.getvalue()
