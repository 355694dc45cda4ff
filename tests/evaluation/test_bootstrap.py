from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import abaw_emi.evaluation.bootstrap as room
from abaw_emi.core.errors import UsageError
from abaw_emi.evaluation.bootstrap import (
    Resampling,
    bootstrap,
    cluster_sums,
    correlations,
    draw_counts,
    interval,
    jackknife,
    mean_first,
    swap,
)
from abaw_emi.evaluation.pearson import pearson, standardise
from tests.evaluation.test_score import Array, pairs

Counts = npt.NDArray[np.intp]


def percentile(truth: Array, prediction: Array, *, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Intervals of the mean and of each column."""
    how = Resampling(resamples=resamples, seed=seed)
    draws = mean_first(bootstrap(truth, [prediction], how)[:, 0])
    bounds = interval(draws, draws.mean(axis=0), how, draws)
    return [(float(low), float(high)) for low, high in bounds]


def by_rows(truth: Array, prediction: Array, rows: Counts) -> Array:
    """Pearson's r of the rows as scipy has it, 0 where it is undefined."""
    y, p = truth[rows], prediction[rows]
    return np.array(
        [
            0.0
            if np.ptp(y[:, k]) == 0 or np.ptp(p[:, k]) == 0
            else scipy.stats.pearsonr(y[:, k], p[:, k]).statistic
            for k in range(truth.shape[1])
        ]
    )


def check_against_scipy(found: Array, truth: Array, prediction: Array, rows: Array) -> None:
    expected = by_rows(truth, prediction, rows)
    # How far the drawn values lie apart, of all values: moments lose digits with its square, and of two
    # values a hair apart scipy warns and loses digits itself.
    parts = (x[rows].std(axis=0) / np.maximum(x.std(axis=0), 1e-300) for x in (truth, prediction))
    spread = np.minimum(*parts)
    clear = (spread > 1e-4) | (expected == 0)
    error = np.abs(found - expected)[clear]
    assert (error <= 1e-12 / np.clip(spread[clear], 1e-4, 1) ** 2).all()


# A resample is a count vector times moments.


@given(pairs(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_counts_times_moments_agree_with_scipy_on_the_drawn_rows(
    pair: tuple[Array, Array], seed: int
) -> None:
    truth, prediction = pair
    how = Resampling(resamples=3, seed=seed)
    found = bootstrap(truth, [prediction, truth], how)  # (3, 2, 6)
    (counts,) = draw_counts(len(truth), how)
    for r, count in zip(found, counts, strict=True):
        assert count.sum() == len(truth)
        rows = np.repeat(np.arange(len(truth)), count)
        check_against_scipy(r[0], truth, prediction, rows)


@given(pairs(), st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_group_is_drawn_with_all_its_clips(pair: tuple[Array, Array], groups: int, seed: int) -> None:
    truth, prediction = pair
    clusters = np.arange(len(truth)) % min(groups, len(truth))
    how = Resampling(resamples=2, seed=seed, clusters=clusters)
    (counts,) = draw_counts(how.groups or 0, how)
    for r, count in zip(bootstrap(truth, [prediction], how)[:, 0], counts, strict=True):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(clusters == g), times) for g, times in enumerate(count)]
        )
        if min(np.ptp(x[rows], axis=0).min() for x in (truth, prediction)) > 0:
            check_against_scipy(r, truth, prediction, rows)


def test_groups_of_one_clip_each_are_clips() -> None:
    rng = np.random.default_rng(2)
    truth, prediction = rng.random((50, 6)), rng.random((50, 6))
    clips = bootstrap(truth, [prediction], Resampling(resamples=20))
    ones = bootstrap(truth, [prediction], Resampling(resamples=20, clusters=np.arange(50)))
    assert ones == pytest.approx(clips, abs=1e-14)


def test_the_draws_are_decided_by_the_seed_and_not_by_how_many_are_held_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.concatenate(list(draw_counts(101, Resampling(resamples=300, seed=4))))
    monkeypatch.setattr(room, "_CELLS", 5_000)
    parts = list(draw_counts(101, Resampling(resamples=300, seed=4)))
    assert len(parts) > 5
    assert (np.concatenate(parts) == whole).all()
    assert (np.concatenate(list(draw_counts(101, Resampling(resamples=300, seed=5)))) != whole).any()


def test_all_systems_see_the_same_resamples() -> None:
    rng = np.random.default_rng(3)
    truth, a, b = rng.random((3, 40, 6))
    how = Resampling(resamples=10)
    both = bootstrap(truth, [a, b], how)
    assert both[:, 0] == pytest.approx(bootstrap(truth, [a], how)[:, 0], abs=1e-14)
    assert both[:, 1] == pytest.approx(bootstrap(truth, [b], how)[:, 0], abs=1e-14)


@pytest.mark.parametrize("groups", [0, 7])
def test_the_jackknife_leaves_each_unit_out(groups: int) -> None:
    rng = np.random.default_rng(3)
    truth, prediction = rng.random((2, 30, 6))
    clusters = np.arange(30) % groups if groups else None
    found = jackknife(truth, [prediction], Resampling(clusters=clusters))[:, 0]
    for cluster, r in enumerate(found):
        keep = (np.arange(30) if clusters is None else clusters) != cluster
        assert r == pytest.approx(pearson(truth[keep], prediction[keep]), abs=1e-12)


# Intervals.


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("kind", ["smooth", "skewed", "labels, mostly 0"])
def test_intervals_are_those_of_scipy_within_monte_carlo_error(kind: str, method: str) -> None:
    rng = np.random.default_rng(5)
    n = 60
    truth = rng.random(n) if kind != "labels, mostly 0" else rng.integers(0, 3, n) * (rng.random(n) < 0.5) / 3
    noise = rng.normal(0, 0.2, n) if kind != "skewed" else rng.exponential(0.4, n) ** 2
    prediction = truth + noise

    def by_definition(y: Array, p: Array, axis: int = -1) -> Array:
        y, p = y - y.mean(axis=axis, keepdims=True), p - p.mean(axis=axis, keepdims=True)
        return np.asarray((y * p).sum(axis=axis) / np.sqrt((y * y).sum(axis=axis) * (p * p).sum(axis=axis)))

    reference = scipy.stats.bootstrap(
        (truth, prediction),
        by_definition,
        paired=True,
        vectorized=True,
        method=method,
        n_resamples=20_000,
        rng=1,
    ).confidence_interval
    how = Resampling(resamples=40_000, method="bca" if method == "BCa" else "percentile")
    y, p = truth[:, None], prediction[:, None]
    draws, without = bootstrap(y, [p], how)[:, 0], jackknife(y, [p], how)[:, 0]
    ((low, high),) = interval(draws, pearson(y, p), how, without)
    width = reference.high - reference.low
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.03 * width)


