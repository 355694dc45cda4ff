"""`train` from end to end: the data folder and a config to finished run folders, one for each seed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from abaw_emi.batching.examples import InputSpec
from abaw_emi.core.errors import Problem, RunError, collect_errors
from abaw_emi.core.installation import check_torchaudio
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import parse_fold
from abaw_emi.models.device import Runtime, make_deterministic
from abaw_emi.models.distributed import World
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import Run
from abaw_emi.training.data import TrainingData, read_training_data
from abaw_emi.training.initial_weights import InitialWeights, find_initial_weights
from abaw_emi.training.plan import Plan, check_folders
from abaw_emi.training.record import check_seen
from abaw_emi.training.session import Session


def train(plan: Plan, data: DataFolder, reporter: Reporter, world: World | None = None) -> list[Run]:
    """Trains one run for each seed and returns the folders of those that are finished now.

    A run folder is locked while it is trained. On resume, a finished run is left as it is, and one that
    another process holds is passed over: the same command on many machines that share a disk shares the
    seeds among them. Otherwise all are locked from the beginning, and one that is held is refused.

    Args:
        plan: what to do.
        data: the data folder.
        reporter: quiet on every process but the first.
        world: the processes that train together.

    Raises:
        EmiError: whatever prevents it; before a run that is there is touched.
    """
    world = world or World()
    if plan.config.training.augmentation.active:
        check_torchaudio()
    with ExitStack() as locks:  # of the first process: the others end with it
        free = world.run_first(lambda: _lock_and_check(plan, locks, reporter))
        if not free:
            return []
        if plan.if_there == "resume":
            locks.close()  # each is locked again when its turn comes
        _train(plan, data, reporter, world)
    return [run for run in map(plan.run_of, plan.seeds) if run.finished]


def _lock_and_check(plan: Plan, locks: ExitStack, reporter: Reporter) -> bool:
    """Whether a run can be made or continued now; RunError if one is not what it should be."""
    runs = {plan.run_of(seed): seed for seed in plan.seeds}
    held, warnings = lock_runs(list(runs), locks)
    free = [seed for run, seed in runs.items() if run not in held]
    resume = plan.if_there == "resume"
    problems: list[Problem] = [] if resume else list(held.values())
    with collect_errors(problems):
        check_folders(replace(plan, seeds=free))
    if problems:
        raise RunError(problems)
    reporter.warn([*warnings, *(_passed_over(held) if not free else ())])
    return bool(free)


def _train(plan: Plan, data: DataFolder, reporter: Reporter, world: World) -> None:
    runtime = plan.choose_runtime(reporter, world)
    if plan.config.training.deterministic:
        make_deterministic()
    to_do = _list_unfinished(plan, reporter)
    if not to_do:
        return
    start = find_initial_weights(plan.config)
    training_data = _read_together(plan, data, start, runtime)
    _say_validation(plan, reporter)
    for each in start.runs:
        reporter.warn(check_seen(each, training_data))
    replaced = list(to_do) if plan.if_there == "overwrite" else []
    together = f", {world.size} processes" if world.size > 1 else ""
    numbers = {run: number for number, run in enumerate(to_do, start=1)}

    def train_free(run: Run, seed: int) -> Problem | None:
        """Trains a run; says who holds it where another process does."""
        nonlocal replaced
        with ExitStack() as lock:
            if plan.if_there == "resume":
                held = world.run_first(partial(_take, run, replace(plan, seeds=[seed]), lock))
                if held is not None:
                    return held
                if run.finished:
                    reporter.say(f"{run.folder} was finished by another process")
                    return None
            place = f"seed {seed}, {numbers[run]} of {len(to_do)}"
            reporter.say(f"{run.folder}: {place}, on {runtime.device} in {runtime.precision}{together}")
            Session(plan, seed, run, start, training_data, runtime, replaced).train()
            replaced = []
        return None

    left = to_do
    while left:
        found = {run: train_free(run, seed) for run, seed in left.items()}
        passed_over = {run: problem for run, problem in found.items() if problem is not None}
        if len(passed_over) == len(left):  # nothing was free any more
            reporter.warn(_passed_over(passed_over))
            break
        left = {run: left[run] for run in passed_over}  # whose process may have ended meanwhile


def _list_unfinished(plan: Plan, reporter: Reporter) -> dict[Run, int]:
    """The runs to train, with their seeds."""
    to_do = {}
    for seed in plan.seeds:
        run = plan.run_of(seed)
        if plan.if_there == "overwrite" or not run.finished:
            to_do[run] = seed
        else:
            reporter.say(f"{run.folder} is finished already")
            run.drop_state()  # of a process that was killed at its very end
    return to_do


def _take(run: Run, plan: Plan, lock: ExitStack) -> Problem | None:
    """Locks the run until `lock` is closed; which process holds it, if one does.

    Raises:
        RunError: it cannot be continued as planned.
    """
    held, _ = lock_runs([run], lock)
    if run not in held and not run.finished:
        check_folders(plan)
    return held.get(run)


def _passed_over(held: Mapping[Run, Problem]) -> list[Problem]:
    return [replace(problem, next_step="passed over") for problem in held.values()]


def try_out(plan: Plan, data: DataFolder, reporter: Reporter) -> dict[str, float]:
    """Trains one epoch on `plan.limit` clips, keeps nothing, and returns what a full run would take.

    Returns:
        Seconds: "epoch" of training and "validation" on the full splits, "run" for all epochs and seeds.
    """
    runtime = plan.choose_runtime(reporter)
    start = find_initial_weights(plan.config)
    few = _read_data(plan, data, start, reporter)
    smoke = replace(plan, config=replace(plan.config, training=replace(plan.config.training, epochs=1)))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / plan.run_of(plan.seeds[0]).name)
        took = Session(smoke, plan.seeds[0], run, start, few, runtime).train()
    full_train, full_valid = len(data.ids("train")), len(data.ids("valid"))
    if plan.train_plus_val:
        full_train, full_valid = full_train + full_valid, 0
    if plan.config.data.fold:
        _, folds = parse_fold(plan.config.data.fold)
        full_train, full_valid = full_train - full_train // folds, full_train // folds
    epoch = took.training * full_train / len(few.train)
    validation = took.validation * full_valid / max(1, len(few.valid))
    return {
        "epoch": epoch,
        "validation": validation,
        "run": plan.config.training.epochs * (epoch + validation) * len(plan.seeds),
    }


def _say_validation(plan: Plan, reporter: Reporter) -> None:
    if plan.config.data.fold:
        reporter.say(
            f"fold {plan.config.data.fold}: validating on clips held out of training; the score is "
            "optimistic, because speakers are not known and may be on both sides"
        )
    elif plan.train_plus_val:
        reporter.say("training on train and valid: no validation remains, and the last weights are kept")


def _read_together(plan: Plan, data: DataFolder, start: InitialWeights, runtime: Runtime) -> TrainingData:
    """The data, on every process; the first one reads before the others, and fills the cache for them."""
    read: list[TrainingData] = []
    runtime.world.run_first(lambda: read.append(_read_data(plan, data, start, runtime.reporter)))
    return read[0] if read else _read_data(plan, data, start, runtime.reporter)


def _read_data(plan: Plan, data: DataFolder, start: InitialWeights, reporter: Reporter) -> TrainingData:
    return read_training_data(
        data,
        InputSpec.of(plan.config, plan.on_bad_clip, start.tokenizer),
        reporter,
        train_plus_val=plan.train_plus_val,
        fold=plan.config.data.fold,
        limit=plan.limit,
    )
