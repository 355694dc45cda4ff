"""What stands for the score of a run that was trained on every labelled clip: K-fold runs of its preset.

A run on train+val has no clips left to be scored on. Runs on K - 1 of K parts of the same clips, each scored
on the part that it has not seen, show how the preset does; they are other models, trained on less. Speaker
ids are not delivered, so a part shares its speakers with the others: the score is optimistic beside one on
the official splits, whose speakers differ (PAPER, section 3), and early stopping chose its epoch on that
very part.

Read from run folders as `abaw-emi train --fold k/K` leaves them, without torch: `provenance.json` (preset,
seed, fold "k/K", train_plus_val, finished) and `valid_predictions.csv` (of the part held out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, Split
from abaw_emi.core.errors import Problem, RunError, ScoreError, TableError, collect_errors
from abaw_emi.data.align import align
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import parse_fold
from abaw_emi.data.provenance import Provenance
from abaw_emi.data.tables import read_predictions
from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, interval, mean_first
from abaw_emi.evaluation.pearson import clipped_mean_pearson, pearson
from abaw_emi.evaluation.significance import STATISTICS
from abaw_emi.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRun(Run):
    """One run on all parts of the labelled clips but one.

    Attributes:
        preset: its name.
        train_plus_val: whether the parts are of train+val, or of train alone.
        fold: which part was held out, from 1 on.
        folds: how many parts there are.
        seed: of the run.
    """

    preset: str
    train_plus_val: bool
    fold: int
    folds: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScore:
    """The score of K-fold runs, each on the clips that it has not seen.

    Attributes:
        mean_pearson: mean over folds, by their clips, and over seeds.
        clipped_mean_pearson: the same of the predictions clipped to [0, 1].
        pearson: the same per emotion; an undefined r counts 0.
        interval: of these, from clips resampled within each fold; empty without resamples.
        n: clips, over all folds.
        folds: K.
        seeds: of the runs.
        train_plus_val: whether the parts are of train+val.
        preset: of the runs.
    """

    mean_pearson: float
    clipped_mean_pearson: float
    pearson: dict[str, float]
    interval: dict[str, tuple[float, float]]
    n: int
    folds: int
    seeds: tuple[int, ...]
    train_plus_val: bool
    preset: str

    @property
    def describe(self) -> str:
        """What the score is, and what it is not."""
        parts = "train+val" if self.train_plus_val else "train"
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        return (
            f"{self.folds}-fold runs of preset {self.preset} on {parts} ({seeds}), each on clips that it has "
            "not seen: of the recipe, not of this run; optimistic, since folds share speakers"
        )

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values."""
        return {**asdict(self), "seeds": list(self.seeds), "kind": self.describe}


def find_fold_runs(runs: Path, preset: str) -> tuple[list[FoldRun], list[Problem]]:
    """The finished K-fold runs of a preset in the folder `runs`, and a problem for each unusable one."""
    found: list[FoldRun] = []
    problems: list[Problem] = []
    for file in sorted(runs.glob("[!.]*/provenance.json")):
        run = Run(file.parent)
        try:
            record = run.read_provenance()
            if not record.get("fold") or record.get("preset") != preset:
                continue
            fold, folds = parse_fold(str(record["fold"]))
            trainval, seed = bool(record["train_plus_val"]), int(record["seed"])
        except (RunError, ValueError, KeyError, TypeError) as error:
            if "-fold" in run.name:  # what else lies there has no fold to be missed
                why = f"cannot be used ({type(error).__name__}: {error})"
                problems += error.problems if isinstance(error, RunError) else [Problem(str(file), why)]
            continue
        if record.get("finished") and run.valid_predictions.is_file():
            where = {"fold": fold, "folds": folds, "seed": seed}
            found.append(FoldRun(run.folder, preset=preset, train_plus_val=trainval, **where))
        else:
            missing = f"it has no {run.valid_predictions.name}"
            why = missing if record.get("finished") else "the run is not finished"
            problems.append(Problem(str(run.folder), why, next_step="its fold is not counted"))
    return found, problems


def find_fold_score(
    record: Provenance | None, runs: Path, data: DataFolder
) -> tuple[FoldScore | None, list[Problem]]:
    """The score of K-fold runs of the preset that predictions come from, None where there is none.

    Args:
        record: of the predictions. Runs of several presets have no common score.
        runs: the folder of runs.
        data: the data folder, for the labels of train and valid.
    """
    presets = {str(run["preset"]) for run in record.runs() if run.get("preset")} if record else set()
    if len(presets) != 1:
        return None, []
    found, problems = find_fold_runs(runs, presets.pop())
    score = None
    if found:
        with collect_errors(problems):
            both = any(run.train_plus_val for run in found)
            splits: tuple[Split, ...] = ("train", "valid") if both else ("train",)
            score, more = score_folds(found, data.read_labels(*splits))
            problems += more
    return score, problems


