"""Errors of a system, clip by clip: the largest, and the errors of groups of clips.

The error of a clip is the root mean squared difference between prediction and label over the six emotions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import MAX_SECONDS
from abaw_emi.core.ids import unpack_ids
from abaw_emi.data.layout import ClipFiles
from abaw_emi.report.history import Durations
from abaw_emi.report.sources import Material

WORST = 20
"""Clips that are listed."""

FEWEST = 5
"""Clips of a group, and outside of it; the mean of fewer says little."""

_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, MAX_SECONDS, float("inf"))
"""Of groups by duration, in s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstClip:
    """A clip with a large error.

    Attributes:
        filename: its id.
        error: root mean squared difference over the six emotions.
        truth: (6,).
        prediction: (6,).
        audio: its audio file, None where it has none.
        video: its video file, None where it has none.
    """

    filename: str
    error: float
    truth: Array
    prediction: Array
    audio: Path | None
    video: Path | None

    @property
    def furthest(self) -> int:
        """Place, in `EMOTIONS`, of the emotion with the largest difference."""
        return int(np.abs(self.truth - self.prediction).argmax())


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupError:
    """The errors of a group of clips.

    Attributes:
        group: which clips.
        kind: what groups them: "duration", "missing input" or "finding of the audit".
        n: how many clips.
        error: their mean error.
        difference: that, minus the mean error of the other clips.
        interval: 95% interval of the difference (Welch's t).
    """

    group: str
    kind: str
    n: int
    error: float
    difference: float
    interval: tuple[float, float]


def compute_errors(truth: Array, prediction: Array) -> Array:
    """(N,): the error of each clip, from labels and predictions (N, 6)."""
    return np.asarray(np.sqrt(((truth - prediction) ** 2).mean(axis=1)))


def find_worst(
    clips: Sequence[str], truth: Array, prediction: Array, files: Mapping[str, ClipFiles]
) -> tuple[WorstClip, ...]:
    """The clips with the largest errors, the largest first."""
    errors = compute_errors(truth, prediction)
    worst = []
    for row in np.argsort(-errors, kind="stable")[:WORST]:
        own = files.get(clips[row])
        worst.append(
            WorstClip(
                filename=clips[row],
                error=float(errors[row]),
                truth=truth[row],
                prediction=prediction[row],
                audio=own.audio if own else None,
                video=own.video if own else None,
            )
        )
    return tuple(worst)


def compare_groups(
    clips: Sequence[str], errors: Array, material: Material, durations: Durations | None
) -> tuple[GroupError, ...]:
    """The errors of clips by duration, by missing input, and by finding of the audit."""
    groups: list[tuple[str, str, Collection[str]]] = []
    if durations is not None:
        for low, high in pairwise(_EDGES):
            name = f"over {low:g} s" if high == float("inf") else f"{low:g} to {high:g} s"
            inside = {clip for clip, seconds in durations.by_clip.items() if low < seconds <= high}
            groups.append(("duration", name, inside))
    missing: dict[str, set[str]] = {}
    for curve in material.curves:
        for modality, ids in (curve.record.get("missing") or {}).items():
            missing.setdefault(modality, set()).update(unpack_ids(ids))
    groups += [("missing input", f"without {modality}", ids) for modality, ids in missing.items()]
    for finding in material.audit.findings if material.audit else ():
        groups.append(("finding of the audit", finding.code, unpack_ids(finding.ids)))
    found = [_compare(clips, errors, *group) for group in _join(groups)]
    return tuple(group for group in found if group is not None)


def _join(groups: Sequence[tuple[str, str, Collection[str]]]) -> list[tuple[str, str, set[str]]]:
    """Groups of one name as one: the audit has a finding for each split."""
    joined: dict[tuple[str, str], set[str]] = {}
    for kind, name, ids in groups:
        joined.setdefault((kind, name), set()).update(ids)
    return [(kind, name, ids) for (kind, name), ids in joined.items()]


def _compare(
    clips: Sequence[str], errors: Array, kind: str, name: str, ids: Collection[str]
) -> GroupError | None:
    """None where there are too few clips in the group, or outside of it."""
    inside = np.array([clip in ids for clip in clips])
    own, others = errors[inside], errors[~inside]
    if min(len(own), len(others)) < FEWEST:
        return None
    bounds = stats.ttest_ind(own, others, equal_var=False).confidence_interval(0.95)
    return GroupError(
        group=name,
        kind=kind,
        n=len(own),
        error=float(own.mean()),
        difference=float(own.mean() - others.mean()),
        interval=(float(bounds.low), float(bounds.high)),
    )
