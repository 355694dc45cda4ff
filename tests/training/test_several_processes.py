"""Several commands, or one that is interrupted, on the same run folders."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from abaw_emi.config.presets import find_preset
from abaw_emi.core.errors import EmiError, RunError
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import Run, find_run
from abaw_emi.training.import_weights import import_run
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from abaw_emi.training.trainer import Training
from tests.command import run_command

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
TINY = ["train", "--preset", "tiny", "--device", "cpu"]


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "abaw_emi", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return subprocess.Popen(command, **{**settings, **options})


def plan(out: Path, **changes: Any) -> Plan:
    return Plan(**{"config": find_preset("tiny"), "preset": "tiny", "seeds": [1], "out": out, **changes})


def lines_of(run: Run) -> int:
    return run.metrics_file.read_text().count("valid") if run.metrics_file.exists() else 0


@pytest.fixture
def in_use(tmp_path: Path) -> Run:
    """A run that this process holds, as another command would."""
    run = Run(tmp_path / "runs" / "tiny-seed1")
    with ExitStack() as locks:
        lock_runs([run], locks)
        yield run


def test_a_run_in_use_is_refused_by_process_and_machine_and_left_alone(in_use: Run, data_root: Path) -> None:
    in_use.folder.mkdir()
    (in_use.folder / "run.toml").write_text("seed = 1\n")
    for if_there in ("refuse", "overwrite"):
        with pytest.raises(
            RunError, match=rf"tiny-seed1: in use by process {os.getpid()} on \S+; wait for it"
        ):
            train(plan(in_use.folder.parent, if_there=if_there), DataFolder(data_root), Reporter(quiet=True))
    assert [path.name for path in in_use.folder.iterdir()] == ["run.toml"]


def test_on_resume_a_run_in_use_is_passed_over_with_a_line_and_the_others_go_on(
    in_use: Run, data_root: Path
) -> None:
    place = ("--out", in_use.folder.parent, "--data", data_root)
    done = run_command(*TINY, "--resume", "--seeds", "1", "2", *place)
    assert done.returncode == 0, done.stderr
    passed_over = [line for line in done.stderr.splitlines() if "in use" in line]
    assert len(passed_over) == 1
    assert passed_over[0].endswith("; passed over")
    assert not in_use.folder.exists()
    other = in_use.folder.with_name("tiny-seed2")
    assert find_run(other).best_epoch >= 1
    assert done.stdout.splitlines()[-1] == f"next: abaw-emi ensemble --ckpts {other} --data {data_root}"


def test_where_all_are_in_use_nothing_is_read(in_use: Run, tmp_path: Path) -> None:
    reporter = Reporter(quiet=True)
    out = in_use.folder.parent
    assert train(plan(out, if_there="resume"), DataFolder(tmp_path / "nowhere"), reporter) == []
    assert len(reporter.warnings) == 1


def test_weights_are_not_imported_into_a_run_in_use(in_use: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        import_run(tmp_path / "best.pth", "backbone", "main", in_use.folder)


def test_where_there_are_no_locks_importing_weights_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    reporter = Reporter(quiet=True)
    with pytest.raises(EmiError):  # no such checkpoint
        import_run(tmp_path / "best.pth", "backbone", "main", tmp_path / "run", reporter=reporter)
    (warning,) = map(str, reporter.warnings)
    assert "cannot be locked: No locks available; see that no other process trains this run" in warning


def test_the_lock_is_held_until_the_last_seed_is_done(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abaw_emi.runs.lock import find_holder

    runs = [Run(tmp_path / f"tiny-seed{seed}") for seed in (1, 2)]
    held: list[bool] = []
    validate = Training._validate
    monkeypatch.setattr(
        Training,
        "_validate",
        lambda self, took: held.append(all(map(find_holder, runs))) or validate(self, took),
    )
    train(plan(tmp_path, seeds=[1, 2]), DataFolder(data_root), Reporter(quiet=True))
    assert held
    assert all(held)
    assert not any(map(find_holder, runs))


@pytest.mark.exact
def test_of_processes_that_start_together_one_trains(data_root: Path, tmp_path: Path) -> None:
    """Each would train another run: the one that is there is of one of them, whole, and the others say so."""
    for race in range(100):
        count = 2 + race % 3
        run = Run(tmp_path / str(race) / "tiny-seed1")
        folders = ("--out", run.folder.parent, "--data", data_root)
        together = [
            start(*TINY, "--set", f"training.epochs={epochs}", *folders) for epochs in range(1, 1 + count)
        ]
        ends = [(process.communicate(timeout=300), process.returncode) for process in together]
        winners = [number for number, (_, code) in enumerate(ends) if code == 0]
        assert len(winners) == 1, ends
        for (_, errors), code in ends:
            assert code == 0 or "in use by process" in errors or "already there" in errors, errors
            assert "Traceback" not in errors
            assert "fault" not in errors
        record = find_run(run.folder).read_provenance()
        assert run.read_config().training.epochs == record["epochs"] == 1 + winners[0]
        assert record["weights_sha256"] == hash_file(run.weights_file)
        assert lines_of(run) == record["epochs"]
        assert not list(run.folder.rglob("*.part"))


_WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from abaw_emi.config.presets import find_preset
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
tiny = find_preset("tiny")
config = replace(tiny, training=replace(tiny.training, epochs=2))
data = DataFolder(Path(sys.argv[1]))
data.read_labels("train", "valid")
for line in sys.stdin:
    reporter = Reporter(quiet=True)
    reporter.say = lambda text: print(text, flush=True) if ": done, epoch" in text else None
    plan = Plan(config=config, preset="tiny", seeds=[1, 2, 3], out=Path(line.strip()), if_there="resume")
    train(plan, data, reporter)
    print("end", flush=True)
"""