def score_folds(
    runs: Sequence[FoldRun], truth: pl.DataFrame, how: Resampling | None = None
) -> tuple[FoldScore | None, list[Problem]]:
    """The score of the most telling complete set of K-fold runs, None where no set is complete.

    Args:
        runs: of one preset (`find_fold_runs`). Sets on train+val come before sets on train, larger K before
            smaller; the seeds of a set are averaged.
        truth: the labels of every clip that a fold may hold.
        how: resampling, within each fold; clips are taken as independent.

    Raises:
        ScoreError: a run predicts clips without labels, or folds of one set share a clip.
        TableError: a run's predictions cannot be read.
    """
    how = how or Resampling()
    sets: dict[tuple[bool, int], dict[int, dict[int, FoldRun]]] = {}
    for run in runs:
        by_seed = sets.setdefault((run.train_plus_val, run.folds), {})
        by_seed.setdefault(run.seed, {})[run.fold] = run
    problems: list[Problem] = []
    for (train_plus_val, folds), by_seed in sorted(sets.items(), reverse=True):
        whole = {seed: of for seed, of in by_seed.items() if set(of) == set(range(1, folds + 1))}
        for seed in sorted(by_seed.keys() - whole.keys()):
            missing = ", ".join(str(k) for k in range(1, folds + 1) if k not in by_seed[seed])
            what = f"{folds}-fold runs of seed {seed} lack fold {missing}"
            problems.append(Problem(next(iter(by_seed[seed].values())).preset, what, "every fold"))
        if whole:
            chosen = [run for seed in sorted(whole) for _, run in sorted(whole[seed].items())]
            return _score(chosen, truth, train_plus_val, how), problems
    return None, problems


def _score(runs: Sequence[FoldRun], truth: pl.DataFrame, train_plus_val: bool, how: Resampling) -> FoldScore:
    estimates, clipped, draws, sizes = [], [], [], []
    held_out: dict[int, set[str]] = {}
    for run in runs:
        y, p, clips = _read(run, truth)
        shared = held_out.setdefault(run.seed, set()).intersection(clips)
        if shared:
            found = f"{len(shared):,} of its clips stand in another fold, too"
            raise ScoreError(Problem(str(run.folder), found, "folds without a common clip"))
        held_out[run.seed].update(clips)
        estimates.append(mean_first(np.nan_to_num(pearson(y, p))))
        clipped.append(clipped_mean_pearson(y, p))
        draws.append(mean_first(bootstrap(y, [p], how)[:, 0]))
        sizes.append(len(y))
    share = np.array(sizes) / sum(sizes)
    estimate = np.einsum("f,fs->s", share, np.stack(estimates))
    bounds: dict[str, tuple[float, float]] = {}
    if how.resamples:
        percentile = Resampling(resamples=how.resamples, seed=how.seed)
        spread = np.einsum("f,fbs->bs", share, np.stack(draws))
        low_high = interval(spread, estimate, percentile)
        bounds = {s: (float(a), float(b)) for s, (a, b) in zip(STATISTICS, low_high, strict=True)}
    return FoldScore(
        mean_pearson=float(estimate[0]),
        clipped_mean_pearson=float(share @ clipped),
        pearson=dict(zip(EMOTIONS, map(float, estimate[1:]), strict=True)),
        interval=bounds,
        n=max(len(clips) for clips in held_out.values()),
        folds=runs[0].folds,
        seeds=tuple(sorted(held_out)),
        train_plus_val=train_plus_val,
        preset=runs[0].preset,
    )


def _read(run: FoldRun, truth: pl.DataFrame) -> tuple[Array, Array, list[str]]:
    path = run.valid_predictions
    table = read_predictions(path)
    clips = table[FILENAME].to_list()
    own = truth.filter(pl.col(FILENAME).is_in(clips))
    if len(own) < len(clips):
        missing = len(clips) - len(own)
        raise TableError(Problem(str(path), f"{missing:,} clips without a label", "clips of train or valid"))
    y, p = align(own, table, ("labels", str(path)))
    return y, p, clips
