"""Speed as ratios within one run, since seconds belong to the machine; figures in benchmarks/."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from abaw_emi.challenge.resampling import Resampling, bootstrap
from abaw_emi.challenge.tables import write_predictions
from tests.challenge.worlds import draw_labels, name, predict
from tests.cli.conftest import environment

N = 4_588


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The best of `rounds`, in processor time of this process and of those it waited for."""
    best = float("inf")
    for _ in range(rounds):
        before, children = time.process_time(), sum(_of_children())
        work()
        best = min(best, time.process_time() - before + sum(_of_children()) - children)
    return best


def _of_children() -> tuple[float, float]:
    import os

    times = os.times()
    return times.children_user, times.children_system


def test_resampling_by_moments_is_15_times_as_fast_as_a_loop_over_scipy_and_takes_1_5_s() -> None:
    rng = np.random.default_rng(1)
    truth = draw_labels(rng, N)
    systems = [predict(rng, truth, 1.0) for _ in range(2)]

    def loop() -> None:
        for _ in range(20):
            rows = rng.integers(N, size=N)
            for system in systems:
                for k in range(6):
                    scipy.stats.pearsonr(truth[rows, k], system[rows, k])

    own = seconds(lambda: bootstrap(truth, systems, Resampling(resamples=10_000)), 3)
    assert own <= 1.5
    assert seconds(loop, 3) / 20 * 10_000 >= 15 * own


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="compared with importing torch")
def test_a_score_takes_no_longer_than_importing_torch(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = draw_labels(rng, N)
    write_predictions(name(truth), tmp_path / "labels.csv")
    write_predictions(name(predict(rng, truth, 1.0)), tmp_path / "preds.csv")

    def run(*arguments: str) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, check=True
        )

    torch = seconds(run("-c", "import torch"), 3)
    score = ("-m", "abaw_emi", "score", "preds.csv", "labels.csv")
    assert seconds(run(*score), 3) <= torch
    assert seconds(run(*score, "--bootstrap", "10000"), 3) <= 1.5 * torch
