"""Whether a killed run, resumed, gives the weights of one that was never killed: tried out, here and now."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.core.errors import EmiError, Problem, RunError
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train

_CLIPS, _BATCH, _EPOCHS = 8, 2, 2
"""Few clips in small steps: four steps an epoch, each of which is saved, so that every one can be resumed."""

_KILLS = 3
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of it.

    Attributes:
        straight: SHA-256 of the weights of the run that was left alone.
        resumed: of the run that was killed `kills` times.
    """

    straight: str
    resumed: str
    kills: int

    @property
    def identical(self) -> bool:
        """Whether not a bit differs."""
        return self.straight == self.resumed


def verify_resume(plan: Plan, data: DataFolder, reporter: Reporter) -> Verification:
    """Trains a few small steps of the plan's first seed twice, once killed (SIGKILL) and resumed.

    Args:
        plan: model, precision and device are its own; batches and epochs are made small.
        data: the data folder.
        reporter: says what happens.

    Raises:
        RunError: one of the runs did not end well; its own message is on stderr.
    """
    few = replace(
        plan.config.training, batch_size=_BATCH, batch_seconds=0.0, epochs=_EPOCHS, deterministic=True
    )
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = (
            replace(
                plan,
                config=replace(plan.config, training=few),
                seeds=plan.seeds[:1],
                out=Path(folder) / name,
                if_there="resume",
                limit=_CLIPS,
                save_minutes=0.0,
            )
            for name in ("straight", "killed")
        )
        reporter.say(f"a run of {_EPOCHS} epochs on {_CLIPS} clips, left alone")
        _finish(straight, data)
        kills = 0
        for after in range(1, _KILLS + 1):
            if _kill(killed, data, after):
                kills += 1
                reporter.say(f"the same run, killed and resumed: kill {kills}")
        _finish(killed, data)
        if not kills:
            raise RunError(Problem("--verify-resume", "the trial run was over before it could be killed"))
        straight_weights, resumed_weights = (
            hash_file(each.run_of(plan.seeds[0]).weights_file) for each in (straight, killed)
        )
    return Verification(straight=straight_weights, resumed=resumed_weights, kills=kills)


def _start(plan: Plan, data: DataFolder) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(plan, data))
    process.start()
    return process


def _finish(plan: Plan, data: DataFolder) -> None:
    process = _start(plan, data)
    process.join()
    if process.exitcode != 0:
        raise RunError(Problem("--verify-resume", f"the trial run ended with exit code {process.exitcode}"))


def _kill(plan: Plan, data: DataFolder, checkpoints: int) -> bool:
    """Trains until `checkpoints` more steps are saved, and kills that; False if it was done before."""
    state = plan.run_of(plan.seeds[0]).state_folder
    seen: set[str] = set()
    before = {path.name for path in state.glob("training-*.pt")}
    process = _start(plan, data)
    while process.is_alive() and len(seen) < checkpoints:
        seen |= {path.name for path in state.glob("training-*.pt")} - before
        time.sleep(_POLL_SECONDS)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def _train(plan: Plan, data: DataFolder) -> None:
    reporter = Reporter(quiet=True)
    reporter.console.quiet = True  # the same warnings eight times over
    try:
        train(plan, data, reporter)
    except EmiError as error:
        Reporter().fail(error.problems)
        raise SystemExit(1) from None
