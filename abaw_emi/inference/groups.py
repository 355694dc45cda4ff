"""One run's predictions in groups of clips, each kept in the cache as soon as it is made.

So a command that was stopped goes on where it was, and several processes share a run's clips: each makes some
of the groups, and whoever reads all of them writes the CSV. The groups are the same for all of them, since a
clip's last bits may depend on which group it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import polars as pl

from abaw_emi.batching.examples import Example
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import FILENAME
from abaw_emi.core.hashing import sha256
from abaw_emi.data.shard import Shard
from abaw_emi.inference.engine import plan_groups
from abaw_emi.inference.frozen_encoder import SharedParts, identify_clip
from abaw_emi.inference.predict import check_finite, make_table
from abaw_emi.inference.workers import run_groups
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel


class GroupedPredictions:
    """The predictions of a run for some clips, as far as they are made.

    Args:
        cache: where they are kept.
        origin: all that they follow from, less the clips.
        examples: the clips.
        runtime: what the model runs with.

    Attributes:
        total: how many clips there are.
    """

    def __init__(self, cache: Cache, origin: str, examples: Sequence[Example], runtime: Runtime) -> None:
        self.total = len(examples)
        self._cache = cache
        self._runtime = runtime
        places = plan_groups(examples, runtime.device)
        self._groups = [[examples[place] for place in group] for group in places]
        self._keys = [f"{origin}:{_hash_group(group)}" for group in self._groups]
        self._made: dict[int, Float32] = {}
        """(n, 6) of each group, by its number."""

    def find_missing(self, shard: Shard) -> list[int]:
        """The numbers of the groups of this share that are still to be made; reads what is kept of all."""
        for number, key in enumerate(self._keys):
            if number not in self._made and (kept := self._cache.get(key)) is not None:
                self._made[number] = kept[0]
        return [number for number in shard.take(range(len(self._groups))) if number not in self._made]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def count(self, numbers: Sequence[int]) -> int:
        """The clips of these groups."""
        return sum(len(self._groups[number]) for number in numbers)

    @property
    def done(self) -> int:
        """How many clips are predicted, as far as is known."""
        return self.count(list(self._made))

    def make(self, numbers: Sequence[int], model: EmiModel, name: str, shared: SharedParts) -> bool:
        """Predicts the groups of these numbers; False if one of them could not be kept.

        Args:
            numbers: of groups.
            model: of the run.
            name: of the run.
            shared: what it has in common with others.

        Raises:
            TrainingError: predictions are not finite, and are not kept; their clips are named.
        """
        groups = [self._groups[number] for number in numbers]
        each = iter(shared.encode(model, name, [example for group in groups for example in group]))
        groups = [[next(each) for _ in group] for group in groups]
        kept = True
        with closing(run_groups(model, "intensities", groups, self._runtime, name)) as results:
            for number, rows in zip(numbers, results, strict=True):
                values = self._made[number] = np.stack(rows)
                if np.isfinite(values).all():
                    kept = self._cache.keep(self._keys[number], values) is not None and kept
        filenames = [example.filename for group in groups for example in group]
        check_finite(filenames, np.concatenate([self._made[number] for number in numbers]))
        return kept

    def table(self) -> pl.DataFrame:
        """The predictions of all clips, sorted by id, once none is missing."""
        filenames = [example.filename for group in self._groups for example in group]
        values = np.concatenate([self._made[number] for number in range(len(self._groups))])
        return make_table(filenames, values).sort(FILENAME)


def _hash_group(group: Sequence[Example]) -> str:
    return sha256("\n".join(f"{each.filename}:{_identify(each)}" for each in group).encode())


def _identify(example: Example) -> str:
    """What distinguishes one example's samples and features from another's."""
    audio = "" if example.audio is None else identify_clip(example.audio)
    return f"{audio}:{example.features_hash}" if example.features_hash else audio
