"""The results of a report: scores, comparisons, the gain of ensembling, the clips with the largest errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, INTENSITY_RANGE, Split
from abaw_emi.core.errors import Problem, collect_errors
from abaw_emi.data.align import align
from abaw_emi.data.scope import find_scope
from abaw_emi.ensembling.combine import combine_members
from abaw_emi.evaluation.compare import Comparison, compare
from abaw_emi.evaluation.score import Score, score
from abaw_emi.report.clip_errors import GroupError, WorstClip, compare_groups, compute_errors, find_worst
from abaw_emi.report.ensembles import Gain, measure_gain
from abaw_emi.report.history import Durations
from abaw_emi.report.sources import Material
from abaw_emi.report.systems import PREFERRED, System
from abaw_emi.runs.kfold import FoldScore, find_fold_runs, score_folds

MOST_SYSTEMS = 8
"""Systems that are compared in pairs: 28 pairs of 4,588 clips take seconds, and fit into a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A scored system.

    Attributes:
        name: of the system.
        table: its predictions.
        score: on its split.
        origin: what it is, in a few words.
        complete: whether all clips that it was trained on are known.
        of_runs: whether runs of this package made it, alone or as an ensemble.
    """

    name: str
    table: pl.DataFrame
    score: Score
    origin: str
    complete: bool
    of_runs: bool


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
        clipped: the mean Pearson of `prediction`, clipped to [0, 1]; and the share of values that change.
        worst: the clips with the largest errors of the best system, the largest first.
        groups: the errors of the best system by group of clips.
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
    clipped: tuple[float, float] | None = None
    worst: tuple[WorstClip, ...] = ()
    groups: tuple[GroupError, ...] = ()
    folds: tuple[FoldScore, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def best(self) -> Standing | None:
        """The system with the highest score."""
        return self.standings[0] if self.standings else None


def compute_results(material: Material, durations: Durations | None = None) -> Results:
    """Scores and compares the systems on the first split of `PREFERRED` that any of them predicts."""
    warnings: list[Problem] = []
    folds = _score_folds(material, warnings)
    usable = [system for system in material.systems if not system.why_not]
    split = next((split for split in PREFERRED if any(system.split == split for system in usable)), None)
    if split is None:
        return Results(folds=folds, warnings=tuple(warnings))
    scored = {system.name: system for system in usable if system.split == split}
    labels, tables, notes = find_scope(material.labels[split], scored)
    warnings += notes
    systems = [replace(system, table=tables[name]) for name, system in scored.items()]
    standings = _rank(labels, systems)
    clips = labels[FILENAME].to_list()
    truth, prediction = align(labels, standings[0].table)
    inside = prediction.clip(*INTENSITY_RANGE)
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
        gain=measure_gain(labels, members) if len(members) > 1 else None,
        clipped=(standings[0].score.clipped_mean_pearson, float((inside != prediction).mean())),
        worst=find_worst(clips, truth, prediction, material.files),
        groups=compare_groups(clips, compute_errors(truth, prediction), material, durations),
        folds=folds,
        warnings=tuple(warnings),
    )


def _rank(labels: pl.DataFrame, systems: Sequence[System]) -> tuple[Standing, ...]:
    """The systems, and the mean of all runs unless one of them is the same, the best first."""
    standings = [_score(labels, system.name, system.table, _describe(system), [system]) for system in systems]
    runs = [system for system in systems if system.run is not None]
    if len(runs) > 1:
        together = combine_members({system.name: system.table for system in runs})
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
        of_runs=any(source.run is not None or (source.record and source.record.runs()) for source in sources),
    )


def _describe(system: System) -> str:
    if system.run is not None:
        return "a run"
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
        with collect_errors(warnings):
            found, problems = find_fold_runs(parent, preset)
            fold_score, more = score_folds([run for run in found if run.folder in folders], pl.concat(labels))
            warnings += [*problems, *more]
            scores += [fold_score] if fold_score else []
    return tuple(scores)
