from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw_emi.evaluation.bootstrap import Resampling, bootstrap, mean_first
from abaw_emi.evaluation.pearson import mean_pearson, pearson
from abaw_emi.evaluation.significance import STATISTICS, compare_pairs, holm
from tests.simulated import Array, draw_labels, predict


@pytest.fixture(scope="module")
def systems() -> tuple[Array, list[Array]]:
    """Labels, and systems from good to bad; the second is as good as the first but for noise."""
    rng = np.random.default_rng(4)
    truth = draw_labels(rng, 600)
    return truth, [predict(rng, truth, error) for error in (0.6, 0.6, 1.5)]


def test_the_difference_is_that_of_the_scores_and_its_interval_that_of_paired_resamples(
    systems: tuple[Array, list[Array]],
) -> None:
    truth, (a, b, _) = systems
    how = Resampling(resamples=500, permutations=200, seed=3)
    (found,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
    assert (found.first, found.second) == ("a", "b")
    assert list(found.difference) == list(STATISTICS)
    assert found.difference["mean_pearson"] == pytest.approx(mean_pearson(truth, a) - mean_pearson(truth, b))
    assert found.difference["Joy"] == pytest.approx((pearson(truth, a) - pearson(truth, b))[5])
    draws = mean_first(bootstrap(truth, [a, b], how))
    low, high = np.quantile(draws[:, 0, 0] - draws[:, 1, 0], [0.025, 0.975])
    assert found.interval["mean_pearson"] == pytest.approx((low, high), abs=1e-14)
    spread = (draws[:, 0, 0] - draws[:, 1, 0]).std()
    assert found.detectable["mean_pearson"] == pytest.approx((1.959964 + 0.841621) * spread, rel=1e-5)


def test_equal_systems_are_not_told_apart_and_unequal_ones_are(systems: tuple[Array, list[Array]]) -> None:
    truth, members = systems
    how = Resampling(resamples=300, permutations=999)
    pairs = [(0, 1), (0, 2), (2, 1)]
    same, better, worse = compare_pairs(truth, members, ["a", "b", "c"], pairs, how)
    assert same.verdict == "not shown"
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.p["mean_pearson"] == 1 / 1000
    assert better.p_holm["mean_pearson"] == pytest.approx(3 / 1000)
    assert better.p_holm["Joy"] >= 18 / 1000 * 0.999
    turned = better.turned()
    assert (turned.first, turned.verdict) == ("c", "worse")
    low, high = better.interval["mean_pearson"] or (0, 0)
    assert turned.interval["mean_pearson"] == (-high, -low)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_system_against_itself_in_other_units_differs_by_nothing(
    systems: tuple[Array, list[Array]], method: str
) -> None:
    truth, (a, *_) = systems
    how = Resampling(resamples=100, permutations=99, method=method)  # type: ignore[arg-type]
    (found,) = compare_pairs(truth, [a, 5 - (-3) * a], ["a", "b"], [(0, 1)], how)
    assert set(found.p.values()) == {1.0}
    assert max(map(abs, found.difference.values())) < 1e-12


def test_swapping_standardised_columns_finds_what_raw_rows_of_another_offset_hide(
    systems: tuple[Array, list[Array]],
) -> None:
    truth, (good, _, bad) = systems
    moved = 5 + 0.3 * bad
    (found,) = compare_pairs(
        truth, [good, moved], ["good", "bad"], [(0, 1)], Resampling(resamples=0, permutations=200)
    )
    assert found.p["mean_pearson"] == 1 / 201
    observed, rng = abs(mean_pearson(truth, good) - mean_pearson(truth, moved)), np.random.default_rng(1)
    raw = []
    for _ in range(100):
        turn = rng.random(len(truth))[:, None] < 0.5
        x, y = np.where(turn, moved, good), np.where(turn, good, moved)
        raw.append(abs(mean_pearson(truth, x) - mean_pearson(truth, y)))
    spread = np.array(raw).std()
    (fair,) = compare_pairs(
        truth, [good, bad], ["good", "bad"], [(0, 1)], Resampling(resamples=0, permutations=200)
    )
    assert fair.p == found.p  # scale and offset change nothing
    assert spread < observed  # raw swaps only mix two offsets: what they measure is no longer the systems


def test_false_positives_are_as_rare_as_promised_for_equal_systems_of_other_scales() -> None:
    called = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        truth = draw_labels(rng, 150)
        a, b = predict(rng, truth, 1.0), 9 + 4 * predict(rng, truth, 1.0)
        how = Resampling(resamples=0, permutations=199, seed=seed)
        (found,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
        called += found.p["mean_pearson"] < 0.05
    assert called / 150 < 0.10  # of .05; four in 10,000 such tests would fail by chance


def draw_pair(rng: np.random.Generator, error: float, n: int = 2_000) -> tuple[Array, list[Array]]:
    """Labels, and two systems that share most of their errors; `error` is the second one's own in Joy."""
    truth = draw_labels(rng, n)
    shared = 0.4 * rng.standard_normal(truth.shape)
    own = [0.3 * rng.standard_normal(truth.shape) for _ in range(2)]
    own[1][:, 5] *= error / 0.3
    return truth, [truth + shared + part for part in own]


@pytest.mark.exact
def test_a_just_detectable_difference_of_one_emotion_is_called_shown_as_often_as_promised() -> None:
    how = Resampling(resamples=400, permutations=1)
    beyond = []
    errors = (0.35, 0.4, 0.45, 0.5)
    for error in errors:
        truth, (a, b) = draw_pair(np.random.default_rng(2), error, 200_000)
        true = pearson(truth, a)[5] - pearson(truth, b)[5]
        splits = [draw_pair(np.random.default_rng([1, seed]), error) for seed in range(10)]
        found = [compare_pairs(truth, pair, ["a", "b"], [(0, 1)], how)[0] for truth, pair in splits]
        beyond.append(true - np.mean([difference.detectable["Joy"] or 0 for difference in found]))
    error = float(np.interp(0, beyond, errors))  # the true difference is what the splits call detectable
    shown = 0
    for seed in range(150):
        truth, systems = draw_pair(np.random.default_rng([5, seed]), error)
        how = Resampling(resamples=0, permutations=599, seed=seed)
        (difference,) = compare_pairs(truth, systems, ["a", "b"], [(0, 1)], how)
        shown += difference.p_holm["Joy"] < 0.05
    assert shown / 150 > 0.70  # of .80; at the level of an uncorrected test it is .64


def test_groups_widen_what_speakers_share() -> None:
    rng = np.random.default_rng(5)
    truth = draw_labels(rng, 600)
    speaker = np.repeat(np.arange(30), 20)
    a, b = (predict(rng, truth, 0.5) + 0.01 * rng.standard_normal((30, 6))[speaker] for _ in range(2))
    widths = []
    for clusters in (None, speaker):
        how = Resampling(resamples=400, permutations=50, clusters=clusters)
        (found,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], how)
        low, high = found.interval["mean_pearson"] or (0, 0)
        widths.append(high - low)
    assert widths[1] > 1.3 * widths[0]


def test_without_resamples_there_is_a_p_and_no_interval(systems: tuple[Array, list[Array]]) -> None:
    truth, (a, b, _) = systems
    (found,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], Resampling(resamples=0, permutations=99))
    assert set(found.interval.values()) == set(found.detectable.values()) == {None}
    (one,) = compare_pairs(truth, [a, b], ["a", "b"], [(0, 1)], Resampling(resamples=1, permutations=9))
    assert set(one.detectable.values()) == {None}  # one resample shows no spread
    assert 0 < found.p["mean_pearson"] <= 1


def naive_holm(p: list[float]) -> list[float]:
    """The definition: the largest, over smaller or equal p's, of what each is multiplied by."""
    ordered = sorted(range(len(p)), key=lambda i: p[i])
    corrected = [0.0] * len(p)
    for place, i in enumerate(ordered):
        corrected[i] = min(1.0, max((len(p) - j) * p[ordered[j]] for j in range(place + 1)))
    return corrected


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
def test_holm_is_its_definition_and_never_below_p(p: list[float]) -> None:
    found = holm(p)
    assert found == pytest.approx(naive_holm(p))
    assert (found >= np.array(p)).all()
    assert (found <= 1).all()
    assert holm(p[::-1]) == pytest.approx(found[::-1])
