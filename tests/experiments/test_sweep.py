"""Many runs: which there are, where they run, and what becomes of them when they are stopped or fail."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from abaw_emi.core.errors import Problem, RunError, UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.experiments.jobs import Job, list_jobs
from abaw_emi.experiments.local import run_jobs
from abaw_emi.experiments.slurm import FOLDER, Trainer, parse_settings
from abaw_emi.runs.lock import find_holder, lock_runs
from abaw_emi.runs.run import LOG, Run, find_run
from tests.command import run_command

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
SHORT = ["--set", "training.epochs=2"]
LONG = ["--set", "training.epochs=40000", "training.patience=0"]


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "abaw_emi", "sweep", "--presets", "tiny", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **{**pipes, **options})


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """What the command prints on stdout and stderr; the runs are processes."""
    done = run_command("sweep", "--presets", "tiny", *arguments, env=ENVIRONMENT)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_runs_are_presets_by_folds_by_seeds_and_the_first_seed_comes_first() -> None:
    jobs = list_jobs({"paper": [], "tiny": ["training.epochs=2"]}, [1, 2, 1], Path("runs"), folds=2)
    assert [job.run.name for job in jobs] == [
        f"{preset}-fold{fold}of2-seed{seed}"
        for seed in (1, 2)
        for preset in ("paper", "tiny")
        for fold in (1, 2)
    ]
    assert shlex.join(jobs[2].command) == (
        "abaw-emi train --preset tiny --seeds 1 --runs runs --resume --fold 1/2 --set training.epochs=2"
    )
    with pytest.raises(UsageError, match="--folds 1: no part would be left"):
        list_jobs({"paper": []}, [1], Path("runs"), folds=1)


def test_what_is_missing_is_trained_and_typed_again_nothing_is(data_root: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    options = ["--seeds", "1", "2", "--jobs", "2", "--out", runs, "--data", data_root, *SHORT]
    out, errors = run(*options)
    found = [find_run(runs / f"tiny-seed{seed}") for seed in (1, 2)]
    assert out.splitlines()[-1] == f"next: abaw-emi ensemble --ckpts {found[0].folder} {found[1].folder}"
    assert errors.count(": started") == 2
    assert "done, epoch" in (found[0].folder / LOG).read_text()
    made = found[0].weights_file.stat().st_mtime_ns
    again, errors = run(*options)
    assert (again, errors.count(": started")) == (out, 0)
    assert found[0].weights_file.stat().st_mtime_ns == made
    listed, _ = run(*options[:2], "--executor", "print", "--out", tmp_path / "others", "--data", data_root)
    assert listed.startswith("abaw-emi train --preset tiny --seeds 1 --runs ")


def test_a_run_that_fails_says_why_one_that_is_held_is_left_to_its_process_and_the_others_go_on(
    data_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny-seed1"
    folder.mkdir()
    (folder / "notes.txt").touch()
    held = Run(tmp_path / "tiny-seed2")
    options = ("--seeds", "1", "2", "3", "--out", tmp_path, "--data", data_root, *SHORT, "--json")
    with ExitStack() as locks:
        lock_runs([held], locks)
        out, _ = run(*options, code=1)
    found = json.loads(out)
    (problem,) = found["problems"]
    assert problem.startswith("tiny-seed1: failed, exit code 1: ")
    assert "not a run folder (no run.toml)" in problem
    assert [each["state"] for each in found["runs"]] == ["failed", "in use", "finished"]
    assert found["runs"][1]["detail"].startswith(f"by process {os.getpid()} on ")
    assert not held.config_file.exists()


def test_a_run_that_cannot_be_started_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny-seed1").touch()
    monkeypatch.setattr(Job, "words", property(lambda _: ["echo", "trained"]))
    jobs = list_jobs({"tiny": []}, [1, 2], tmp_path)
    (problem,) = run_jobs(jobs, 1, Reporter(quiet=True))
    assert str(problem).startswith("tiny-seed1: cannot be started: File exists; see that ")
    assert (jobs[1].run.folder / LOG).read_text() == "trained\n"


def test_a_sweep_that_fails_itself_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = list_jobs({"tiny": []}, [1, 2], tmp_path)
    log, other_log = (job.run.folder / LOG for job in jobs)
    show = "import os,time; print(os.getpid(), flush=True); time.sleep(60)"
    wait = f"while [ ! -s {log} ]; do sleep .05; done"
    words = {jobs[0]: [sys.executable, "-c", show], jobs[1]: ["sh", "-c", wait]}
    monkeypatch.setattr(Job, "words", property(words.__getitem__))

    def look(job: Job) -> tuple[str, str]:
        if job == jobs[1] and other_log.exists():
            raise RunError(Problem("tiny-seed2", "is damaged"))
        return "waiting", ""

    monkeypatch.setattr(Job, "look", look)
    with pytest.raises(RunError, match="is damaged"):
        run_jobs(jobs, 2, Reporter(quiet=True))
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


@pytest.mark.exact
def test_ctrl_c_saves_every_run_and_the_command_goes_on(data_root: Path, tmp_path: Path) -> None:
    options = ("--seeds", "1", "2", "--jobs", "2", "--out", tmp_path, "--data", data_root, *LONG)
    process = start(*options, start_new_session=True)
    runs = [Run(tmp_path / f"tiny-seed{seed}") for seed in (1, 2)]
    while not all(run.metrics_file.exists() and "valid" in run.metrics_file.read_text() for run in runs):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved: 2 runs were stopped; go on with: abaw-emi sweep --presets tiny" in errors
    for each in runs:
        assert list(each.state_folder.glob("training-*.pt"))
        assert "saved" in (each.folder / LOG).read_text().splitlines()[-1]
    out, _ = run(*options, "--dry-run")
    assert out.count("stopped") == 2


def test_each_process_has_a_gpu_for_itself(tmp_path: Path) -> None:
    jobs = list_jobs({"tiny": []}, [1, 2, 3], tmp_path)
    show = "import os,time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(.5)"

    class Shown:
        def __init__(self, job: Any) -> None:
            self.run, self.look, self.words = job.run, job.look, [sys.executable, "-c", show]

    assert run_jobs([Shown(job) for job in jobs], 2, Reporter(quiet=True), ["4", "7"]) == []  # type: ignore[misc]
    assert sorted((job.run.folder / LOG).read_text().strip() for job in jobs[:2]) == ["4", "7"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_runs_share_the_cores_that_the_sweep_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Job, "words", property(lambda _: ["sh", "-c", "echo $OMP_NUM_THREADS"]))
    (job,) = list_jobs({"tiny": []}, [1], tmp_path)
    assert run_jobs([job], 1, Reporter(quiet=True)) == []
    assert (job.run.folder / LOG).read_text() == "1\n"


@pytest.mark.exact
def test_a_job_of_a_cluster_that_is_told_to_end_saves_and_goes_on(data_root: Path, tmp_path: Path) -> None:
    """By submitit's own executor for one machine, which handles signals as the one for Slurm does."""
    submitit = pytest.importorskip("submitit")
    from submitit.local.local import LocalJobEnvironment

    options = ("--data", str(data_root), "--device", "cpu")
    (job,) = list_jobs({"tiny": LONG[1:]}, [1], tmp_path / "runs", common=options)
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    submitted = executor.submit(Trainer(), job)
    while not job.run.metrics_file.exists():
        assert not submitted.done()
        time.sleep(0.1)
    os.killpg(os.getpgid(int(submitted.job_id)), 0)  # it is there
    children = (
        Path(f"/proc/{submitted.job_id}/task/{submitted.job_id}/children").read_text(encoding="utf-8").split()
    )
    assert children
    for child in children:
        os.kill(int(child), LocalJobEnvironment._usr_sig())
    log = job.run.folder / LOG
    while log.read_text().count("going on after epoch") < 1:
        time.sleep(0.1)
    submitted.cancel()  # ends submitit's own process, and leaves the run to Slurm
    holder = find_holder(job.run)
    assert holder
    os.kill(int(holder.split()[1]), signal.SIGKILL)
    assert "saved" in log.read_text()


