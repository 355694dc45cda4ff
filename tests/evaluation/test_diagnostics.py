from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.core.errors import Diagnostic
from abaw_emi.evaluation.diagnostics import diagnose, inspect_values
from abaw_emi.evaluation.pearson import mean_pearson
from tests.csv_tables import EMOTIONS
from tests.simulated import Array, draw_labels, name, predict

N = 400


@pytest.fixture(scope="module")
def labels() -> Array:
    return draw_labels(np.random.default_rng(1), N)


@pytest.fixture(scope="module")
def good(labels: Array) -> Array:
    return predict(np.random.default_rng(2), labels, 0.3)


def codes(diagnostics: list[Diagnostic]) -> list[str]:
    return [each.code for each in diagnostics]


def only(labels: Array, values: Array, code: str) -> str:
    """The message of the one diagnostic there is."""
    (found,) = diagnose(name(labels), name(values))
    assert found.code == code
    return str(found)


@given(st.integers(0, 2**32 - 1), st.integers(20, 500), st.floats(0.3, 4.5))
@settings(deadline=None, max_examples=60)
def test_sound_predictions_have_no_diagnostic(seed: int, n: int, error: float) -> None:
    rng = np.random.default_rng(seed)
    truth = draw_labels(rng, n)
    prediction = predict(rng, truth, error)
    found = codes(diagnose(name(truth), name(prediction)))
    assert set(found) <= {"chance"}
    assert mean_pearson(truth, prediction) < 3 / np.sqrt(6 * n) or not found


@pytest.mark.parametrize("shift", [1, -1, 7, -30, 200])
def test_rows_shifted_by_k(labels: Array, good: Array, shift: int) -> None:
    found = only(labels, np.roll(good, shift, axis=0), "shifted")
    said = shift if abs(shift) < N // 2 else N // 2
    assert f"rows look shifted by {said}: mean r is" in found


def test_rows_shifted_without_a_wrap(labels: Array, good: Array) -> None:
    assert "shifted by 2" in only(labels, np.concatenate([good[:2], good[:-2]]), "shifted")


@pytest.fixture(scope="module")
def official() -> tuple[Array, Array]:
    """Labels and predictions of 4,588 clips, with a mean r of some .4."""
    rng = np.random.default_rng(6)
    labels = draw_labels(rng, 4588)
    return labels, predict(rng, labels, 0.55)


@pytest.mark.parametrize("row", [700, 2000, 3900])
def test_a_row_too_many_shifts_only_what_follows_it(official: tuple[Array, Array], row: int) -> None:
    labels, system = official
    found = only(labels, np.concatenate([system[:row], system[:1], system[row:-1]]), "shifted")
    told = re.search(r"rows look shifted by 1 from (\d+) on: mean r is (\S+), and (\S+) when put", found)
    assert told is not None, found
    assert abs(int(told[1]) - 8072 - row) < 12
    assert float(told[2]) < float(told[3]) == pytest.approx(mean_pearson(labels, system), abs=0.002)


def test_parts_in_another_order_and_parts_in_between(official: tuple[Array, Array]) -> None:
    labels, system = official
    parts = [system[i * 400 : (i + 1) * 400] for i in sorted(range(12), key=str)]  # 0, 1, 10, 11, 2, ...
    found = only(labels, np.concatenate(parts), "shifted")
    assert re.search(r"shifted by 588 from 088\d\d to 120\d\d, by 1388 from 120\d\d on", found), found
    lost = np.concatenate([system[:1500], system[1501:3000], system[:1], system[3000:]])
    found = only(labels, lost, "shifted")
    assert re.search(r"shifted by -1 from 095\d\d to 110\d\d: mean", found), found


