"""Clips that are the same recording: to the sample, or by their fingerprints (`fingerprint`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abaw_emi.audit.files import Splits
from abaw_emi.audit.finding import make_finding
from abaw_emi.audit.fingerprint import Fingerprint, find_matches
from abaw_emi.audit.sound import ProbedClip
from abaw_emi.core.constants import SPLITS, Split
from abaw_emi.core.errors import Diagnostic, Severity

_SAME_LABELS = 1e-6


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips of one recording; `different` is the share of their fingerprints' bits that differ."""

    first: str
    second: str
    exact: bool
    different: float = 0.0


def find_pairs(clips: Iterable[ProbedClip], fingerprints: Mapping[str, Fingerprint]) -> list[Pair]:
    """Pairs of clips that sound the same, silent ones left out.

    Of n equal clips the first is paired with each of the others; it alone is compared with what is not equal.
    """
    groups: dict[str, list[str]] = {}
    for clip in clips:
        if clip.sound is not None and not clip.sound.silent:
            groups.setdefault(clip.sound.samples_hash, []).append(clip.filename)
    exact = [
        Pair(members[0], other, exact=True)
        for members in map(sorted, groups.values())
        for other in members[1:]
    ]
    firsts = {min(members) for members in groups.values()}
    near = find_matches({clip: rows for clip, rows in fingerprints.items() if clip in firsts})
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
        first, second = (f"{clip} ({home.get(clip, 'no split')})" for clip in (pair.first, pair.second))
        return f"{first} and {second}: {how}"

    def find(
        code: str, severity: Severity, chosen: Sequence[Pair], where: str, means: str, step: str = ""
    ) -> Diagnostic:
        ids = {clip for pair in chosen for clip in (pair.first, pair.second)}
        count = f"{len(chosen):,} pairs of clips ({sum(pair.exact for pair in chosen):,} to the sample)"
        return make_finding(
            code,
            severity,
            f"{count} are one recording {where}",
            means,
            step,
            splits=splits.holding(ids),
            ids=ids,
            count=len(chosen),
            examples=map(describe, chosen),
        )

    shared: dict[tuple[Split, Split], list[Pair]] = {}
    for pair in pairs:
        first, second = home.get(pair.first), home.get(pair.second)
        if first is not None and second is not None:
            one, other = sorted((first, second), key=SPLITS.index)
            shared.setdefault((one, other), []).append(pair)
    for (one, other), chosen in shared.items():
        if one != other:
            where = f"in {one} and in {other}"
            means = f"these clips leak from {one} into {other}: scores on {other} are inflated"
            step = f"leave them out of a copy of {one}_split.csv to see what the score is without them"
            yield find("duplicates across splits", "warning", chosen, where, means, step)
    if within := [pair for (one, other), chosen in shared.items() if one == other for pair in chosen]:
        means = "they count twice in training, or in the score"
        yield find("duplicates within a split", "note", within, "within a split", means)
    if unlike := [pair for pair in pairs if _differ(labels.get(pair.first), labels.get(pair.second))]:
        means = "one of them may hold another clip's sound; how far they differ is also how noisy labels are"
        step = "compare the sound with the videos"
        yield find("duplicates of different labels", "warning", unlike, "with different labels", means, step)


def _differ(first: npt.NDArray[np.float64] | None, second: npt.NDArray[np.float64] | None) -> bool:
    return first is not None and second is not None and bool((np.abs(first - second) > _SAME_LABELS).any())
