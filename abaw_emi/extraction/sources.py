"""What an encoder is given of each clip, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from abaw_emi.core.errors import Problem

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
