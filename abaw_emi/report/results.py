"""The results of a report: scores, comparisons, the gain of ensembling, the clips with the largest errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, VERSION, Split
from abaw_emi.core.errors import Problem, gather
from abaw_emi.data.align import align
from abaw_emi.ensembling.combine import ensemble
from abaw_emi.evaluation.bootstrap import DEFAULT_SEED
from abaw_emi.evaluation.compare import Comparison, compare
from abaw_emi.evaluation.pearson import mean_pearson
from abaw_emi.evaluation.score import Score, score
from abaw_emi.report.sources import PREFERRED, Material, System
from abaw_emi.runs.kfold import FoldScore, find_fold_runs, score_folds

MOST_SYSTEMS = 8
"""Systems that are compared in pairs: 28 pairs of 4,588 clips take seconds, and fit into a figure."""

MOST_SUBSETS = 200
"""Subsets of members of each size; where there are more, so many are drawn at random."""

WORST = 20
"""Clips that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A scored system.

    Attributes:
        name: of the system.
        table: its predictions.
        score: on its split.
        origin: what it is, in a few words.
        complete: whether all clips that it was trained on are known.
    """

    name: str
    table: pl.DataFrame
    score: Score
    origin: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Scores of the unweighted mean of k members, for every k.

    Attributes:
        members: their names.
        scores: by k, (S_k,) of the subsets of that size.
        exhaustive: whether every subset was scored.
        signature: the settings that reproduce the numbers.
    """

    members: tuple[str, ...]
    scores: dict[int, Array]
    exhaustive: bool
    signature: str


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
class Results:
    """Everything that a report shows of the systems.

    Attributes:
        split: the split that they are scored on; None without scored systems.
        standings: the scored systems, the best first.
        truth: (N, 6) labels of the split, None without scored systems.
        prediction: (N, 6) of the best system, the same rows.
        comparison: of the best systems, None with fewer than two.
        left_out: how many systems are not in the comparison.
        gain: None with fewer than two members.
        worst: the clips with the largest errors of the best system, the largest first.
        folds: scores of K-fold runs.
        warnings: what a reader must know.
    """

    split: Split | None = None
    standings: tuple[Standing, ...] = ()
    truth: Array | None = None
    prediction: Array | None = None
    comparison: Comparison | None = None
    left_out: int = 0
    gain: Gain | None = None
    worst: tuple[WorstClip, ...] = ()
    folds: tuple[FoldScore, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def best(self) -> Standing | None:
        """The system with the highest score."""
        return self.standings[0] if self.standings else None


def compute_results(material: Material) -> Results:
    """Scores and compares the systems on the first split of `PREFERRED` that any of them predicts."""
    warnings: list[Problem] = []
    folds = _score_folds(material, warnings)
    usable = [system for system in material.systems if not system.why_not]
    split = next((split for split in PREFERRED if any(system.split == split for system in usable)), None)
    if split is None:
        return Results(folds=folds, warnings=tuple(warnings))
    systems = [system for system in usable if system.split == split]
    labels = material.labels[split]
    standings = _rank(labels, systems)
    truth, prediction = align(labels, standings[0].table)
    compared = {standing.name: standing.table for standing in standings[:MOST_SYSTEMS]}
    runs = [system for system in systems if system.run is not None]
    members = runs if len(runs) > 1 else systems
    return Results(
        split=split,
        standings=standings,
        truth=truth,
        prediction=prediction,
        comparison=compare(labels, compared) if len(compared) > 1 else None,
        left_out=max(0, len(standings) - MOST_SYSTEMS),
        gain=_measure_gain(labels, members) if len(members) > 1 else None,
        worst=_find_worst(material, labels, truth, prediction),
        folds=folds,
        warnings=tuple(warnings),
    )


def _rank(labels: pl.DataFrame, systems: Sequence[System]) -> tuple[Standing, ...]:
    """The systems, and the mean of all runs unless one of them is the same, the best first."""
    standings = [_score(labels, system.name, system.table, _describe(system), [system]) for system in systems]
    runs = [system for system in systems if system.run is not None]
    if len(runs) > 1:
        together = ensemble({system.name: system.table for system in runs})
        if not any(_same(together, system.table) for system in systems):
            origin = "computed here from all runs of this page"
            standings.append(_score(labels, f"mean of {len(runs)} runs", together, origin, runs))
    return tuple(sorted(standings, key=lambda standing: -standing.score.mean_pearson))


def _score(
    labels: pl.DataFrame, name: str, table: pl.DataFrame, origin: str, sources: Sequence[System]
) -> Standing:
    precisions = {p for source in sources if source.record for p in source.record.precisions()}
    return Standing(
        name=name,
        table=table,
        score=score(labels, table, precisions=sorted(precisions), names=("labels", name)),
        origin=origin,
        complete=all(source.complete for source in sources),
    )


def _describe(system: System) -> str:
    if system.run is not None:
        return "a run; its epoch was selected on these clips"
    if system.record is None:
        return "a file of unknown origin"
    count = len(system.record.runs())
    return f"by {system.record.command}" + (f", from {count} run{'s' if count > 1 else ''}" if count else "")


def _same(first: pl.DataFrame, second: pl.DataFrame) -> bool:
    """Whether they are the same predictions, up to the precision of float32."""
    a, b = (table.sort(FILENAME).select(EMOTIONS).to_numpy() for table in (first, second))
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-7))


