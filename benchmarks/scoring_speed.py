"""Resampling by moments against a loop over scipy, and `score` against `import torch`, in one run.

    python benchmarks/scoring_speed.py

4,588 clips, six emotions, two systems. Ratios count; seconds belong to the machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import scipy.stats
from simulated import World

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.data.tables import write_predictions
from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, swap
from abaw_emi.evaluation.significance import compare_pairs

RESAMPLES = 10_000
BY_SCIPY = 100


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The best of `rounds`."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def by_scipy(truth: np.ndarray, systems: list[np.ndarray], resamples: int) -> np.ndarray:
    """What the loop over scipy gives: r of each resample, system and emotion."""
    rng = np.random.default_rng(1)
    found = np.empty((resamples, len(systems), truth.shape[1]))
    for b in range(resamples):
        rows = rng.integers(len(truth), size=len(truth))
        for s, system in enumerate(systems):
            for k in range(truth.shape[1]):
                found[b, s, k] = scipy.stats.pearsonr(truth[rows, k], system[rows, k]).statistic
    return found


def main() -> None:
    truth, a, b, speaker = World().draw(np.random.default_rng(1))
    how = Resampling(resamples=RESAMPLES, permutations=RESAMPLES)
    moments = seconds(lambda: bootstrap(truth, [a, b], how))
    loop = seconds(lambda: by_scipy(truth, [a, b], BY_SCIPY), 2) * RESAMPLES / BY_SCIPY
    print(f"{RESAMPLES:,} paired resamples: {moments:.2f} s; scipy {loop:.1f} s: {loop / moments:.0f}x")
    print(f"{RESAMPLES:,} swaps: {seconds(lambda: swap(truth, a, b, how)):.2f} s")
    bca = Resampling(resamples=RESAMPLES, permutations=RESAMPLES, method="bca")
    both = seconds(lambda: compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], bca))
    print(f"both, with BCa intervals and p-values: {both:.2f} s")
    grouped = Resampling(resamples=RESAMPLES, permutations=RESAMPLES, units=speaker)
    by_group = seconds(lambda: compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], grouped))
    print(f"both, by 148 groups: {by_group:.3f} s")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        ids = [f"{i + 8072:05}" for i in range(len(truth))]
        for name, values in (("labels", truth), ("a", 0.1 * a + 0.3), ("b", 0.1 * b + 0.3)):
            table = pl.DataFrame({"Filename": ids, **dict(zip(EMOTIONS, values.T, strict=True))})
            write_predictions(table, folder / f"{name}.csv")

        def run(*arguments: str) -> Callable[[], object]:
            command = [sys.executable, *arguments]
            return lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True)

        emi = ("-m", "abaw_emi", "score", "a.csv", "labels.csv")
        torch = seconds(run("-c", "import torch"))
        print(f"python -c 'import torch': {torch:.2f} s")
        for said, options in {
            "score": (),
            "score --bootstrap 10000": ("--bootstrap", "10000"),
            "score --against b.csv --bootstrap 10000": ("--against", "b.csv", "--bootstrap", "10000"),
        }.items():
            took = seconds(run(*emi, *options))
            print(f"abaw-emi {said}: {took:.2f} s, {took / torch:.2f} of it")


if __name__ == "__main__":
    main()
