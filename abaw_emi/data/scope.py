"""Which labelled clips predictions are scored on: all, less those that their records account for.

A provenance record may say that clips were left out because they cannot be read, or that one fold of a split
is predicted. The labels of such clips are left out of a score, and it is said. Whatever else predictions lack
stays missing, for `align.compare_ids` to name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import polars as pl

from abaw_emi.core.constants import FILENAME
from abaw_emi.core.errors import Problem
from abaw_emi.data.align import list_ids
from abaw_emi.data.folds import hold_out, parse_held_out
from abaw_emi.data.provenance import Provenance


class Predicted(Protocol):
    """Predictions and the record of where they come from, such as a `provenance.PredictionFile`."""

    @property
    def table(self) -> pl.DataFrame:
        """The predictions."""

    @property
    def record(self) -> Provenance | None:
        """None where there is none."""


class Scope(NamedTuple):
    """What is scored.

    Attributes:
        truth: the labels of the clips that are scored.
        tables: the predictions without the clips whose labels were left out, by name.
        notes: which labels were left out, and why.
    """

    truth: pl.DataFrame
    tables: dict[str, pl.DataFrame]
    notes: list[Problem]


def find_scope(truth: pl.DataFrame, systems: Mapping[str, Predicted]) -> Scope:
    """The labels and predictions without the clips that the record of any system accounts for.

    Args:
        truth: labels; of all clips of a split, where a system predicts a fold of it.
        systems: predictions, by the names that messages call them. What one could not read is left out of the
            others, too: all are scored on the same clips.
    """
    clips = truth[FILENAME].to_list()
    left_out: set[str] = set()
    skips: dict[tuple[str, ...], list[str]] = {}
    notes: list[Problem] = []
    for name, system in systems.items():
        skipped = find_skipped(clips, system)
        if others := _find_other_folds(clips, system, skipped):
            assert system.record is not None
            found = f"scored on {system.record.split}, {len(clips) - len(others):,} of {len(clips):,} clips"
            notes.append(Problem(name, f"{found}: optimistic, since folds share speakers"))
        if own := tuple(sorted(skipped - others)):
            skips.setdefault(own, []).append(name)
        left_out |= skipped | others
    kept = truth.filter(~pl.col(FILENAME).is_in(list(left_out)))
    if not len(kept):  # of different folds: nothing accounts for what they have not in common
        return Scope(truth, {name: system.table for name, system in systems.items()}, [])
    of_all = "" if len(systems) == 1 else ", for all systems"
    for ids, (first, *more) in skips.items():
        where = f"{first} and {len(more)} more" if more else first
        notes.append(Problem(where, list_ids(ids, f"left out as unreadable{of_all}")))
    gone = pl.col(FILENAME).is_in(list(left_out))
    return Scope(kept, {name: system.table.filter(~gone) for name, system in systems.items()}, notes)


def find_skipped(clips: Iterable[str], system: Predicted) -> set[str]:
    """The clips that are not predicted because, by the record, they cannot be read."""
    skipped = system.record.skipped if system.record else ()
    return set(clips).intersection(skipped).difference(system.table[FILENAME])


def _find_other_folds(clips: list[str], system: Predicted, skipped: set[str]) -> set[str]:
    """The clips outside of the fold that, by the record, is predicted; none unless all of that is."""
    _, fold = parse_held_out(system.record.split if system.record else "")
    predicted = skipped.union(system.table[FILENAME])
    if not fold or predicted.issuperset(clips):
        return set()
    part = hold_out(clips, fold)
    return set(clips) - part if part <= predicted else set()
