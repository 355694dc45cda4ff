"""How often the intervals hold the truth, and how often the tests cry wolf, on simulated splits.

    python benchmarks/coverage.py [SPLITS [WORLD]]

For worlds with and without speaker effects (see `simulated`): the share of 95 % intervals that hold the true
score, by method and by what is resampled; the share of significant differences between two systems that are
equally good; and, with a true difference of just `Difference.detectable`, the share that is found. With
600 splits a share of .05 or .95 is known to +-.018.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq
from simulated import MEANS, World

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.bootstrap import (
    Method,
    Resampling,
    bootstrap,
    interval,
    jackknife,
    mean_first,
    swap,
)
from abaw_emi.evaluation.pearson import mean_pearson, pearson, standardise
from abaw_emi.evaluation.significance import ALPHA, compare_pairs

RESAMPLES = 1_000
LARGE = 20_000
"""Speakers of the sample that stands for the truth: 620,000 clips."""


def true_scores(world: World) -> np.ndarray:
    """(2, 7): mean and per emotion, of both systems, on a very large split."""
    truth, first, second, _ = world.draw(np.random.default_rng(0), LARGE)
    return mean_first(np.stack([pearson(truth, first), pearson(truth, second)]))


def match(world: World, gap: float = 0.0) -> World:
    """The world with the second system's signal chosen so that its true score is the first's plus `gap`."""

    def excess(signal: float) -> float:
        first, second = true_scores(replace(world, signal=(world.signal[0], signal)))[:, 0]
        return float(second - first - gap)

    return replace(world, signal=(world.signal[0], brentq(excess, 0.3, 1.2, xtol=1e-4)))


def coverage(world: World, splits: int) -> dict[str, np.ndarray]:
    """Share of intervals that hold the truth, (7,), and their mean width for the mean, by kind."""
    true = true_scores(world)[0]
    held: dict[str, list[np.ndarray]] = {}
    for seed in range(splits):
        truth, system, _, speaker = world.draw(np.random.default_rng([1, seed]))
        estimate = mean_first(pearson(truth, system))
        for units in (None, speaker):
            how = Resampling(resamples=RESAMPLES, seed=seed, units=units)
            draws = mean_first(bootstrap(truth, [system], how)[:, 0])
            without = mean_first(jackknife(truth, [system], how)[:, 0])
            methods: tuple[Method, ...] = ("percentile", "bca")
            for method in methods:
                low, high = interval(draws, estimate, replace(how, method=method), without).T
                name = f"{'clips' if units is None else 'speakers'}, {method}"
                held.setdefault(name, []).append(np.append((low <= true) & (true <= high), (high - low)[0]))
    return {name: np.mean(rows, axis=0) for name, rows in held.items()}


def raw_swap(truth: np.ndarray, a: np.ndarray, b: np.ndarray, seed: int, permutations: int = 200) -> float:
    """P of the mean's difference when raw rows are swapped: what this package does not do."""
    rng = np.random.default_rng(seed)
    observed = abs(mean_pearson(truth, a) - mean_pearson(truth, b))
    extreme = 0
    for _ in range(permutations):
        turn = rng.random(len(a))[:, None] < 0.5
        x, y = np.where(turn, b, a), np.where(turn, a, b)
        extreme += abs(mean_pearson(truth, x) - mean_pearson(truth, y)) >= observed
    return (extreme + 1) / (permutations + 1)


def rejections(world: World, splits: int) -> dict[str, float]:
    """Share of splits on which a difference is called significant, by kind of test."""
    found: dict[str, list[float]] = {}
    for seed in range(splits):
        truth, a, b, speaker = world.draw(np.random.default_rng([2, seed]))
        observed = mean_first(pearson(truth, a) - pearson(truth, b))
        for units in (None, speaker):
            kind = "clips" if units is None else "speakers"
            how = Resampling(resamples=RESAMPLES, permutations=RESAMPLES, seed=seed, units=units)
            swapped = np.abs(mean_first(swap(truth, a, b, how)))
            p = ((swapped >= np.abs(observed)).sum(axis=0) + 1) / (len(swapped) + 1)
            r = mean_first(bootstrap(truth, [a, b], how))
            low, high = np.quantile(r[:, 0] - r[:, 1], [ALPHA / 2, 1 - ALPHA / 2], axis=0)
            found.setdefault(f"{kind}, permutation", []).append(p[0] < ALPHA)
            outside = low[0] > 0 or high[0] < 0
            found.setdefault(f"{kind}, bootstrap interval without 0", []).append(outside)
            if not world.squashed:  # where the systems differ by emotion, though not in the mean
                share = float((p[1:] < ALPHA).mean())
                found.setdefault(f"{kind}, permutation, per emotion", []).append(share)
    return {name: float(np.mean(values)) for name, values in found.items()}