def _score_folds(material: Material, warnings: list[Problem]) -> tuple[FoldScore, ...]:
    """The score of every preset that has K-fold runs among the runs given."""
    curves = [curve for curve in material.curves if curve.record.get("fold")]
    labels = list(material.labels.values())
    if not labels:
        return ()
    folders = {curve.run.folder for curve in curves}
    scores = []
    for parent, preset in sorted(
        {(curve.run.folder.parent, str(curve.record.get("preset"))) for curve in curves}
    ):
        with gather(warnings):
            found, problems = find_fold_runs(parent, preset)
            fold_score, more = score_folds([run for run in found if run.folder in folders], pl.concat(labels))
            warnings += [*problems, *more]
            scores += [fold_score] if fold_score else []
    return tuple(scores)


def _measure_gain(labels: pl.DataFrame, members: Sequence[System]) -> Gain:
    truth = labels.select(EMOTIONS).to_numpy()
    stacked = np.stack([align(labels, member.table)[1] for member in members])  # (M, N, 6)
    rng = np.random.default_rng(DEFAULT_SEED)
    scores: dict[int, Array] = {}
    exhaustive = True
    for size in range(1, len(members) + 1):
        if math.comb(len(members), size) <= MOST_SUBSETS:
            subsets = [list(chosen) for chosen in combinations(range(len(members)), size)]
        else:
            exhaustive = False
            subsets = [rng.choice(len(members), size, replace=False).tolist() for _ in range(MOST_SUBSETS)]
        scores[size] = np.array([mean_pearson(truth, stacked[chosen].mean(axis=0)) for chosen in subsets])
    drawn = "all" if exhaustive else f"{MOST_SUBSETS},seed:{DEFAULT_SEED}"
    return Gain(
        members=tuple(member.name for member in members),
        scores=scores,
        exhaustive=exhaustive,
        signature=f"mean_pearson|n:{len(truth)}|of:mean|members:{len(members)}|subsets:{drawn}|abaw_emi:{VERSION}",
    )


def _find_worst(
    material: Material, labels: pl.DataFrame, truth: Array, prediction: Array
) -> tuple[WorstClip, ...]:
    error = np.sqrt(((truth - prediction) ** 2).mean(axis=1))
    clips = labels[FILENAME].to_list()
    worst = []
    for row in np.argsort(-error, kind="stable")[:WORST]:
        own = material.files.get(clips[row])
        worst.append(
            WorstClip(
                filename=clips[row],
                error=float(error[row]),
                truth=truth[row],
                prediction=prediction[row],
                audio=own.audio if own else None,
                video=own.video if own else None,
            )
        )
    return tuple(worst)
