"""Clips that are the same recording: to the sample, or by their prints (`fingerprint`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abaw_emi.audit.files import Splits
from abaw_emi.audit.finding import make_finding
from abaw_emi.audit.fingerprint import Print, find_matches
from abaw_emi.audit.sound import HeardClip
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import Diagnostic

_SAME_LABELS = 1e-6


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips of one recording; `different` is the share of their prints' bits that differ."""

    first: str
    second: str
    exact: bool
    different: float = 0.0


def find_pairs(clips: Iterable[HeardClip], prints: Mapping[str, Print]) -> list[Pair]:
    """Pairs of clips that sound the same, silent ones left out.

    Of n equal clips the first is paired with each of the others; it alone is compared with what is not equal.
    """
    groups: dict[str, list[str]] = {}
    for clip in clips:
        if clip.facts is not None and not clip.facts.silent:
            groups.setdefault(clip.facts.samples_hash, []).append(clip.filename)
    exact = [
        Pair(members[0], other, exact=True)
        for members in map(sorted, groups.values())
        for other in members[1:]
    ]
    firsts = {min(members) for members in groups.values()}
    near = find_matches({clip: rows for clip, rows in prints.items() if clip in firsts})
    found = [*exact, *(Pair(m.first, m.second, exact=False, different=m.different) for m in near)]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def check_duplicates(
    pairs: Sequence[Pair], splits: Splits, labels: Mapping[str, npt.NDArray[np.float64]]
) -> Iterator[Diagnostic]:
    """Findings on pairs: between splits, within a split, and of different labels.

    Args:
        pairs: as `find_pairs` finds them.
        splits: which clip belongs where.
        labels: (6,) of each clip that has them.
    """
    home = splits.find()

    def describe(pair: Pair) -> str:
        how = "the same samples" if pair.exact else f"encoded again, {pair.different:.0%} of the print differ"
        return (
            f"{pair.first} ({home.get(pair.first, 'no split')}) and {pair.second} "
            f"({home.get(pair.second, 'no split')}): {how}"
        )

    def count(chosen: Sequence[Pair]) -> str:
        exact = sum(pair.exact for pair in chosen)
        return f"{len(chosen):,} pairs of clips ({exact:,} to the sample)"

    between: dict[tuple[Split, Split], list[Pair]] = {}
    within: list[Pair] = []
    for pair in pairs:
        first, second = home.get(pair.first), home.get(pair.second)
        if first is not None and second is not None and first != second:
            between.setdefault((min(first, second, key=_rank), max(first, second, key=_rank)), []).append(
                pair
            )
        elif first is not None and first == second:
            within.append(pair)
    for (one, other), chosen in between.items():
        yield make_finding(
            "duplicates across splits",
            "warning",
            f"{count(chosen)} are one recording in {one} and in {other}",
            f"these clips leak from {one} into {other}: scores on {other} are inflated",
            f"leave them out of a copy of {one}_split.csv to see what the score is without them",
            splits=[one, other],
            ids=_ids(chosen),
            count=len(chosen),
            examples=map(describe, chosen),
        )
    if within:
        yield make_finding(
            "duplicates within a split",
            "note",
            f"{count(within)} are one recording within a split",
            "they count twice in training, or in the score",
            splits=splits.holding(_ids(within)),
            ids=_ids(within),
            count=len(within),
            examples=map(describe, within),
        )
    if unlike := [pair for pair in pairs if _differ(labels.get(pair.first), labels.get(pair.second))]:
        yield make_finding(
            "duplicates of different labels",
            "warning",
            f"{count(unlike)} are one recording with different labels",
            "one of them may hold another clip's sound; how far they differ is also how noisy labels are",
            "compare the sound with the videos",
            splits=splits.holding(_ids(unlike)),
            ids=_ids(unlike),
            count=len(unlike),
            examples=map(describe, unlike),
        )


def _rank(split: Split) -> int:
    return ("train", "valid", "test").index(split)


def _ids(pairs: Iterable[Pair]) -> set[str]:
    return {clip for pair in pairs for clip in (pair.first, pair.second)}


def _differ(first: npt.NDArray[np.float64] | None, second: npt.NDArray[np.float64] | None) -> bool:
    return first is not None and second is not None and bool((np.abs(first - second) > _SAME_LABELS).any())