def power(equal: World, splits: int) -> None:
    """With a gap that is just detectable: how often it is found, here and by swapping raw rows."""
    for grouped in (False, True):
        gaps = []
        for seed in range(20):
            truth, a, b, speaker = equal.draw(np.random.default_rng([3, seed]))
            how = Resampling(resamples=400, permutations=1, units=speaker if grouped else None)
            (difference,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
            gaps.append(difference.detectable["mean_pearson"] or 0.0)
        gap = float(np.mean(gaps))
        different = match(equal, gap)
        found = raw = 0
        for seed in range(splits):
            truth, a, b, speaker = different.draw(np.random.default_rng([4, seed]))
            units = speaker if grouped else None
            how = Resampling(resamples=0, permutations=500, seed=seed, units=units)
            (difference,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
            found += difference.p["mean_pearson"] < ALPHA
            if seed < 50 and not grouped:
                raw += raw_swap(truth, a, b, seed) < ALPHA
        said = "speakers" if grouped else "clips"
        print(f"  {said}: detectable {gap:.4f} ({min(gaps):.4f} to {max(gaps):.4f} by split), ", end="")
        print(f"found on {found / splits:.3f}", end="")
        print("\n" if grouped else f"; swapping raw rows finds {raw / 50:.2f} of 50\n", end="")


def power_of_one_emotion(equal: World, splits: int) -> None:
    """With a gap in one emotion that is just detectable: how often it is found among the six."""
    joy = EMOTIONS[-1]
    gaps, signals = [], np.linspace(equal.signal[0], equal.signal[0] + 0.3, 7)
    for seed in range(20):
        truth, a, b, _ = equal.draw(np.random.default_rng([3, seed]))
        (difference,) = compare_pairs(
            truth, [a, b], ["a", "b"], [(0, 1)], Resampling(resamples=400, permutations=1)
        )
        gaps.append(difference.detectable[joy] or 0.0)
    worlds = [replace(equal, signal=(equal.signal[0], float(signal))) for signal in signals]
    gained = [second[-1] - first[-1] for first, second in map(true_scores, worlds)]
    signal = float(np.interp(np.mean(gaps), gained, signals))
    different = replace(equal, signal=(equal.signal[0], signal))
    found = 0
    for seed in range(splits):
        truth, a, b, _ = equal.draw(np.random.default_rng([5, seed]))
        b[:, -1] = different.draw(np.random.default_rng([5, seed]))[2][:, -1]  # the same split
        how = Resampling(resamples=0, permutations=2_000, seed=seed)
        (difference,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
        found += difference.p_holm[joy] < ALPHA
    print(f"  clips, {joy} alone: detectable {np.mean(gaps):.4f}, found on {found / splits:.3f}")


def main(splits: int, wanted: str) -> None:
    worlds = {
        "none": ("no speaker effects", World()),
        "some": ("speaker effects (a fifth of the error's variance)", World(speaker=0.5)),
        "strong": ("strong speaker effects (a third of it)", World(speaker=0.7)),
    }
    start = time.perf_counter()
    for key, (name, world) in worlds.items():
        if wanted in (key, ""):
            report(name, world, splits)
    print(f"\n{splits} splits each; {time.perf_counter() - start:.0f} s")


def report(name: str, world: World, splits: int) -> None:
    """Prints what holds in one world."""
    truth, a, b, _ = world.draw(np.random.default_rng(0), LARGE)
    zeros = ", ".join(f"{e} {z:.2f}" for e, z in zip(EMOTIONS, (truth == 0).mean(axis=0), strict=True))
    off = np.abs(truth.mean(axis=0) - MEANS).max()
    print(f"{name}: true score {true_scores(world)[0, 0]:.4f}, mean labels off by at most {off:.3f}")
    print(f" zeros: {zeros}; the systems correlate {np.mean(standardise(a) * standardise(b)):.2f}")
    print(" coverage of 95 % intervals of one system: mean, emotions in order; width for the mean")
    for kind, shares in coverage(world, splits).items():
        emotions = " ".join(f"{share:.3f}" for share in shares[1:7])
        print(f"  {kind:20s} {shares[0]:.3f}   {emotions}   {shares[7]:.4f}", flush=True)
    squashed = match(replace(world, squashed=True))
    for label, equal in (("alike", world), ("squashed and shifted", squashed)):
        print(f" two equally good systems, the second {label}: called different on")
        for kind, share in rejections(equal, splits).items():
            print(f"  {kind:42s} {share:.3f}", flush=True)
    print(" a true difference that is just detectable, the second system squashed and shifted")
    power(squashed, splits)
    power_of_one_emotion(world, splits)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600, sys.argv[2] if len(sys.argv) > 2 else "")
