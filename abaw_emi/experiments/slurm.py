"""Runs of a sweep as an array job of Slurm, through submitit.

Slurm signals a job before its time is over, or when it is pre-empted: the run saves itself, and the job goes
back into the queue, where it continues.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abaw_emi.core.errors import Problem, RunError, UsageError, shorten_error
from abaw_emi.core.files import write_bytes
from abaw_emi.core.installation import require
from abaw_emi.core.records import read_json
from abaw_emi.experiments.jobs import Job
from abaw_emi.experiments.local import explain, start_process

FOLDER = ".slurm"
"""Beside the runs: what submitit writes, and which run is which job."""

_JOBS = "jobs.json"
_MINUTES = 24 * 60
_TIMEOUTS = 1000
"""How often a job goes back into the queue because its time was over."""

_PAUSE = 0.2


class Trainer:
    """What a job of the array runs: `train`, as a process of its own that can be told to save."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, job: Job) -> None:
        """Trains the run, or continues it.

        Raises:
            RunError: it cannot be started.
            RuntimeError: it failed; with what it said last.
        """
        self._process = start_process(job)
        if code := self._wait():
            raise RuntimeError(str(explain(job, code)))

    def checkpoint(self, job: Job) -> Any:
        """Called by submitit when the job is to end: stops the run, which saves itself."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._wait()
        return DelayedSubmission(Trainer(), job)

    def _wait(self) -> int:
        assert self._process is not None
        while (code := self._process.poll()) is None:  # not `wait`: it cannot be called inside itself
            time.sleep(_PAUSE)
        return code


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` of sbatch's options, without their dashes; a UsageError names those that are none."""
    pairs = [text.partition("=") for text in texts]
    problems = [
        Problem(f"--slurm {text}", "not KEY=VALUE", "an option of sbatch, such as partition=gpu")
        for text, (key, _, value) in zip(texts, pairs, strict=True)
        if not (key and value)
    ]
    settings = {key.lstrip("-"): value for key, _, value in pairs}
    if not settings.get("time", "1").isdigit():
        problems.append(Problem(f"--slurm time={settings['time']}", "not a number of minutes"))
    if problems:
        raise UsageError(problems)
    return settings


def check_slurm() -> None:
    """Passes if jobs can be submitted from here.

    Raises:
        InstallationError: submitit is missing.
        UsageError: Slurm is.
    """
    require(["submitit"], "slurm")
    if missing := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
        found = f"no {' and no '.join(missing)} on this machine"
        step = "run it where Slurm's commands are, or take --executor local"
        raise UsageError(Problem("--executor slurm", found, next_step=step))


def submit_jobs(
    jobs: Sequence[Job], out: Path, settings: Mapping[str, str], at_once: int | None = None
) -> list[str]:
    """Submits the jobs as one array, and returns their numbers in Slurm.

    Args:
        jobs: the runs.
        out: the folder of run folders.
        settings: options of sbatch (`parse_settings`); `time` in minutes, a day if not given.
        at_once: how many may run at a time; None for no limit.

    Raises:
        RunError: Slurm takes no jobs from here; with what sbatch said.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    others = {key.replace("-", "_"): value for key, value in settings.items() if key != "time"}
    executor = submitit.SlurmExecutor(folder=out / FOLDER, max_num_timeout=_TIMEOUTS)
    executor.update_parameters(
        job_name="abaw-emi",
        time=int(settings.get("time", _MINUTES)),
        array_parallelism=at_once or len(jobs),
        additional_parameters=others,
    )
    try:
        submitted = [job.job_id for job in executor.map_array(Trainer(), jobs)]
    except (FailedJobError, OSError) as error:
        step = "try sbatch by hand, or take --executor local"
        raise RunError(Problem("sbatch", shorten_error(error), next_step=step)) from error
    names = {job.run.name: number for job, number in zip(jobs, submitted, strict=True)}
    write_bytes(out / FOLDER / _JOBS, json.dumps({**_read_jobs(out), **names}, indent=2).encode())
    return submitted


def find_queued(out: Path) -> dict[str, str]:
    """The jobs of runs, by the runs' names, that Slurm has not done yet.

    Raises:
        RunError: Slurm does not tell; with what squeue said.
    """
    known = _read_jobs(out)
    if not known:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or "").strip() or shorten_error(error)
        step = "try again: without it, runs that are in the queue would be submitted twice"
        raise RunError(Problem("squeue", said.splitlines()[-1], next_step=step)) from error
    waiting = set(listed.stdout.split())
    return {name: number for name, number in known.items() if number in waiting}


def _read_jobs(out: Path) -> dict[str, str]:
    path = out / FOLDER / _JOBS
    if not path.is_file():
        return {}
    record: dict[str, str] = read_json(path, dict[str, str], "a list of jobs")
    return record
