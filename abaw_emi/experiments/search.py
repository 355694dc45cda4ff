"""The search for better options, by Optuna: each trial is an ordinary run, made by `train`. Imports no torch.

`search/<name>/journal.log` holds what is known of all trials, and is shared by every process and machine that
searches; the runs lie beside it, so that none of them is taken for a member of an ensemble.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from abaw_emi.config.read import change_config, format_config
from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.files import write_bytes
from abaw_emi.core.progress import Reporter
from abaw_emi.core.signals import Interrupted, StopRequest, deferred_signals
from abaw_emi.data.provenance import read_prediction_file
from abaw_emi.data.scope import find_scope
from abaw_emi.experiments.jobs import Job
from abaw_emi.experiments.local import explain, start_process
from abaw_emi.experiments.selection import score_choice, score_choice_by_folds
from abaw_emi.experiments.study import WITHDRAWN, SearchPlan, next_trial, open_study
from abaw_emi.runs.lock import find_holder
from abaw_emi.runs.metrics import read_metrics

BEST = "best.toml"

_PAUSE = 0.5
_FAILURES = 3
"""Trials that fail one after the other, after which the search ends: it is not the options then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The outcome of all trials so far.

    Attributes:
        trials: how many were trained to their end.
        pruned: how many were given up on.
        failed: how many could not be trained.
        running: how many other processes are still at.
        best: the number of the best one; None if none ended.
        value: its validation mean Pearson, or the mean over its folds.
        estimate: of the choice, on clips that it was not made on (`selection`); None for fewer than two.
        options: its values.
        config_file: its whole configuration.
    """

    trials: int
    pruned: int
    failed: int
    running: int
    best: int | None
    value: float | None
    estimate: float | None
    options: Mapping[str, Any]
    config_file: Path


def search(plan: SearchPlan, trials: int, reporter: Reporter) -> Found:
    """Makes trials until the search has `trials` of them, by all processes and machines together.

    A trial is given up on where its epochs are below the median of the others' at the same epoch, or, with
    folds, where a Wilcoxon test finds its folds worse than those of the best. One whose process has ended
    is taken over, where the disk has locks that tell so. Of what was given up or failed no checkpoint stays.

    Raises:
        RunError: three runs failed, one after the other.
        Interrupted: a signal asked for a stop; the trial goes on when the search does.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    study = open_study(plan)
    failures: list[Problem] = []
    with deferred_signals() as stop:
        while len(failures) < _FAILURES:
            with ExitStack() as lock:
                trial = next_trial(study, plan, trials, lock, reporter)
                if trial is None:
                    return summarise_search(plan, study, reporter)
                try:
                    value = _run_trial(plan, trial, stop, reporter)
                except optuna.TrialPruned as pruned:
                    _drop_states(plan, trial)
                    study.tell(trial, state=TrialState.PRUNED)
                    reporter.say(f"trial {trial.number}: given up after {pruned}")
                except RunError as error:
                    _drop_states(plan, trial)
                    study.tell(trial, state=TrialState.FAIL)
                    reporter.warn(error.problems)
                    failures += error.problems
                    continue
                else:
                    study.tell(trial, value)
                    reporter.say(f"trial {trial.number}: {value:.4f}")
                failures = []
    raise RunError(failures)


def _drop_states(plan: SearchPlan, trial: Trial) -> None:
    """Deletes the checkpoints of a trial that nobody goes on with: gigabytes of them."""
    for run in [plan.job(trial.number, fold).run for fold in plan.parts]:
        if not find_holder(run):  # a process that outlived its search may
            run.drop_state()


def _run_trial(plan: SearchPlan, trial: Trial, stop: StopRequest, reporter: Reporter) -> float:
    """The value of a trial: its validation mean Pearson, or the mean over its folds."""
    changes = [dimension.format(dimension.suggest(trial)) for dimension in plan.space]
    write_bytes(plan.config_file(trial.number), format_config(change_config(plan.config, changes)).encode())
    reporter.say(f"trial {trial.number}: {' '.join(changes)}")
    values: list[float] = []
    for number, fold in enumerate(plan.parts):
        values.append(_train(plan.job(trial.number, fold), None if plan.folds else trial, stop))
        if plan.folds:
            _report(trial, values[-1], number)
            if trial.should_prune():
                raise optuna.TrialPruned(f"{len(values)} of {plan.folds} folds")
    return sum(values) / len(values)


def _train(job: Job, trial: Trial | None, stop: StopRequest) -> float:
    """The run's validation mean Pearson; its epochs are reported to `trial`, which may give it up."""
    process = start_process(job)
    try:
        seen = 0
        while process.poll() is None:
            time.sleep(_PAUSE)
            if stop:
                raise Interrupted(stop.signum, "saved the trial")
            if trial is None:
                continue
            epochs = [line for line in read_metrics(job.run.metrics_file) if "valid" in line]
            for line in epochs[seen:]:
                _report(trial, line["valid"]["mean_pearson"], line["epoch"])
                if trial.should_prune():
                    raise optuna.TrialPruned(f"epoch {line['epoch']}")
            seen = len(epochs)
    finally:
        process.terminate()
        code = process.wait()
    if code or not job.run.finished:
        raise RunError(explain(job, code))
    return float(job.run.read_provenance()["valid"]["mean_pearson"])


def _report(trial: Trial, value: float, step: int) -> None:
    """Tells the trial a value, unless it was told before: it may have been continued."""
    told = trial.study.trials[trial.number].intermediate_values
    if step not in told:
        trial.report(value, step)


def summarise_search(plan: SearchPlan, study: optuna.Study, reporter: Reporter) -> Found:
    """What is known by now; writes the best configuration."""
    made = [trial for trial in study.trials if WITHDRAWN not in trial.user_attrs]
    states = [trial.state for trial in made]
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    best = max(done, key=lambda trial: trial.value or 0.0, default=None)
    if best is not None:
        write_bytes(plan.folder / BEST, plan.config_file(best.number).read_bytes())
    return Found(
        trials=len(done),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        best=None if best is None else best.number,
        value=None if best is None else best.value,
        estimate=_estimate(plan, done, reporter) if len(done) > 1 else None,
        options={} if best is None else dict(best.params),
        config_file=plan.folder / BEST,
    )


def _estimate(plan: SearchPlan, done: Sequence[FrozenTrial], reporter: Reporter) -> float:
    if plan.folds:
        return score_choice_by_folds([trial.intermediate_values for trial in done])
    files = [plan.job(trial.number, "").run.valid_predictions for trial in done]
    read = {str(path): read_prediction_file(path)[0] for path in files}
    truth, tables, notes = find_scope(plan.labels, read)
    reporter.warn(notes)
    return score_choice(list(tables.values()), truth)
