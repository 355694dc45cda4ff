"""What `train` is asked for, and whether its run folders can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import OnBadClip, Precision
from abaw_emi.core.errors import Problem, RunError, UsageError, collect_errors
from abaw_emi.core.files import check_writable
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folds import name_held_out
from abaw_emi.models.device import Runtime
from abaw_emi.models.distributed import World
from abaw_emi.runs.resume import check_config, name_run
from abaw_emi.runs.run import Run, holds_messages_only, refuse_there

SAVE_MINUTES = 5.0
"""Time after which an unfinished epoch is saved."""

IfThere = Literal["refuse", "resume", "overwrite"]
"""What to do about a run folder that is already there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `train` was asked for.

    Attributes:
        config: the run; its seed is replaced by each of `seeds`.
        preset: its name, for the run folders.
        seeds: one run each.
        out: the folder of run folders.
        train_plus_val: whether valid is trained on too.
        limit: at most so many clips of each split, for trials.
        save_minutes: between two saves inside an epoch.
        epochs_from: the run whose best epoch the number of epochs was taken from, for the record.
    """

    config: RunConfig
    preset: str
    seeds: Sequence[int]
    out: Path
    train_plus_val: bool = False
    epochs_from: str = ""
    if_there: IfThere = "refuse"
    on_bad_clip: OnBadClip = "error"
    limit: int | None = None
    save_minutes: float = SAVE_MINUTES
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        training = self.config.training
        if self.train_plus_val and not self.config.data.fold and training.schedule == "plateau":
            raise UsageError(
                Problem(
                    f"{self.preset}, train+val",
                    'training.schedule "plateau" follows a validation, and nothing is held out',
                    next_step="--set training.schedule=cosine",
                )
            )

    def run_of(self, seed: int) -> Run:
        """The run of a seed."""
        fold = self.config.data.fold
        name = name_run(self.preset, train_plus_val=self.train_plus_val, fold=fold, seed=seed)
        return Run(self.out / name)

    def choose_runtime(self, reporter: Reporter, world: World | None = None) -> Runtime:
        """What the plan is run with; UsageError if there is no such device."""
        preset = self.config.training.precision
        return Runtime.choose(self.device, self.precision, reporter, preset=preset, world=world)

    @property
    def held_out(self) -> str:
        """The clips that a run validates on."""
        return name_held_out(self.config.data.fold, train_plus_val=self.train_plus_val)

    def config_of(self, seed: int) -> RunConfig:
        """The config of a seed's run."""
        return replace(self.config, training=replace(self.config.training, seed=seed))


def check_folders(plan: Plan) -> None:
    """Passes if every run folder can be made, or continued.

    Raises:
        RunError: names, for all of them together, what prevents it.
    """
    problems: list[Problem] = []
    for seed in plan.seeds:
        run = plan.run_of(seed)
        if not run.folder.exists():
            with collect_errors(problems):
                check_writable(run.config_file)
            continue
        init_from = plan.config.training.init_from
        if init_from and Path(init_from).resolve() == run.folder.resolve():
            found = "is also the run to start from (--init-from)"
            problems.append(Problem(str(run.folder), found, next_step="use another --runs"))
        elif plan.if_there == "refuse":
            problems.append(refuse_there(run))
        elif not run.config_file.is_file() and not holds_messages_only(run.folder):
            found = "there, but not a run folder (no run.toml); it is left alone"
            problems.append(Problem(str(run.folder), found, next_step="move it away, or use another --runs"))
        elif plan.if_there == "resume" and run.config_file.is_file():
            problems += check_config(run, plan.config_of(seed), "start again with --overwrite")
    if problems:
        raise RunError(problems)
