from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.challenge.correlation import mean_pearson
from abaw_emi.challenge.doctor import Smell, diagnose, inspect_values
from tests.challenge.csvs import EMOTIONS
from tests.challenge.worlds import Array, draw_labels, name, predict

N = 400


@pytest.fixture(scope="module")
def labels() -> Array:
    return draw_labels(np.random.default_rng(1), N)


@pytest.fixture(scope="module")
def good(labels: Array) -> Array:
    return predict(np.random.default_rng(2), labels, 0.3)


def kinds(smells: list[Smell]) -> list[str]:
    return [smell.kind for smell in smells]


def smell(labels: Array, values: Array, kind: str) -> str:
    """The message of the one smell there is."""
    (found,) = diagnose(name(labels), name(values))
    assert found.kind == kind
    return str(found.problem)


@given(st.integers(0, 2**32 - 1), st.integers(20, 500), st.floats(0.3, 4.5))
@settings(deadline=None, max_examples=60)
def test_sound_predictions_smell_of_nothing(seed: int, n: int, error: float) -> None:
    rng = np.random.default_rng(seed)
    truth = draw_labels(rng, n)
    prediction = predict(rng, truth, error)
    found = kinds(diagnose(name(truth), name(prediction)))
    assert set(found) <= {"chance"}
    assert mean_pearson(truth, prediction) < 3 / np.sqrt(6 * n) or not found


@pytest.mark.parametrize("shift", [1, -1, 7, -30, 200])
def test_rows_shifted_by_k(labels: Array, good: Array, shift: int) -> None:
    found = smell(labels, np.roll(good, shift, axis=0), "shifted")
    said = shift if abs(shift) < N // 2 else N // 2
    assert f"rows look shifted by {said}: mean r is" in found


def test_rows_shifted_without_a_wrap(labels: Array, good: Array) -> None:
    assert "shifted by 2" in smell(labels, np.concatenate([good[:2], good[:-2]]), "shifted")


def test_values_from_the_last_id_to_the_first(labels: Array, good: Array) -> None:
    assert "from the last id to the first" in smell(labels, good[::-1], "sorted otherwise")


def test_values_in_the_order_of_ids_as_text(labels: Array, good: Array) -> None:
    wide = [f"{i:05}" for i in [*range(5, 105), *range(900, 1200)]]
    order = sorted(range(N), key=lambda i: str(int(wide[i])))
    (found,) = diagnose(
        name(labels).with_columns(Filename=pl.Series(wide)),
        name(good[order]).with_columns(Filename=pl.Series(wide)),
    )
    assert found.kind == "sorted otherwise"
    assert "sorted as text without leading zeros" in str(found.problem)


def test_values_in_the_order_of_a_shuffled_label_file(labels: Array, good: Array) -> None:
    order = np.random.default_rng(3).permutation(N)
    truth = name(labels)[order.tolist()]
    values = name(good[order])  # the i-th value belongs to the i-th label, but stands beside the i-th id
    (found,) = diagnose(truth, values)
    assert "in the label file's order" in str(found.problem)
    written = name(good).with_columns(Filename=pl.Series(name(good)["Filename"].to_list()))[order.tolist()]
    wrong = written.with_columns(name(good).select(EMOTIONS))
    (found,) = diagnose(name(labels), wrong)
    assert "in id order, but given to ids in the file's order" in str(found.problem)


def test_columns_swapped(labels: Array, good: Array) -> None:
    found = smell(labels, good[:, [0, 5, 2, 3, 4, 1]], "columns swapped")
    assert "(Joy holds Amusement, Amusement holds Joy)" in found


def test_a_turned_sign(labels: Array, good: Array) -> None:
    turned = good.copy()
    turned[:, 2] = 1 - turned[:, 2]
    assert "predictions, Determination: r is -" in smell(labels, turned, "sign")


def test_another_order_altogether_is_what_chance_gives(labels: Array, good: Array) -> None:
    order = np.random.default_rng(5).permutation(N)
    assert "what chance gives" in smell(labels, good[order], "chance")


def test_labels_in_place_of_predictions(labels: Array) -> None:
    assert "these are the labels (mean r 1.0000)" in smell(labels, labels, "labels")
    (found,) = inspect_values(name(draw_labels(np.random.default_rng(8), 100)))
    assert found.kind == "labels"


@pytest.mark.parametrize(("decimals", "said"), [(1, "1 decimal,"), (2, "2 decimals,")])
def test_rounded_values_and_how_much_r_that_moves(
    labels: Array, good: Array, decimals: int, said: str
) -> None:
    wide = 0.5 + 10 * (good - 0.5)
    rounded = wide.round(decimals)
    found = [s for s in diagnose(name(labels), name(rounded)) if s.kind == "rounded"]
    assert f"values are rounded to {said} which moves the mean r by about 0." in str(found[0].problem)
    told = float(str(found[0].problem).split("about ")[1].split(";")[0])
    moved = abs(mean_pearson(labels, rounded) - mean_pearson(labels, wide))
    assert moved < 5 * told
    without_labels = [s for s in inspect_values(name(rounded)) if s.kind == "rounded"]
    guess = float(str(without_labels[0].problem).split("about ")[1].split(";")[0])
    assert told / 10 < guess < 10 * told


def test_six_decimals_are_not_rounded(labels: Array, good: Array) -> None:
    assert diagnose(name(labels), name(good.round(6))) == []


def test_clipped_and_saturated_columns(labels: Array, good: Array) -> None:
    values = good.copy()
    values[:, 1] = (values[:, 1] - 0.497).clip(0, None)
    values[:, 4] = np.where(values[:, 4] > 0.497, values[:, 4], 0.497)
    values[:, 5] = 1 / (1 + np.exp(-9_000 * (values[:, 5] - 0.503)))
    found = {str(s.problem).split(":")[0]: s for s in diagnose(name(labels), name(values))}
    assert found["predictions, Amusement"].kind == "clipped"
    assert "are exactly 0: the values look clipped" in str(found["predictions, Amusement"].problem)
    assert found["predictions, Excitement"].kind in ("clipped", "saturated")
    assert found["predictions, Joy"].kind == "saturated"


def test_values_outside_0_to_1_are_told_where_clipping_moves_r(labels: Array, good: Array) -> None:
    found = smell(labels, (good - 0.5) * 30, "outside")
    assert "were scored raw; submit clips them, which moves the mean r from" in found


def test_all_but_identical_to_another_file(labels: Array, good: Array) -> None:
    rng = np.random.default_rng(7)
    near, other = good + 1e-6 * rng.standard_normal(good.shape), predict(rng, labels, 0.3)
    others = {"same.csv": name(good)[::-1], "near.csv": name(near), "other.csv": name(other)}
    found = [str(s.problem) for s in diagnose(name(labels), name(good), others=others)]
    assert found == [
        "predictions: the same values as same.csv; expected another system",
        "predictions: all but identical to (every r > 0.9999) near.csv; expected another system",
    ]


def test_few_clips_and_constant_columns_are_no_hindrance() -> None:
    rng = np.random.default_rng(1)
    labels = draw_labels(rng, 3)
    values = np.full((3, 6), 0.123456789)
    diagnose(name(labels), name(values))
    diagnose(name(labels[:1]), name(values[:1]))
    inspect_values(name(values[:1]))
    assert inspect_values(name(np.full((3, 6), np.nan))) == []
