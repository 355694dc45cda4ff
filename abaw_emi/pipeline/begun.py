"""The runs of a pipeline that are there already: whether it can go on with them."""

from __future__ import annotations

from abaw_emi.core.errors import Problem, RunError, collect_errors
from abaw_emi.data.folder import DataFolder
from abaw_emi.pipeline.plan import PipelinePlan
from abaw_emi.runs.resume import check_config, name_training
from abaw_emi.training.plan import Plan


def check_begun(plan: PipelinePlan, data: DataFolder) -> None:
    """Passes where all runs that are there were begun with the options that the plan has for them.

    Raises:
        RunError: names those that were not, with the command that trains each again.
    """
    places = ("--data", str(data.root), "--features", str(data.features))
    problems: list[Problem] = []
    for training in _list_trainings(plan):
        for seed in training.seeds:
            run, asked = training.run_of(seed), training.config_of(seed)
            if run.config_file.is_file():
                again = name_training(run, asked, *places, "--overwrite")
                with collect_errors(problems):
                    problems += check_config(run, asked, f"move it away, or train it again: {again}")
    if problems:
        raise RunError(problems)


def _list_trainings(plan: PipelinePlan) -> list[Plan]:
    """The trainings: those on train+val where the run whose length they take is finished."""
    trainings = [plan.training(preset) for preset in plan.configs]
    for training in trainings.copy() if plan.train_plus_val else ():
        reference = training.run_of(plan.seeds[0])
        if reference.finished:
            trainings.append(plan.full_training(training.preset, reference))
    return trainings
