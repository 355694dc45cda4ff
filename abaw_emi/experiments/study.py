"""The trials of a search, which all its processes and machines share: which are to be made, and by whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import polars as pl
from optuna.pruners import MedianPruner, WilcoxonPruner
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from abaw_emi.config.read import format_config
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.progress import Reporter
from abaw_emi.experiments.jobs import Job
from abaw_emi.experiments.space import Dimension
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.resume import name_run
from abaw_emi.runs.run import Run

JOURNAL = "journal.log"

WITHDRAWN = "withdrawn"
"""Of trials that were drawn and not made: another one has the same options, or there are enough."""

_CERTAIN = 0.1
"""p of the Wilcoxon test at which a trial is given up on: its folds are worse than those of the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What `search` is asked for.

    Attributes:
        name: of the search.
        config: what is not searched over.
        space: what is.
        folder: `search/<name>/`.
        seed: of every run.
        folds: into how many parts the training clips are cut, each held out once; 0 for the official valid.
        labels: of the official valid, which tell how much the best is chosen on it.
        common: options of `train` that all runs have.
    """

    name: str
    config: RunConfig
    space: tuple[Dimension, ...]
    folder: Path
    labels: pl.DataFrame
    seed: int = 1
    folds: int = 0
    common: tuple[str, ...] = ()

    def config_file(self, number: int) -> Path:
        """The configuration of a trial."""
        return self.folder / f"trial{number:03}.toml"

    def job(self, number: int, fold: str) -> Job:
        """The run of a trial, or of one of its folds."""
        config = self.config_file(number)
        name = name_run(config.stem, train_plus_val=False, fold=fold, seed=self.seed)
        options = ["--config", str(config), "--seeds", str(self.seed), "--runs", str(self.folder), "--resume"]
        options += ["--fold", fold] if fold else []
        return Job(run=Run(self.folder / name), options=(*options, *self.common))

    @property
    def size(self) -> float:
        """How many combinations of options there are; infinity with a range of real numbers."""
        return math.prod(dimension.size for dimension in self.space)

    @property
    def parts(self) -> list[str]:
        """The folds; one without a name for the official valid."""
        return [f"{part}/{self.folds}" for part in range(1, self.folds + 1)] or [""]


def open_study(plan: SearchPlan) -> optuna.Study:
    """The search, which may have been begun before, or by another process.

    Raises:
        RunError: it was begun with another question.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(plan.folder / JOURNAL)
    # Locked by opening a file: links do not exist on every network disk.
    storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    pruner = WilcoxonPruner(p_threshold=_CERTAIN) if plan.folds else MedianPruner()
    study = optuna.create_study(
        storage=storage, pruner=pruner, study_name=plan.name, direction="maximize", load_if_exists=True
    )
    asked = {"config": format_config(plan.config), "space": repr(plan.space), "folds": plan.folds}
    known = study.user_attrs
    changed = [key for key, value in asked.items() if known.get(key, value) != value]
    if changed:
        found = f"was begun with another {' and '.join(changed)}"
        raise RunError(Problem(str(plan.folder), found, next_step="give the new search another --name"))
    for key, value in asked.items():
        if key not in known:
            study.set_user_attr(key, value)
    return study


def next_trial(
    study: optuna.Study, plan: SearchPlan, trials: int, lock: ExitStack, reporter: Reporter
) -> Trial | None:
    """A trial that no other process has, locked; None if there are as many as are wanted, or nothing is left.

    A new one has options that no other trial has.

    On a disk without locks, which is reported once, nobody can tell whether the process of a trial has ended:
    none is taken over there, and only new ones are made.
    """
    for left in study.get_trials(states=(TrialState.RUNNING,)):
        if _take(plan, left.number, lock, reporter) == "locked":
            (now,) = (each for each in study.trials if each.number == left.number)
            trial = Trial(study, now._trial_id)
            if now.state == TrialState.RUNNING and _choose_options(study, plan, trial):
                return trial
    while _count(study.trials) < trials and not _is_used_up(study, plan, reporter):
        trial = study.ask()
        if _take(plan, trial.number, lock, reporter) == "held":
            continue  # another process took it over between these two lines: it is that one's
        if _count(study.trials[: trial.number]) >= trials:  # others have asked at the same time
            _withdraw(study, trial)
            return None
        if _choose_options(study, plan, trial):
            return trial
    return None


def _choose_options(study: optuna.Study, plan: SearchPlan, trial: Trial) -> bool:
    """Whether the options of a trial, which may have been chosen before, are new; if not, it is withdrawn."""
    options = {dimension.key: dimension.suggest(trial) for dimension in plan.space}
    if options not in _list_tried(study, before=trial.number):
        return True
    _withdraw(study, trial)
    _enqueue_untried(study, plan)  # or the sampler may draw the same for ever
    return False


def _withdraw(study: optuna.Study, trial: Trial) -> None:
    """Ends a trial that nobody makes."""
    trial.set_user_attr(WITHDRAWN, True)  # a value
    study.tell(trial, state=TrialState.FAIL)


def _list_tried(study: optuna.Study, before: float = math.inf) -> list[dict[str, Any]]:
    """The options of trials that have ended with a value, or are made and have a number before this one."""
    tried: list[dict[str, Any]] = []
    for trial in study.trials:
        ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        running = trial.state == TrialState.RUNNING and trial.number < before
        if (ended or running) and trial.params not in tried:
            tried.append(trial.params)
    return tried


def _is_used_up(study: optuna.Study, plan: SearchPlan, reporter: Reporter) -> bool:
    """Whether there is nothing that no trial has tried, which is reported."""
    if used_up := len(_list_tried(study)) >= plan.size:
        reporter.say(f"all {plan.size:,} combinations of the options are tried, or being tried")
    return used_up


def _enqueue_untried(study: optuna.Study, plan: SearchPlan) -> None:
    """Has the next draw be one that no trial has tried, where there is one."""
    tried = _list_tried(study)
    while len(tried) < plan.size:
        options = {dimension.key: dimension.pick() for dimension in plan.space}
        if options not in tried:
            study.enqueue_trial(options)
            return


def _take(
    plan: SearchPlan, number: int, lock: ExitStack, reporter: Reporter
) -> Literal["locked", "held", "no locks"]:
    """Locks a trial until `lock` is closed, unless another process holds it, or the disk has no locks."""
    held, warnings = lock_runs([Run(plan.config_file(number).with_suffix(""))], lock)
    step = "trials that were stopped, or whose process was killed, are not gone on with"
    without = [replace(warning, where=str(plan.folder), next_step=step) for warning in warnings]
    reporter.warn([warning for warning in without if warning not in reporter.warnings])
    return "held" if held else "no locks" if without else "locked"


def _count(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state not in (TrialState.FAIL, TrialState.WAITING) for trial in trials)
