"""Trains the runs of a table's rows; all rows are checked before the first is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from abaw_emi.core.constants import OnBadClip, Precision
from abaw_emi.core.errors import EmiError, Problem, RunError, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.models.device import choose_device
from abaw_emi.reproduction.requirements import Failure, advise_encoder
from abaw_emi.reproduction.rows import RowPlan, inspect_runs, name_problems
from abaw_emi.training.initial_weights import find_initial_weights
from abaw_emi.training.plan import Plan, check_folders
from abaw_emi.training.train import train


def train_rows(
    plans: Sequence[RowPlan],
    data: DataFolder,
    reporter: Reporter,
    *,
    on_bad_clip: OnBadClip = "error",
    device: str = "auto",
    precision: Precision = "auto",
) -> dict[str, Failure]:
    """Trains the runs of the rows, or continues them, where they are not finished.

    All rows are checked before anything is trained. A row that fails does not stop the others.

    Args:
        plans: of rows that lack nothing that `requirements.find_failures` sees.
        data: the data folder.
        reporter: says what is trained, and what fails.
        on_bad_clip: what to do about clips without sound or features.
        device: to train on.
        precision: to train in.

    Returns:
        The failures, by the row's name.

    Raises:
        EmiError: there is no such device.
        Interrupted: a signal stopped the training; its state is saved.
    """
    choose_device(device)
    wanted = {
        plan.row.name: Plan(
            config=plan.config,
            preset=plan.row.preset or "",
            seeds=list(plan.runs),
            out=next(iter(plan.runs.values())).folder.parent,
            train_plus_val=plan.row.train_plus_val,
            if_there="resume",
            on_bad_clip=on_bad_clip,
            device=device,
            precision=precision,
        )
        for plan in plans
        if plan.runs
    }
    failures: dict[str, Failure] = {}
    ready = []
    for plan in plans:
        failure = _check(plan, wanted[plan.row.name]) if plan.runs else None
        if failure is not None:
            failures[plan.row.name] = failure
            reporter.fail(name_problems(plan, failure[1]))
        elif plan.runs:
            ready.append(plan)
    inner = _RowReporter(reporter)
    failed: dict[tuple[str, ...], Failure] = {}  # rows that share runs share their failure
    for number, plan in enumerate(ready, start=1):
        name = plan.row.name
        state, _ = inspect_runs(plan)
        doing = {"finished": "finished before:", "unfinished": "continuing"}.get(state, "training")
        reporter.say(f"row {number} of {len(ready)}, {name}: {doing} {', '.join(plan.run_names)}")
        try:
            if plan.run_names not in failed:
                train(wanted[name], data, inner)
        except EmiError as error:
            failed[plan.run_names] = ("failed", list(error.problems))
            reporter.fail(name_problems(plan, error.problems))
        if plan.run_names in failed:
            failures[name] = failed[plan.run_names]
    return failures


def _check(plan: RowPlan, wanted: Plan) -> Failure | None:
    """Why a row's runs cannot be trained, as far as this can be checked before they start."""
    state, problems = inspect_runs(plan)
    if state == "finished":
        return None
    if not problems:
        try:
            check_folders(wanted)
        except RunError as error:
            problems = list(error.problems)
    if problems:
        return "refused", problems
    try:
        find_initial_weights(plan.config)
    except WeightsError as error:
        problems += [
            replace(problem, next_step=advise_encoder(plan, problem.where)) for problem in error.problems
        ]
    except EmiError as error:
        problems += error.problems
    return ("lacks inputs", problems) if problems else None


class _RowReporter(Reporter):
    """Shows progress bars and each warning once, and no messages: those are in the metrics of the runs."""

    def __init__(self, outer: Reporter) -> None:
        super().__init__(quiet=outer.quiet)
        self._outer = outer

    def say(self, message: str) -> None:
        """Prints nothing: a table prints one line per row."""

    def warn(self, problems: Sequence[Problem], shown: int | None = None) -> None:
        """Prints the warnings that no earlier row had."""
        known = set(self._outer.warnings)
        self._outer.warn([problem for problem in problems if problem not in known], shown)
