from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import rankdata

from abaw_emi.core.errors import ScoreError, UsageError
from abaw_emi.ensembling.crossfit import BEST, cross_fit
from abaw_emi.ensembling.schemes import (
    FITTED,
    SCHEMES,
    Scheme,
    choose_best,
    combine,
    equal,
    fit,
    mean_r,
    measure,
    to_scale,
)
from abaw_emi.evaluation.bootstrap import Resampling
from abaw_emi.evaluation.pearson import mean_pearson, pearson
from tests.simulated import Array, draw_labels, predict


def draw(seed: int, n: int, errors: tuple[float, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    truth = draw_labels(rng, n)
    return truth, np.stack([predict(rng, truth, error) for error in errors])


# Moments.


@given(st.integers(0, 2**32 - 1), st.integers(20, 80), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_the_mean_r_of_moments_is_that_of_the_combined_predictions(seed: int, n: int, members: int) -> None:
    truth, predictions = draw(seed, n, (1.0,) * members)
    weights = np.random.default_rng(seed).dirichlet(np.ones(members), 6)  # (K, M)
    combined = np.einsum("km,mnk->nk", weights, predictions)
    if np.ptp(truth, axis=0).min() == 0:
        return
    halves = [measure(truth[part], predictions[:, part]) for part in (slice(0, 11), slice(11, None))]
    assert mean_r(halves[0] + halves[1], weights) == pytest.approx(mean_pearson(truth, combined), abs=1e-8)


# Scales.


def test_each_scheme_combines_on_its_own_scale() -> None:
    _, members = draw(1, 50, (0.5, 1.0, 2.0))
    members[2] = 5 - 3 * members[2]
    flat = equal(3, 6)
    assert combine(members, "mean", flat) == pytest.approx(members.mean(axis=0))
    ranks = np.mean([(rankdata(member, axis=0) - 0.5) / 50 for member in members], axis=0)
    assert combine(members, "ranks", flat) == pytest.approx(ranks)
    z = np.mean([(m - m.mean(axis=0)) / m.std(axis=0) for m in members], axis=0)
    found = combine(members, "zscores", flat)
    assert pearson(z, found) == pytest.approx(np.ones(6))
    assert found.mean(axis=0) == pytest.approx(members.mean(axis=(0, 1)))


@given(st.sampled_from(SCHEMES), st.floats(0.1, 50), st.floats(-20, 20))
@settings(deadline=None, max_examples=30)
def test_but_for_the_plain_mean_no_scheme_minds_a_member_s_scale(
    scheme: Scheme, slope: float, offset: float
) -> None:
    _, members = draw(2, 60, (0.5, 1.0))
    moved = np.stack([members[0], offset + slope * members[1]])
    weights = np.tile([0.3, 0.7], (6, 1))
    same = pearson(combine(members, scheme, weights), combine(moved, scheme, weights))
    assert scheme == "mean" or same == pytest.approx(np.ones(6), abs=1e-9)


def test_a_clip_that_a_member_lacks_is_combined_from_the_others() -> None:
    _, members = draw(3, 30, (0.5, 1.0))
    present = np.ones((2, 30), dtype=bool)
    present[1, 4] = False
    broken = members.copy()
    broken[1, 4] = 1e9  # whatever stands there
    found = combine(broken, "mean", equal(2, 6), present)
    assert found[4] == pytest.approx(members[0, 4])
    assert found[5] == pytest.approx(members[:, 5].mean(axis=0))
    weights = np.tile([0.0, 1.0], (6, 1))
    for scheme in SCHEMES:
        assert np.isfinite(combine(broken, scheme, weights, present)).all()


def test_a_constant_member_is_no_hindrance() -> None:
    truth, members = draw(3, 40, (0.5, 1.0))
    members[1] = 0.25
    for scheme in SCHEMES:
        weights = fit(
            scheme,
            [
                measure(truth[part], to_scale(members, scheme)[:, part])
                for part in (slice(0, 20), slice(20, 40))
            ],
        )
        assert np.isfinite(combine(members, scheme, weights)).all()


# Weights.


@given(st.sampled_from(SCHEMES), st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_weights_are_not_negative_and_sum_to_1(scheme: Scheme, seed: int, members: int) -> None:
    truth, predictions = draw(seed, 60, tuple(0.5 + m for m in range(members)))
    scaled = to_scale(predictions, scheme)
    folds = [measure(truth[part], scaled[:, part]) for part in (slice(0, 30), slice(30, 60))]
    weights = fit(scheme, folds)
    assert weights.shape == (6, members)
    assert (weights >= 0).all()
    assert weights.sum(axis=1) == pytest.approx(np.ones(6))
    if scheme not in FITTED:
        assert weights == pytest.approx(equal(members, 6))
    if scheme != "emotion-weights":
        assert weights == pytest.approx(np.tile(weights[0], (6, 1)))


def test_fitted_weights_are_near_the_best_that_an_optimiser_finds() -> None:
    truth, members = draw(5, 4_000, (0.3, 0.6, 1.2))
    scaled = to_scale(members, "weights")
    folds = [measure(truth[part], scaled[:, part]) for part in np.array_split(np.arange(4_000), 4)]
    whole = measure(truth, scaled)
    best = -minimize(lambda w: -mean_r(whole, np.abs(w)), np.ones(3) / 3, method="Nelder-Mead").fun
    for scheme in FITTED:
        assert mean_r(whole, fit(scheme, folds)) == pytest.approx(best, abs=0.004)
    assert choose_best(folds)[0].tolist() == [1, 0, 0]


def test_noise_does_not_draw_weights_away_from_equal_ones() -> None:
    truth, members = draw(6, 300, (1.0, 1.0, 1.0, 1.0))
    scaled = to_scale(members, "weights")
    folds = [measure(truth[part], scaled[:, part]) for part in np.array_split(np.arange(300), 5)]
    assert fit("weights", folds) == pytest.approx(equal(4, 6), abs=0.12)


# Out of fold.


def test_predictions_out_of_fold_do_not_see_the_clip_s_own_label() -> None:
    truth, members = draw(7, 60, (0.5, 1.0, 1.0))
    how = Resampling(resamples=0, permutations=9)
    before = cross_fit(truth, members, "abc", how, folds=3, repeats=1)
    changed = truth.copy()
    changed[17] = [1, 0, 0, 0, 0, 0]
    after = cross_fit(changed, members, "abc", how, folds=3, repeats=1)
    for scheme in FITTED:
        # Up to scale and offset of a column, which are those of all clips, its own fold's rows stand still.
        a, b = before.predictions[scheme], after.predictions[scheme]
        fold = np.random.default_rng(how.seed).permutation(60) % 3
        same = fold == fold[17]
        for k in range(6):
            assert np.corrcoef(a[same, k], b[same, k])[0, 1] == pytest.approx(1, abs=1e-9)


def test_a_group_is_never_parted() -> None:
    truth, members = draw(8, 60, (0.5, 1.0))
    clusters = np.arange(60) // 6
    how = Resampling(resamples=0, permutations=9, clusters=clusters)
    found = cross_fit(truth, members, "ab", how, folds=3, repeats=2)
    assert found.signature.endswith("crossfit:2x3,groups")
    with pytest.raises(ScoreError, match="10 clips or groups; expected at least 12, for 6 folds"):
        cross_fit(truth, members, "ab", how, folds=6)
    with pytest.raises(UsageError, match="2 folds; expected three at least"):
        cross_fit(truth, members, "ab", how, folds=2)


def test_useless_members_gain_nothing_out_of_fold_though_they_do_where_weights_were_fitted() -> None:
    rng = np.random.default_rng(9)
    truth = draw_labels(rng, 150)
    members = np.stack([predict(rng, truth, 1.0), *(predict(rng, 0 * truth, 1.0) for _ in range(15))])
    found = cross_fit(truth, members, [str(m) for m in range(16)], Resampling(resamples=0, permutations=99))
    for scheme in FITTED:
        fitted = mean_pearson(truth, combine(members, scheme, found.schemes[scheme].weights))
        assert fitted > found.schemes[scheme].score.mean_pearson
    alone = mean_pearson(truth, members[0])
    assert found.best.mean_pearson <= alone + 1e-9


def test_auto_takes_the_simplest_that_nothing_beats() -> None:
    how = Resampling(resamples=50, permutations=500)
    truth, alike = draw(10, 600, (0.6, 0.6, 0.6))
    assert cross_fit(truth, alike, "abc", how).chosen == "mean"
    offset = alike.copy()
    offset[1] = 3 + 20 * offset[1]  # drowns the others in a plain mean
    assert cross_fit(truth, offset, "abc", how).chosen == "zscores"
    rng = np.random.default_rng(11)
    mixed = np.stack([alike[0], *(predict(rng, truth, 6.0) for _ in range(4))])
    found = cross_fit(truth, mixed, "abcde", how)
    assert found.chosen in FITTED
    report = found.schemes[found.chosen]
    assert report.against_mean is not None
    assert report.against_mean.verdict == "better"
    assert report.against_best.second == BEST
    assert report.score.interval["mean_pearson"] is not None


@pytest.mark.parametrize("seed", range(6))
def test_what_is_told_of_the_schemes_is_what_is_chosen_by(seed: int) -> None:
    truth, members = draw(seed, 600, (0.6, 0.9))
    members[1] = 0.5 + 1.4 * (members[1] - 0.5)  # z-scores are a little better than the mean
    found = cross_fit(truth, members, "ab", Resampling(resamples=0, permutations=999))
    told = [report.against_mean for report in found.schemes.values() if report.against_mean]
    better = [difference.first for difference in told if difference.verdict == "better"]
    assert (found.chosen == "mean") == (not better), better
    assert "holm:15" in found.signature


def test_the_same_seed_gives_the_same_report() -> None:
    truth, members = draw(12, 80, (0.6, 1.0))
    one, two = (cross_fit(truth, members, "ab", Resampling(resamples=20, permutations=19)) for _ in range(2))
    assert one.to_json() == two.to_json()
    other = cross_fit(truth, members, "ab", Resampling(resamples=20, permutations=19, seed=2))
    assert other.to_json() != one.to_json()