def test_bca_is_the_percentile_interval_where_nothing_is_skewed() -> None:
    draws = np.linspace(-1, 1, 1_001)[:, None]
    without = np.array([[-0.1], [0.1]])
    bca = interval(draws, np.array([0.0]), Resampling(method="bca"), without)
    assert bca == pytest.approx(interval(draws, np.array([0.0]), Resampling(), without), abs=1e-12)


def test_bca_has_no_interval_where_every_resample_lies_on_one_side() -> None:
    draws = np.linspace(0.1, 0.2, 50)[:, None]
    assert np.isnan(interval(draws, np.array([0.9]), Resampling(method="bca"), draws)).all()


def test_another_method_is_refused() -> None:
    with pytest.raises(UsageError, match="method: 'normal'; expected one of percentile, bca"):
        Resampling(method="normal")  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 99), min_size=6, max_size=6, unique=True), st.sampled_from([1, 7, 100]))
def test_a_constant_resample_counts_as_0(numbers: list[int], divisor: int) -> None:
    # Of three clips in one order on both sides, a ninth of the resamples is one clip thrice; the others
    # have r > 0.
    truth, prediction = (np.array(sorted(half))[:, None] / divisor for half in (numbers[:3], numbers[3:]))
    (low, high), _ = percentile(truth, prediction, resamples=2_000, seed=1)
    assert low == 0.0
    assert high == pytest.approx(1.0, abs=1e-12)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_intervals_of_few_clips_stay_in_minus_1_to_1(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 3, (n, 6)) / 3 + 0.1, rng.integers(0, 3, (n, 6)) / 7 + 1 / 3
    for low, high in percentile(truth, prediction, resamples=300, seed=seed):
        assert -1 <= low <= high <= 1


def test_95_percent_intervals_hold_the_true_correlation_about_that_often() -> None:
    rng = np.random.default_rng(11)
    true, held = 0.6, 0
    for seed in range(200):
        truth = rng.standard_normal((80, 2))
        prediction = true * truth + math.sqrt(1 - true**2) * rng.standard_normal((80, 2))
        mean, *_ = percentile(truth, prediction, resamples=200, seed=seed)
        held += mean[0] <= true <= mean[1]
    assert 0.88 <= held / 200 <= 0.99


# Swapping.


@pytest.mark.parametrize("groups", [0, 5])
def test_swapped_differences_are_those_of_swapped_standardised_rows(groups: int) -> None:
    rng = np.random.default_rng(6)
    truth, a, b = rng.random((3, 23, 6))
    b = 7 + 3 * b
    clusters = np.arange(23) % groups if groups else np.arange(23)
    how = Resampling(permutations=50, seed=3, clusters=clusters if groups else None)
    found = swap(truth, a, b, how)
    x, y = standardise(a), standardise(b)
    noise = np.frombuffer(np.random.default_rng(3).bytes(50 * -(-(groups or 23) // 8)), np.uint8)
    keep = np.unpackbits(noise.reshape(50, -1), axis=1, count=groups or 23).astype(bool)
    for difference, kept in zip(found, keep[:, clusters], strict=True):
        one, two = np.where(kept[:, None], x, y), np.where(kept[:, None], y, x)
        assert difference == pytest.approx(pearson(truth, one) - pearson(truth, two), abs=1e-12)


def test_swaps_are_blind_to_scale_and_offset() -> None:
    rng = np.random.default_rng(6)
    truth, a, b = rng.random((3, 40, 6))
    how = Resampling(permutations=100)
    assert swap(truth, a, 100 + 0.01 * b, how) == pytest.approx(swap(truth, a, b, how), abs=1e-10)


def test_a_constant_system_is_swapped_without_a_warning() -> None:
    rng = np.random.default_rng(6)
    truth, a, b = rng.random((3, 40, 6))
    b[:, 2], truth[:, 4] = 0.5, 0.1
    found = swap(truth, a, b, Resampling(permutations=100))
    assert np.isfinite(found).all()
    assert (found[:, 4] == 0).all()


def test_sums_of_units_hold_every_clip_once() -> None:
    rng = np.random.default_rng(8)
    truth, a = rng.random((2, 20, 6))
    clusters = np.array([3, 0, 1, 2] * 5)
    whole, grouped = cluster_sums(truth, [a]), cluster_sums(truth, [a], clusters)
    assert grouped.shape == (4, 1 + 12 + 18)
    assert grouped.sum(axis=0) == pytest.approx(whole.sum(axis=0), abs=1e-12)
    assert correlations(grouped.sum(axis=0)[None], 1)[0, 0] == pytest.approx(pearson(truth, a), abs=1e-12)
