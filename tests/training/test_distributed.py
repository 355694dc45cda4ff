from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from abaw_emi.models.distributed import World
from abaw_emi.runs.run import Run, find_run

QUICK = ["--preset", "tiny", "--device", "cpu", "--quiet", "--set", "training.epochs=3"]
# 7 clips in groups of 2, the last batch of an epoch of 5 or 1: processes with and without clips.
QUICK += ["training.batch_size=7", "training.group_size=2"]
PLAIN = ["model.logmel.dropout=0.0"]


def command(processes: int, *arguments: str | Path) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(several if processes > 1 else []), "-m", "abaw_emi", *map(str, arguments)]


def train(processes: int, data: Path, out: Path, *arguments: str) -> Run:
    words = command(processes, "train", *QUICK, *arguments, "--data", data, "--out", out)
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return find_run(out / "tiny-seed1")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.exact
@pytest.mark.parametrize(
    "dials",
    [
        ["training.loss=mse+pearson", "training.clip_grad_norm=0.1"],
        pytest.param(["training.loss=mse"], marks=pytest.mark.exact),
        pytest.param(
            ["training.loss=ccc", "training.batch_size=3", "training.ema_decay=0.9"], marks=pytest.mark.exact
        ),
    ],
)
def test_two_processes_give_the_weights_and_the_scores_of_one(
    dials: list[str], data_root: Path, tmp_path: Path
) -> None:
    alone = train(1, data_root, tmp_path / "alone", *PLAIN, *dials)
    together = train(2, data_root, tmp_path / "together", *PLAIN, *dials)
    ours, theirs = load_file(together.weights_file), load_file(alone.weights_file)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6
    # No validation clip is counted twice, and each line is written once.
    for run in (alone, together):
        lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
        assert [line["epoch"] for line in lines if "valid" in line] == [1, 2, 3]
    scores = [run.read_provenance()["valid"]["mean_pearson"] for run in (alone, together)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert together.read_provenance()["world_size"] == 2


@pytest.mark.exact
def test_two_processes_that_are_killed_and_resumed_end_as_if_never_killed(
    data_root: Path, tmp_path: Path
) -> None:
    dials = ["training.epochs=30", "training.patience=0"]  # with dropout
    straight = train(2, data_root, tmp_path / "straight", *dials)
    run = Run(tmp_path / "killed" / "tiny-seed1")
    words = command(2, "train", *QUICK, *dials, "--data", data_root, "--out", run.folder.parent, "--resume")
    for kills in (1, 2):
        process = subprocess.Popen(
            words, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not (run.metrics_file.exists() and run.metrics_file.read_text().count("valid") >= 4 * kills):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not run.finished
    resumed = train(2, data_root, run.folder.parent, *dials, "--resume")
    assert resumed.weights_file.read_bytes() == straight.weights_file.read_bytes()


@pytest.mark.exact
def test_a_stop_reaches_all_processes_and_says_how_to_go_on(data_root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "tiny-seed1")
    dials = ["training.epochs=200", "training.patience=0"]
    words = command(2, "train", *QUICK, *dials, "--data", data_root, "--out", tmp_path)
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    while not (run.metrics_file.exists() and run.metrics_file.read_text().count("valid") >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to torchrun, as a scheduler does
    _, errors = process.communicate(timeout=60)
    assert "go on with: torchrun --nproc-per-node 2 -m abaw_emi train" in errors
    assert errors.count("go on with") == 1
    assert list(run.state_folder.glob("training-*.pt"))


def test_one_process_is_the_plain_case() -> None:
    world = World()
    assert world.is_main
    assert world.gather("value") == ["value"]
    assert world.most(3) == 3
