from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from abaw_emi.core.errors import ScoreError, UsageError
from abaw_emi.evaluation.compare import compare
from abaw_emi.evaluation.pearson import mean_pearson, pearson
from abaw_emi.evaluation.score import score
from tests.csv_tables import EMOTIONS, to_table

Array = npt.NDArray[np.float64]


def naive_pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """The definition, with exact sums; 0 where it is undefined."""
    a, b = [Fraction(value) for value in x], [Fraction(value) for value in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((i - mean_a) * (j - mean_b) for i, j in zip(a, b, strict=True))
    variances = sum((i - mean_a) ** 2 for i in a), sum((j - mean_b) ** 2 for j in b)
    if 0 in variances:
        return 0.0
    sign = 1 if covariance >= 0 else -1
    return sign * math.sqrt(covariance**2 / (variances[0] * variances[1]))


def spread(column: Array) -> float:
    """Standard deviation beside the size of the values: what an offset leaves of the digits."""
    return float(column.std() / max(np.abs(column).max(), 1e-300))


@st.composite
def pairs(draw: st.DrawFn, columns: int = 6) -> tuple[Array, Array]:
    """Labels and predictions (N, K), correlated from not at all to nearly wholly, at any offset and scale."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share, scale, offset = draw(st.floats(-1, 1)), 10 ** draw(st.floats(-8, 8)), draw(st.floats(-10, 10))
    truth = rng.integers(0, 7, (n, columns)) / 6
    prediction = scale * (share * truth + (1 - abs(share)) * rng.random((n, columns)) + offset)
    assume(all(spread(column) > 0.01 for column in (*truth.T, *prediction.T)))
    return truth, prediction


def named(values: Array, start: int = 0) -> pl.DataFrame:
    """(N, 6) as a table, with ids counted from `start`."""
    return to_table({f"{start + i:05}": row.tolist() for i, row in enumerate(values)})


@pytest.fixture(scope="module")
def sample() -> tuple[Array, Array]:
    """400 clips; the mean r is about .5."""
    rng = np.random.default_rng(7)
    truth = rng.random((400, 6))
    return truth, truth + rng.normal(0, 0.5, (400, 6))


# The correlation.


@given(pairs())
def test_pearson_is_that_of_scipy_and_of_the_definition(pair: tuple[Array, Array]) -> None:
    truth, prediction = pair
    found = pearson(truth, prediction)
    for k in range(6):
        assert found[k] == pytest.approx(
            naive_pearson(truth[:, k].tolist(), prediction[:, k].tolist()), abs=1e-12
        )
        by_scipy = scipy.stats.pearsonr(truth[:, k], prediction[:, k]).statistic
        assert found[k] == pytest.approx(by_scipy, abs=1e-12)
        assert pearson(truth[:, k], prediction[:, k]).item() == pytest.approx(found[k], abs=1e-14)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12))
def test_pearson_of_label_like_values_lies_in_minus_1_to_1_and_is_nan_just_for_constants(
    cells: list[tuple[int, int]],
) -> None:
    x, y = np.array(cells).T / 9
    found = pearson(x, y).item()
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found)
        assert mean_pearson(np.tile(x, (6, 1)).T, np.tile(y, (6, 1)).T) == 0.0
    else:
        assert -1 <= found <= 1
        assert found == pytest.approx(naive_pearson(x, y), abs=1e-12)


@given(pairs(), st.floats(0.01, 100), st.floats(-5, 5))
def test_pearson_is_symmetric_odd_and_blind_to_scale_and_shift(
    pair: tuple[Array, Array], slope: float, shift: float
) -> None:
    truth, prediction = pair
    found = pearson(truth, prediction)
    size = np.abs(prediction).max()
    assert pearson(prediction, truth) == pytest.approx(found, abs=1e-14)
    assert pearson(truth, slope * (prediction + shift * size)) == pytest.approx(found, abs=1e-11)
    assert pearson(truth, -prediction) == pytest.approx(-found, abs=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e150])
def test_tiny_and_huge_columns_neither_vanish_nor_overflow(scale: float) -> None:
    assert pearson([0.0, 1.0, 3.0], [0.0, 2.0 * scale, 1.0 * scale]).item() == pytest.approx(
        naive_pearson([0, 1, 3], [0, 2, 1]), abs=1e-12
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.7, 1e-9, 1e30])
@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_a_constant_column_is_undefined_also_where_its_mean_is_rounded(value: float, n: int) -> None:
    assert math.isnan(pearson(np.arange(n), np.full(n, value)).item())


def test_a_nearly_constant_column_is_not_constant() -> None:
    prediction = np.full(1000, 0.1)
    prediction[3] = np.nextafter(0.1, 1)
    truth = np.zeros(1000)
    truth[3] = 1
    assert pearson(truth, prediction).item() == pytest.approx(1, abs=1e-12)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12), st.integers(2**20, 2**40))
def test_a_large_offset_costs_no_digits(values: list[int], offset: int) -> None:
    assume(len(set(values)) > 1)
    truth = [value * value for value in values]
    found = pearson(truth, [value / 8 + offset for value in values]).item()
    assert found == pytest.approx(naive_pearson(truth, values), abs=1e-12)


@given(pairs())
def test_mean_pearson_is_the_mean_of_the_six(pair: tuple[Array, Array]) -> None:
    truth, prediction = pair
    assert mean_pearson(truth, prediction) == pytest.approx(pearson(truth, prediction).mean(), abs=1e-15)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros(3), np.zeros(4), "shapes"),
        (np.zeros((3, 6)), np.zeros((3, 5)), "shapes"),
        (np.zeros(1), np.zeros(1), "at least 2"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "shapes"),
        ([0, 1], [0, math.nan], "not finite"),
        ([0, math.inf], [0, 1], "not finite"),
    ],
)
def test_what_cannot_be_correlated_is_refused(truth: Array, prediction: Array, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        pearson(truth, prediction)


# The score of tables.


@pytest.mark.parametrize("option", ["resamples", "permutations", "seed"])
def test_negative_numbers_of_resampling_are_refused_by_name(option: str) -> None:
    truth = named(np.random.default_rng(1).random((10, 6)))
    with pytest.raises(UsageError, match=f"{option}: -3; expected 0 or more"):
        score(truth, truth, **{option: -3})
    with pytest.raises(UsageError, match=f"{option}: -3; expected 0 or more"):
        compare(truth, {"a": truth, "b": truth}, **{option: -3})


def test_a_value_that_is_not_finite_is_refused_with_its_file_emotion_and_clip() -> None:
    values = np.random.default_rng(1).random((10, 6))
    truth = named(values)
    broken = truth.with_columns(Joy=pl.Series([math.nan, *values[1:, 5]]), Amusement=pl.lit(math.inf))
    with pytest.raises(ScoreError) as caught:
        score(truth, broken[:2], names=("labels", "p.csv"))
    first = truth["Filename"][0]
    assert f"p.csv, Joy: 1 id with a value that is not finite: {first}; expected finite numbers" in str(
        caught.value
    )
    assert "p.csv, Amusement: 2 ids with a value that is not finite" in str(caught.value)
    assert "p.csv: 8 ids missing, against labels" in str(caught.value)


@given(pairs(), st.randoms())
@settings(deadline=None)
def test_rows_are_matched_by_id_whatever_their_order(pair: tuple[Array, Array], random: object) -> None:
    truth, prediction = map(named, pair)
    order = list(range(len(truth)))
    random.shuffle(order)  # type: ignore[attr-defined]
    expected = score(truth, prediction, resamples=0)
    r = [scipy.stats.pearsonr(truth[e].to_numpy(), prediction[e].to_numpy()).statistic for e in EMOTIONS]
    assert list(expected.pearson.values()) == pytest.approx(r, abs=1e-12)
    assert list(expected.pearson) == EMOTIONS
    assert expected.mean_pearson == pytest.approx(sum(r) / 6, abs=1e-12)
    assert score(truth, prediction[order], resamples=0) == expected  # the same to the last bit
    both = score(truth[order], prediction[order], resamples=0)
    assert both.mean_pearson == pytest.approx(expected.mean_pearson, abs=1e-12)


def test_columns_are_matched_by_name(sample: tuple[Array, Array]) -> None:
    truth, prediction = map(named, sample)
    turned = prediction.select(reversed(prediction.columns))
    assert score(truth, turned, resamples=0) == score(truth, prediction, resamples=0)


def test_constant_columns_count_as_0_and_the_side_is_named(sample: tuple[Array, Array]) -> None:
    truth, prediction = named(sample[0]), named(sample[1])
    truth = truth.with_columns(Joy=pl.lit(0.1))
    prediction = prediction.with_columns(Admiration=pl.lit(0.3))
    found = score(truth, prediction, resamples=200)
    assert found.undefined == ("Admiration", "Joy")
    assert found.pearson["Admiration"] is None
    assert found.interval["Joy"] is None
    rest = [value for value in found.pearson.values() if value is not None]
    assert len(rest) == 4
    assert found.mean_pearson == pytest.approx(sum(rest) / 6, abs=1e-15)
    assert [(problem.where, problem.found.split(" are")[0]) for problem in found.problems] == [
        ("labels, Joy", "the labels"),
        ("predictions, Admiration", "the predictions"),
    ]
    low, high = found.interval["mean_pearson"] or (0, 0)
    assert low < found.mean_pearson < high


def test_missing_extra_and_duplicate_ids_are_all_named_at_once(sample: tuple[Array, Array]) -> None:
    truth = named(sample[0][:6])  # 00000 to 00005
    prediction = named(sample[1][:6], start=2)  # 00002 to 00007
    with pytest.raises(ScoreError) as caught:
        score(pl.concat([truth, truth[:1]]), pl.concat([prediction, prediction[1:2]]))
    assert str(caught.value).splitlines() == [
        "predictions: 2 ids missing, against labels: 00000, 00001",
        "predictions: 2 ids too many, against labels: 00006, 00007",
        "predictions: 1 id more than once: 00003; expected each id once",
        "labels: 1 id more than once: 00000; expected each id once",
    ]


def test_of_many_missing_ids_some_are_named_and_all_are_counted() -> None:
    table = named(np.random.default_rng(0).random((3_000, 6)))
    with pytest.raises(
        ScoreError, match=r"2,998 ids missing, against labels: 00000, .* and 2,988 more"
    ) as caught:
        score(table, table[-2:])
    assert len(str(caught.value)) < 200


def test_ids_seen_in_training_are_counted_and_said(sample: tuple[Array, Array]) -> None:
    truth, prediction = map(named, sample)
    found = score(truth, prediction, resamples=0, trained_on={"00000", "00399", "00400", "77777"})
    assert found.seen == 2
    (problem,) = found.problems
    assert problem.where == "predictions"
    assert problem.found.startswith("SEEN IN TRAINING: the predictor was trained on 2 of these 400 clips")
    clean = score(truth, prediction, resamples=0, trained_on={"00400"})
    assert (clean.seen, clean.problems) == (0, ())
    assert clean.mean_pearson == found.mean_pearson


def test_constant_columns_of_rivals_are_told_too(sample: tuple[Array, Array]) -> None:
    truth, prediction = map(named, sample)
    rival = prediction.with_columns(Joy=pl.lit(0.3))
    found = score(truth, prediction, against={"old.csv": rival}, resamples=0, permutations=9)
    assert found.undefined == ()
    assert [problem.where for problem in found.problems] == ["old.csv, Joy"]


# Intervals.


def test_few_resamples_and_few_groups_are_told(sample: tuple[Array, Array]) -> None:
    truth, prediction = map(named, sample)
    of_ten = truth.select("Filename").with_columns(Group=pl.Series([str(i % 10) for i in range(len(truth))]))
    told = score(truth, prediction, resamples=1, groups=of_ten).problems
    assert [str(problem) for problem in told] == [
        "intervals: made of 1 resample; expected 200 or more, or 0 for none",
        "groups: 10 alone make intervals too narrow and p too small; expected 20 or more",
    ]
    of_twenty = of_ten.with_columns(Group=pl.Series([str(i % 20) for i in range(len(truth))]))
    assert score(truth, prediction, resamples=200, groups=of_twenty).problems == ()
    compared = compare(truth, {"a": prediction, "b": truth}, resamples=199, groups=of_ten, permutations=9)
    assert [problem.where for problem in compared.problems] == ["intervals", "groups"]


def test_the_interval_is_decided_by_the_seed_which_the_signature_names(sample: tuple[Array, Array]) -> None:
    truth, prediction = map(named, sample)
    first = score(truth, prediction, resamples=200, seed=3)
    assert score(truth, prediction, resamples=200, seed=3) == first
    other = score(truth, prediction, resamples=200, seed=4)
    assert other.interval != first.interval
    assert other.pearson == first.pearson
    assert "|n:400|" in first.signature
    assert "200,clips,seed:3" in first.signature
    assert "seed:4" in other.signature
    none = score(truth, prediction, resamples=0)
    assert none.interval == {}
    assert "ci:none" in none.signature


def test_intervals_hold_the_estimate_and_shrink_with_the_number_of_clips(sample: tuple[Array, Array]) -> None:
    widths = []
    for n in (50, 400):
        found = score(named(sample[0][:n]), named(sample[1][:n]))
        assert list(found.interval) == ["mean_pearson", *EMOTIONS]
        for name, bounds in found.interval.items():
            assert bounds is not None
            value = found.mean_pearson if name == "mean_pearson" else found.pearson[name]
            assert value is not None
            assert bounds[0] < value < bounds[1]
        low, high = found.interval["mean_pearson"] or (0, 0)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(400 / 50), rel=0.35)
