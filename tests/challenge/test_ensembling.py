from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.challenge.ensembling import ensemble
from abaw_emi.challenge.tables import format_predictions, read_predictions, write_predictions
from abaw_emi.errors import ScoreError
from tests.challenge.csvs import EMOTIONS, to_table


@given(n=st.integers(1, 8), members=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_each_cell_is_the_mean_of_the_members_matched_by_id(n: int, members: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"{number:05}" for number in rng.choice(100_000, n, replace=False)]
    values = rng.normal(size=(members, n, 6))
    tables = {}
    for member, rows in enumerate(values):
        table = to_table({name: row.tolist() for name, row in zip(names, rows, strict=True)})
        tables[f"run{member}"] = table[rng.permutation(n).tolist()].select(reversed(table.columns))
    combined = ensemble(tables)
    assert combined.columns == ["Filename", *EMOTIONS]
    assert combined["Filename"].to_list() == sorted(names)
    for name, *cells in combined.iter_rows():
        expected = [sum(float(v) for v in values[:, names.index(name), k]) / members for k in range(6)]
        assert cells == pytest.approx(expected, abs=1e-14)


def test_the_ensemble_of_one_member_is_that_member(predictions: pl.DataFrame) -> None:
    assert format_predictions(ensemble({"only": predictions})) == format_predictions(predictions)


def test_the_order_of_two_members_does_not_matter(predictions: pl.DataFrame) -> None:
    other = predictions.with_columns(pl.col(EMOTIONS) * 3)
    assert ensemble({"a": predictions, "b": other}).equals(ensemble({"b": other, "a": predictions}))


def test_the_mean_is_taken_in_float64_of_what_the_files_hold(tmp_path: Path) -> None:
    for name, value in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        write_predictions(to_table({"00001": [value] * 6}), tmp_path / f"{name}.csv")
    combined = ensemble({name: read_predictions(tmp_path / f"{name}.csv") for name in "abc"})
    expected = sum(float(np.float32(value)) for value in (0.1, 0.2, 0.4)) / 3
    assert combined.row(0)[1:] == pytest.approx([expected] * 6, abs=1e-16)


def test_members_of_different_clips_are_refused_and_every_difference_is_named(
    predictions: pl.DataFrame,
) -> None:
    ordered = predictions.sort("Filename")
    with pytest.raises(ScoreError) as caught:
        ensemble({"a.csv": ordered[:-1], "b.csv": ordered, "c.csv": ordered[1:-1]})
    assert str(caught.value).splitlines() == [
        "b.csv: 1 id too many, against a.csv: 12679",
        "c.csv: 1 id missing, against a.csv: 12660",
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_clip_that_a_member_holds_twice_is_refused(predictions: pl.DataFrame, first: bool) -> None:
    twice = pl.concat([predictions, predictions.filter(pl.col("Filename") == "12661")])
    members = {"twice.csv": twice, "sound.csv": predictions}
    with pytest.raises(ScoreError, match=r"^twice\.csv: 1 id more than once: 12661"):
        ensemble(dict(sorted(members.items(), reverse=first)))


def test_no_member_is_refused() -> None:
    with pytest.raises(ScoreError, match="no member"):
        ensemble({})
