"""Sources to frames, group by group, with an encoder of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from abaw_emi.core.constants import Precision
from abaw_emi.core.errors import EmiError, FeatureError, Problem, WeightsError
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.models.hub import Pretrained, shorten_error


def encode_all(
    model: FrameEncoder[Any, Any], pretrained: Pretrained, sources: Sequence[Source[Any]]
) -> Iterator[tuple[Source[Any], Float32]]:
    """Each source with its frames; pre-processed in a thread while those before are encoded."""
    groups = model.group(sources)
    for group, ready in zip(groups, run_ahead(model.prepare, groups, 1), strict=True):
        yield from zip(group, _encode(model, pretrained, group, ready), strict=True)


def _encode(
    model: FrameEncoder[Any, Any], pretrained: Pretrained, group: Sequence[Source[Any]], ready: Any
) -> list[Float32]:
    """The frames of a group; in halves where memory is short.

    Raises:
        WeightsError: the encoder does not run, or a single clip does not fit the memory.
    """
    where = ", ".join([pretrained.name, *(f"clip {source.filename}" for source in group[:1])])
    try:
        return model.encode(ready)
    except EmiError:
        raise
    except torch.OutOfMemoryError as error:
        if len(group) == 1:
            step = "use a smaller --batch, --device cpu, or a device with more memory"
            raise WeightsError(Problem(where, "does not fit the device's memory", next_step=step)) from error
    except Exception as error:  # whatever a model raises of input that it was not made for
        found = f"does not run: {type(error).__name__}: {shorten_error(error)}"
        raise WeightsError(Problem(where, found, "an encoder of what --kind says")) from error
    torch.cuda.empty_cache()  # outside the handler: the traceback holds on to what filled the memory
    middle = len(group) // 2
    return [
        frames
        for half in (group[:middle], group[middle:])
        for frames in _encode(model, pretrained, half, model.prepare(half))
    ]


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


Float32 = npt.NDArray[np.float32]

IsDone = Callable[[str, str], bool]
"""Whether the clip of this id, made of a source of this hash, is done already."""

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


class FrameEncoder(Protocol[Content, Prepared]):
    """An encoder of one kind, on its device.

    `prepare` runs in a thread while `encode` of the group before does.
    """

    def group(self, sources: Sequence[Source[Content]]) -> list[list[Source[Content]]]:
        """The sources in the groups that are encoded side by side, each once."""
        ...

    def prepare(self, sources: Sequence[Source[Content]]) -> Prepared:
        """A group, pre-processed."""
        ...

    def encode(self, prepared: Prepared) -> list[Float32]:
        """The frames (T, D) of each source of the group."""
        ...


def cut(sources: Sequence[Source[Content]], size: int) -> list[list[Source[Content]]]:
    """`sources` in groups of at most `size`, those of like size together, the largest first."""
    ordered = sorted(sources, key=lambda source: (-source.size, source.filename))
    return [list(ordered[start : start + size]) for start in range(0, len(ordered), size)]