@pytest.mark.exact
def test_the_same_command_many_times_shares_the_seeds(data_root: Path, tmp_path: Path) -> None:
    """2 to 4 workers begin together: each run is trained once, whole, and nobody waits for another."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = [sys.executable, "-c", _WORKER, str(data_root)]
    workers = [subprocess.Popen(words, env=ENVIRONMENT, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    shared = 0
    for race in range(100):
        out = tmp_path / str(race)
        together = workers[: 2 + race % 3]
        for worker in together:
            worker.stdin.write(f"{out}\n")
            worker.stdin.flush()
        did = [list(iter(worker.stdout.readline, "end\n")) for worker in together]
        names = sorted(line.partition(": done")[0] for lines in did for line in lines)
        runs = [Run(out / f"tiny-seed{seed}") for seed in (1, 2, 3)]
        assert names == [str(run.folder) for run in runs]
        shared += sum(bool(lines) for lines in did) > 1
        for run in runs:
            assert lines_of(run) == find_run(run.folder).read_provenance()["epochs"] == 2
            assert run.read_provenance()["weights_sha256"] == hash_file(run.weights_file)
        assert sorted(path.name for path in out.iterdir()) == [run.name for run in runs]
    for worker in workers:
        worker.stdin.close()
        assert worker.wait(timeout=60) == 0
    assert shared


def test_a_run_whose_process_was_killed_meanwhile_is_taken_over(data_root: Path, tmp_path: Path) -> None:
    """Passed over at first, because it is held; free by the time that the other one is done."""
    run = Run(tmp_path / "tiny-seed1")
    locks = ExitStack()
    lock_runs([run], locks)
    reporter = Reporter(quiet=True)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "tiny-seed2: done" in text:
            locks.close()

    reporter.say = say  # type: ignore[method-assign]
    runs = train(plan(tmp_path, seeds=[1, 2], if_there="resume"), DataFolder(data_root), reporter)
    assert [each.name for each in runs] == ["tiny-seed1", "tiny-seed2"]
    assert [line.partition(":")[0][-5:] for line in said if ": done" in line] == ["seed2", "seed1"]
    assert not any("in use" in str(warning) for warning in reporter.warnings)


@pytest.mark.exact
def test_the_orphans_of_a_killed_torchrun_keep_their_run(data_root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "tiny-seed1")
    long = ["--set", "training.epochs=40000", "training.patience=0"]
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "abaw_emi"]
    arguments = [*TINY, *long, "--out", str(tmp_path), "--data", str(data_root)]
    agent = subprocess.Popen([sys.executable, *words, *arguments], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while lines_of(run) < 2:
        assert agent.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text(encoding="utf-8").split()
    agent.kill()
    agent.wait()
    try:
        other = start(*arguments, "--overwrite")
        _, errors = other.communicate(timeout=60)
        assert other.returncode == 1
        assert "in use by process" in errors
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)


def test_a_closed_terminal_saves_as_a_stop_does(data_root: Path, tmp_path: Path) -> None:
    """SIGHUP comes, and whatever is written to the terminal fails from then on."""
    run = Run(tmp_path / "tiny-seed1")
    child, terminal = pty.fork()
    if child == 0:
        long = ["--set", "training.epochs=4000", "training.patience=0"]
        arguments = [*TINY, *long, "--out", str(tmp_path), "--data", str(data_root)]
        os.execve(sys.executable, [sys.executable, "-m", "abaw_emi", *arguments], ENVIRONMENT)
    while lines_of(run) < 2:
        os.read(terminal, 4096)  # its progress bar
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert list(run.state_folder.glob("training-*.pt"))
    assert not run.finished


@pytest.mark.exact
def test_a_run_whose_messages_nobody_reads_is_trained_to_its_end(data_root: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = start(*TINY, "--out", tmp_path, "--data", data_root, stdout=writer, stderr=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    assert process.wait(timeout=120) == 0
    assert find_run(tmp_path / "tiny-seed1").best_epoch >= 1


def test_runs_shows_which_are_in_use(in_use: Run) -> None:
    in_use.folder.mkdir()
    in_use.config_file.write_text("")
    holder = f"process {os.getpid()} on "
    text, _ = start("runs", in_use.folder.parent).communicate(timeout=60)
    assert f"in use by {holder}" in text
    record, _ = start("runs", in_use.folder.parent, "--json").communicate(timeout=60)
    assert json.loads(record)["runs"][0]["in_use_by"].startswith(holder)
