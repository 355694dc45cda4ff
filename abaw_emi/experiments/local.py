"""Runs of a sweep on this machine: so many processes at once, one a GPU where there are GPUs."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.live import Live
from rich.table import Table

from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.prefetch import count_cores
from abaw_emi.core.progress import Reporter
from abaw_emi.core.signals import Interrupted, StopRequest, deferred_signals
from abaw_emi.experiments.jobs import Job

_PAUSE = 0.2
_LOOK = 2.0
"""Seconds between two looks at the processes, and at their run folders."""


@dataclass(slots=True)
class _Started:
    """A job's process; `gpu` is "" where none was given to it."""

    job: Job
    gpu: str
    process: subprocess.Popen[bytes]


def run_jobs(
    jobs: Sequence[Job], at_once: int, reporter: Reporter, gpus: Sequence[str] = ()
) -> list[Problem]:
    """Trains what is not finished, and returns what failed; the messages of each run go into its folder.

    A run that another process holds is left for later, and at last to that process.

    Args:
        jobs: the runs.
        at_once: how many processes.
        reporter: shows a line a run.
        gpus: names for CUDA_VISIBLE_DEVICES; each process has one for itself.

    Raises:
        Interrupted: a signal asked for a stop.
        RunError: the record of a run is damaged.

    Whatever is raised, every run was stopped and saved first.
    """
    with deferred_signals() as stop, _Screen(jobs, reporter) as screen:
        queue = _Queue(jobs, at_once, gpus, screen)
        try:
            _work_off(queue, stop, screen)
        finally:
            queue.end()
    return queue.failed


def _work_off(queue: _Queue, stop: StopRequest, screen: _Screen) -> None:
    looked = 0.0
    while queue.waiting or queue.running:
        if not stop:
            queue.start()
        queue.collect(stopped=bool(stop))
        if stop:
            raise Interrupted(stop.signum, f"saved: {queue.end()} runs were stopped")
        if not queue.running and all(job.look()[0] == "in use" for job in queue.waiting):
            break
        if time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            screen.look()
        time.sleep(_PAUSE)


class _Queue:
    """The jobs that wait and those that run."""

    def __init__(self, jobs: Sequence[Job], at_once: int, gpus: Sequence[str], screen: _Screen) -> None:
        self.waiting = deque(job for job in jobs if job.look()[0] != "finished")
        self.running: list[_Started] = []
        self.failed: list[Problem] = []
        self._at_once, self._screen = at_once, screen
        self._free = deque(gpus or [""] * at_once)
        self._threads = max(1, count_cores() // at_once)

    def start(self) -> None:
        """Starts as many jobs as may run at once; each that another process holds goes to the end."""
        for _ in range(len(self.waiting)):
            if len(self.running) == self._at_once:
                return
            job = self.waiting.popleft()
            state = job.look()[0]
            if state == "in use":
                self.waiting.append(job)
            elif state != "finished":
                self._start_one(job)

    def _start_one(self, job: Job) -> None:
        gpu = self._free[0]
        environment = {"OMP_NUM_THREADS": str(self._threads), **os.environ}
        if gpu:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        try:
            process = start_process(job, environment)
        except RunError as error:
            self.failed += error.problems
            self._screen.say(job, "failed")
            return
        self._free.popleft()
        self.running.append(_Started(job, gpu, process))
        self._screen.say(job, "started" + (f" on GPU {gpu}" if gpu else ""))

    def collect(self, *, stopped: bool) -> None:
        """Looks which jobs have ended; one that was `stopped` has not failed."""
        for started in [each for each in self.running if each.process.poll() is not None]:
            self.running.remove(started)
            self._free.append(started.gpu)
            code = started.process.returncode
            if code and not stopped:
                self.failed.append(explain(started.job, code))
            self._screen.say(started.job, "failed" if code else ": ".join(started.job.look()))

    def end(self) -> int:
        """Has all jobs save and end, and returns how many ran."""
        for started in self.running:
            started.process.terminate()
        for started in self.running:
            started.process.wait()
        return len(self.running)


def start_process(job: Job, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """The process that trains the run.

    Its messages are added to the run's log, or replace those of one that failed early.

    Args:
        job: the run.
        environment: its variables; None for those of this process.

    Raises:
        RunError: it cannot be started, or its log cannot be written.
    """
    try:
        job.run.folder.mkdir(parents=True, exist_ok=True)
        with job.run.log_file.open("wb" if job.run.failed_early else "ab") as log:
            return subprocess.Popen(
                job.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # or Ctrl-C would reach it twice
            )
    except OSError as error:
        found = f"cannot be started: {error.strerror}"
        step = f"see that {job.run.log_file} can be written"
        raise RunError(Problem(job.run.name, found, next_step=step)) from error


def explain(job: Job, code: int) -> Problem:
    """What a failed run said last."""
    path = job.run.log_file
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return Problem(job.run.name, f"failed, exit code {code}: {last}", next_step=f"all it said: {path}")


class _Screen:
    """A line a run on a terminal; elsewhere a line for each change."""

    def __init__(self, jobs: Sequence[Job], reporter: Reporter) -> None:
        self.jobs, self.reporter = jobs, reporter
        console = reporter.console
        self.live = None if reporter.quiet or not console.is_terminal else Live(console=console)

    def __enter__(self) -> _Screen:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.look()
            self.live.stop()

    def say(self, job: Job, text: str) -> None:
        """What has become of a job."""
        if not self.live:
            self.reporter.say(f"{job.run.name}: {text}")

    def look(self) -> None:
        """Reads all run folders again."""
        if self.live:
            self.live.update(show_jobs(self.jobs), refresh=True)


def show_jobs(jobs: Sequence[Job]) -> Table:
    """A line a run."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for job in jobs:
        table.add_row(job.run.name, *job.look())
    return table


def find_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; [] without any.

    >>> find_gpus({"CUDA_VISIBLE_DEVICES": "2,3"})
    ['2', '3']
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return found.stdout.split()