@pytest.mark.parametrize("signal", [0.0, 0.5])
def test_speakers_and_huge_values_are_no_shift(signal: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        speaker = np.arange(3100) // 31
        labels = draw_labels(rng, 3100)
        labels *= rng.uniform(0, 1, (100, 6))[speaker] < 0.3  # what a speaker never mimics
        error = rng.standard_normal((100, 6))[speaker] + rng.standard_normal(labels.shape)
        values = 0.1 + 0.01 * np.exp(4 * signal * labels + error)
        assert not {"shifted", "sorted otherwise"}.intersection(codes(diagnose(name(labels), name(values))))


def test_values_from_the_last_id_to_the_first(labels: Array, good: Array) -> None:
    assert "from the last id to the first" in only(labels, good[::-1], "sorted otherwise")


def test_values_in_the_order_of_ids_as_text(labels: Array, good: Array) -> None:
    wide = [f"{i:05}" for i in [*range(5, 105), *range(900, 1200)]]
    order = sorted(range(N), key=lambda i: str(int(wide[i])))
    (found,) = diagnose(
        name(labels).with_columns(Filename=pl.Series(wide)),
        name(good[order]).with_columns(Filename=pl.Series(wide)),
    )
    assert found.code == "sorted otherwise"
    assert "sorted as text without leading zeros" in str(found)


def test_ids_sorted_as_text_are_not_called_a_long_shift(official: tuple[Array, Array]) -> None:
    labels, system = official  # from 08072 to 12659: as text, 10000 comes first
    order = sorted(range(4588), key=lambda i: str(8072 + i))
    assert "sorted as text without leading zeros" in only(labels, system[order], "sorted otherwise")


def test_values_in_the_order_of_a_shuffled_label_file(labels: Array, good: Array) -> None:
    order = np.random.default_rng(3).permutation(N)
    truth = name(labels)[order.tolist()]
    values = name(good[order])  # the i-th value belongs to the i-th label, but stands beside the i-th id
    (found,) = diagnose(truth, values)
    assert "in the label file's order" in str(found)
    written = name(good).with_columns(Filename=pl.Series(name(good)["Filename"].to_list()))[order.tolist()]
    wrong = written.with_columns(name(good).select(EMOTIONS))
    (found,) = diagnose(name(labels), wrong)
    assert "in id order, but given to ids in the file's order" in str(found)


def test_columns_swapped(labels: Array, good: Array) -> None:
    found = only(labels, good[:, [0, 5, 2, 3, 4, 1]], "columns swapped")
    assert "(Joy holds Amusement, Amusement holds Joy)" in found


def test_a_turned_sign(labels: Array, good: Array) -> None:
    turned = good.copy()
    turned[:, 2] = 1 - turned[:, 2]
    assert "predictions, Determination: r is -" in only(labels, turned, "sign")


def test_all_signs_turned_are_no_swapped_columns(labels: Array, good: Array) -> None:
    found = diagnose(name(labels), name(1 - good))
    assert codes(found) == ["sign"] * 6


def test_another_order_altogether_is_what_chance_gives(labels: Array, good: Array) -> None:
    order = np.random.default_rng(5).permutation(N)
    assert "what chance gives" in only(labels, good[order], "chance")


def test_labels_in_place_of_predictions(labels: Array) -> None:
    assert "these are the labels (mean r 1.0000)" in only(labels, labels, "labels")
    (found,) = inspect_values(name(draw_labels(np.random.default_rng(8), 100)))
    assert found.code == "labels"


def test_labels_and_predictions_given_the_other_way_round(labels: Array, good: Array) -> None:
    assert "values look like labels" in only(good, labels, "labels")


@pytest.mark.parametrize(("decimals", "said"), [(1, "1 decimal,"), (2, "2 decimals,")])
def test_rounded_values_and_how_much_r_that_moves(
    labels: Array, good: Array, decimals: int, said: str
) -> None:
    wide = 0.5 + 10 * (good - 0.5)
    rounded = wide.round(decimals)
    found = [s for s in diagnose(name(labels), name(rounded)) if s.code == "rounded"]
    assert f"values are rounded to {said} which moves the mean r by about 0." in str(found[0])
    told = float(str(found[0]).split("about ")[1].split(";")[0])
    moved = abs(mean_pearson(labels, rounded) - mean_pearson(labels, wide))
    assert moved < 5 * told
    without_labels = [s for s in inspect_values(name(rounded)) if s.code == "rounded"]
    guess = float(str(without_labels[0]).split("about ")[1].split(";")[0])
    assert told / 10 < guess < 10 * told


def test_six_decimals_are_not_rounded(labels: Array, good: Array) -> None:
    assert diagnose(name(labels), name(good.round(6))) == []


def test_clipped_and_saturated_columns(labels: Array, good: Array) -> None:
    values = good.copy()
    values[:, 1] = (values[:, 1] - 0.497).clip(0, None)
    values[:, 4] = np.where(values[:, 4] > 0.497, values[:, 4], 0.497)
    values[:, 5] = 1 / (1 + np.exp(-9_000 * (values[:, 5] - 0.503)))
    found = {str(s).split(":")[0]: s for s in diagnose(name(labels), name(values))}
    assert found["predictions, Amusement"].code == "clipped"
    assert "are exactly 0: the values look clipped" in str(found["predictions, Amusement"])
    assert found["predictions, Excitement"].code in ("clipped", "saturated")
    assert found["predictions, Joy"].code == "saturated"


def test_values_outside_0_to_1_are_told_where_clipping_moves_r(labels: Array, good: Array) -> None:
    found = only(labels, (good - 0.5) * 30, "outside")
    assert "were scored raw; submit clips them, which moves the mean r from" in found


def test_clipping_that_hardly_moves_r_is_not_told(labels: Array, good: Array) -> None:
    near = (good - good.mean(axis=0)) * 8 + 0.5
    near[0] = 1.01
    moved = mean_pearson(labels, near) - mean_pearson(labels, near.clip(0, 1))
    assert 0 < abs(moved) < 0.002
    assert diagnose(name(labels), name(near)) == []


def test_all_but_identical_to_another_file(labels: Array, good: Array) -> None:
    rng = np.random.default_rng(7)
    near, other = good + 1e-6 * rng.standard_normal(good.shape), predict(rng, labels, 0.3)
    others = {"same.csv": name(good)[::-1], "near.csv": name(near), "other.csv": name(other)}
    found = [str(s) for s in diagnose(name(labels), name(good), others=others)]
    assert found == [
        "predictions: the same values as same.csv; expected another system",
        "predictions: all but identical to (every r > 0.9999) near.csv; expected another system",
    ]


def test_columns_that_are_constant_in_one_file_only_are_not_identical(labels: Array, good: Array) -> None:
    one, other = good.copy(), good.copy()
    one[:, 5] = 0.123456
    assert inspect_values(name(one), others={"other": name(other)}) == []
    assert (
        inspect_values(name(np.full_like(good, 0.123456)), others={"b": name(np.full_like(good, 0.234567))})
        == []
    )
    other[:, 5] = 0.234567
    assert codes(inspect_values(name(one), others={"other": name(other)})) == ["duplicate"]


def test_few_clips_and_constant_columns_are_no_hindrance() -> None:
    rng = np.random.default_rng(1)
    labels = draw_labels(rng, 3)
    values = np.full((3, 6), 0.123456789)
    diagnose(name(labels), name(values))
    diagnose(name(labels[:1]), name(values[:1]))
    inspect_values(name(values[:1]))
    assert inspect_values(name(np.full((3, 6), np.nan))) == []


def test_clips_with_one_and_the_same_prediction_do_not_look_clipped() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((200, 6))
    values[:10] = -0.1  # of clips in which nothing is said
    names = {"Filename": [f"{number:05}" for number in range(200)]}
    table = pl.DataFrame(names | dict(zip(EMOTIONS, values.T, strict=True)))
    assert not [found for found in inspect_values(table, name="p") if "look clipped" in str(found)]
    values[:10, 1:] = rng.random((10, 5))
    table = pl.DataFrame(names | dict(zip(EMOTIONS, values.T, strict=True)))
    (found,) = [found for found in inspect_values(table, name="p") if "look clipped" in str(found)]
    assert found.where == "p, Admiration"
