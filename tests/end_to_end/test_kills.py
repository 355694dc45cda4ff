"""kill -9, again and again, on the demo corpus: the weights are those of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from abaw_emi.demo.corpus import write_corpus
from abaw_emi.runs.run import Run

pytestmark = pytest.mark.exact

KILLS = 20
DIALS = [
    "--preset",
    "tiny",
    "--device",
    "cpu",
    "--quiet",
    "--set",
    "training.epochs=24",
    "training.patience=0",
]
DIALS += [
    "training.ema_decay=0.9",
    "training.clip_grad_norm=1.0",
    "training.augmentation.noise_probability=0.5",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    write_corpus(root, seed=1)
    return root / "data"


def command(data: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "abaw_emi", "train", *DIALS, "--data", str(data), "--out", str(out)]
    return [*words, "--save-minutes", "0.005", "--resume"]


def test_twenty_random_kills_in_a_row_change_no_bit(corpus: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(corpus, tmp_path / "straight"), check=True, env=environment, capture_output=True)
    run = Run(tmp_path / "killed" / "tiny-seed1")
    random = np.random.default_rng(0)
    saved, reached = set[str](), []
    for kill in range(KILLS):
        process = subprocess.Popen(
            command(corpus, run.folder.parent), env=environment, stderr=subprocess.DEVNULL
        )
        # The first ones at any moment, imports included; then at any moment after something new was saved.
        while kill >= 3 and saved >= names(run) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 8 if kill < 3 else 1.0))
        assert process.poll() is None, "the run was done before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved |= names(run)
        reached.append(max(names(run), default="nothing"))
    assert not run.finished
    assert len(set(reached)) > KILLS // 2  # at many different places
    subprocess.run(command(corpus, run.folder.parent), check=True, env=environment, capture_output=True)
    for name in ("model.safetensors", "config.json", "valid_predictions.csv", "README.md"):
        assert (run.folder / name).read_bytes() == (tmp_path / "straight" / "tiny-seed1" / name).read_bytes()


def names(run: Run) -> set[str]:
    return {path.name for path in run.state_folder.glob("training-*.pt")}
