"""Which clips one of several processes works on, when they share a job: on several GPUs or machines."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from abaw_emi.core.errors import Problem, UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """The `number`-th, from 1, of `count` shares of about the same size.

    >>> Shard(2, 3).take([1, 2, 3, 4, 5])
    [2, 5]
    """

    number: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str | None) -> Self:
        """The shard that "k/K" names; without a text, that of this process among those of `torchrun`.

        Raises:
            UsageError: the text names none.
        """
        if text is None:
            return cls(int(os.environ.get("RANK", "0")) + 1, int(os.environ.get("WORLD_SIZE", "1")))
        parts = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
        if parts is None or int(parts[1]) > int(parts[2]):
            raise UsageError(Problem("--shard", repr(text), "k/K with k from 1 to K, such as 2/4"))
        return cls(int(parts[1]), int(parts[2]))

    @property
    def is_whole(self) -> bool:
        """Whether there are no other shares."""
        return self.count == 1

    def take(self, items: Sequence[T]) -> Sequence[T]:
        """Its items; every item belongs to one shard."""
        return items[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
