"""The runs of a sweep, each a `train` command of its own, and how far each is. Imports no torch.

The run folders are the queue: what is done, and what another process or machine holds, is seen there.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abaw_emi.config.presets import find_preset
from abaw_emi.config.read import change_config, replace_values
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, RunError, UsageError, collect_errors
from abaw_emi.runs.lock import find_holder
from abaw_emi.runs.resume import check_config, name_run
from abaw_emi.runs.run import Run
from abaw_emi.runs.summary import Summary, summarise_run

State = Literal["waiting", "failed", "stopped", "in use", "finished"]
"""waiting: not begun. failed: before it began, and to be tried again. stopped: begun, and to be continued. in
use: another process trains it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to train.

    Attributes:
        run: its folder.
        options: of `abaw-emi train`.
    """

    run: Run
    options: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The words that a person types."""
        return ["abaw-emi", "train", *self.options]

    @property
    def words(self) -> list[str]:
        """The words that start it with this Python."""
        return [sys.executable, "-m", "abaw_emi", "train", *self.options]

    def look(self) -> tuple[State, str]:
        """The state of the run, and what a person wants to know of it.

        Raises:
            RunError: its record is damaged.
        """
        if holder := find_holder(self.run):
            return "in use", f"by {holder}{_progress(self.summarise())}"
        found = self.summarise()
        if found is None:
            early = self.run.failed_early
            return ("failed", f"before it began, see {self.run.log_file}") if early else ("waiting", "")
        if found.finished:
            valid = "" if found.mean_pearson is None else f", valid {found.mean_pearson:.4f}"
            return "finished", f"epoch {found.best_epoch}{valid}"
        return "stopped", _progress(found).removeprefix(", ")

    def summarise(self) -> Summary | None:
        """What its folder holds; None if it was not begun."""
        return summarise_run(self.run) if self.run.config_file.is_file() else None


def _progress(found: Summary | None) -> str:
    if found is None:
        return ""
    valid = "" if found.mean_pearson is None else f", best valid {found.mean_pearson:.4f}"
    return f", epoch {found.epochs} of {found.of}{valid}"


def list_jobs(
    presets: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    out: Path,
    *,
    folds: int = 0,
    train_plus_val: bool = False,
    common: Sequence[str] = (),
) -> list[Job]:
    """The runs of presets x folds x seeds, all of a first seed before those of the next.

    Args:
        presets: the changes (`--set`) of each.
        seeds: one run of each preset and fold for each.
        out: the folder of run folders.
        folds: into how many parts the training clips are cut; 0 for the official valid.
        train_plus_val: whether valid is trained on too.
        common: options of `train` that all have.

    Raises:
        UsageError: a single fold.
        RunError: runs that are there were trained with other options; names all of them.
    """
    if folds == 1 or folds < 0:
        raise UsageError(Problem(f"--folds {folds}", "no part would be left to train on", "2 or more"))
    jobs = []
    problems: list[Problem] = []
    for seed in dict.fromkeys(seeds):
        for preset, changes in presets.items():
            for fold in [f"{part}/{folds}" for part in range(1, folds + 1)] or [""]:
                name = name_run(preset, train_plus_val=train_plus_val, fold=fold, seed=seed)
                options = ["--preset", preset, "--seeds", str(seed), "--runs", str(out), "--resume"]
                options += ["--train-plus-val"] * train_plus_val
                options += ["--fold", fold] if fold else []
                options += ["--set", *changes] if changes else []
                jobs.append(job := Job(run=Run(out / name), options=(*options, *common)))
                config = change_config(find_preset(preset), changes)
                with collect_errors(problems):
                    problems += _compare(job, config, fold=fold, seed=seed)
    if problems:
        raise RunError(problems)
    return jobs


def _compare(job: Job, config: RunConfig, *, fold: str, seed: int) -> list[Problem]:
    """That the run is there and has other options than this job's; [] where it has not, or is not there."""
    if not job.run.config_file.is_file():
        return []
    again = [word for word in job.command if word != "--resume"]
    step = f"move it away, or train it again: {shlex.join([*again, '--overwrite'])}"
    asked = {"data.fold": fold or None, "training.seed": seed}
    return check_config(job.run, replace_values(config, asked, job.run.name), step)