def put_first(monkeypatch: pytest.MonkeyPatch, folder: Path, **scripts: str) -> None:
    """Makes programs of these shell scripts, which are found before all others."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{folder}:{os.environ['PATH']}")


def test_where_squeue_fails_nothing_is_submitted_a_second_time(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    fail = "echo 'squeue: error: Socket timed out on send/recv operation' >&2\nexit 1"
    put_first(monkeypatch, tmp_path / "bin", sbatch=f"touch {asked}\nexit 1", srun="exit 1", squeue=fail)
    jobs = tmp_path / "runs" / FOLDER / "jobs.json"
    jobs.parent.mkdir(parents=True)
    jobs.write_text('{"tiny-seed1": "17_0"}')
    places = ["--data", data_root, "--runs", tmp_path / "runs"]
    _, said = run("--seeds", "1", "--executor", "slurm", *places, code=1)
    assert said.startswith("squeue: squeue: error: Socket timed out on send/recv operation; try again: ")
    assert not asked.exists()


def test_a_machine_without_all_of_slurm_submits_nothing(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_first(monkeypatch, tmp_path / "bin", sbatch="exit 1")
    monkeypatch.setitem(ENVIRONMENT, "PATH", str(tmp_path / "bin"))
    places = ["--data", data_root, "--runs", tmp_path / "runs"]
    _, said = run("--seeds", "1", "--executor", "slurm", *places, code=2)
    assert "--executor slurm: no srun on this machine; run it where" in said


def test_what_sbatch_says_where_it_takes_no_jobs_is_said(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = "echo 'sbatch: error: no partition' >&2\nexit 1"
    put_first(monkeypatch, tmp_path / "bin", sbatch=fail, srun=fail)
    places = ["--data", data_root, "--runs", tmp_path / "runs"]
    _, said = run("--seeds", "1", "--executor", "slurm", *places, code=1)
    assert "sbatch: error: no partition" in said
    assert "--executor local" in said


def test_options_of_sbatch_are_parsed() -> None:
    assert parse_settings(["partition=gpu", "--gres=gpu:1", "time=60"]) == {
        "partition": "gpu",
        "gres": "gpu:1",
        "time": "60",
    }
    with pytest.raises(UsageError) as caught:
        parse_settings(["gpu", "time=1:00"])
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == [
        "--slurm gpu",
        "--slurm time=1",
    ]
