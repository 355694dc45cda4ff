"""A run folder stands for its predictions of what it held out, wherever Python takes predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import abaw_emi
from abaw_emi.core.errors import EmiError
from abaw_emi.data.provenance import Provenance, write_with_provenance
from tests.simulated import draw_labels, name, predict

RNG = np.random.default_rng(6)
TRUTH = draw_labels(RNG, 60)
LABELS, A, B = (name(values) for values in (TRUTH, predict(RNG, TRUTH, 3), predict(RNG, TRUTH, 4)))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run, table in (("one", A), ("two", B)):
        record = Provenance(command="train", split="valid", trained_on=frozenset(["08072"]))
        write_with_provenance(table, tmp_path / "runs" / run / "valid_predictions.csv", record)
    return tmp_path / "runs"


def test_run_folders_are_read_with_their_records(runs: Path) -> None:
    one, two = runs / "one", str(runs / "two")
    found = abaw_emi.score(LABELS, one, against={"two": two}, resamples=0)
    assert (found.seen, list(found.against)) == (1, ["two"])
    compared = abaw_emi.compare(LABELS, {"one": one, "two": two}, resamples=0)
    assert {system: each.seen for system, each in compared.scores.items()} == {"one": 1, "two": 1}
    both = abaw_emi.ensemble({"one": one, "two": two})
    np.testing.assert_allclose(both["Joy"], (A["Joy"] + B["Joy"]) / 2, rtol=0, atol=1e-7)
    assert abaw_emi.mean_pearson(LABELS, one) == found.mean_pearson
    found_alike = [str(each) for each in abaw_emi.diagnose(LABELS, one, others={"copy": one, "two": two})]
    assert "predictions: the same values as copy; expected another system" in found_alike


def test_other_folders_are_refused_with_what_may_be_meant(runs: Path) -> None:
    (runs / "empty").mkdir()
    abaw_emi.write_predictions(LABELS, runs.parent / "valid_split.csv")
    calls: list[tuple[Any, Any, str]] = [
        (LABELS, runs, f"{runs}: a folder without valid_predictions.csv; expected a CSV, or a run folder; "),
        (LABELS, runs / "empty", f"{runs / 'empty'}: a folder without valid_predictions.csv"),
        (runs.parent, A, f"{runs.parent}: a folder; expected a label file; did you mean "),
    ]
    for truth, prediction, message in calls:
        with pytest.raises(EmiError) as caught:
            abaw_emi.score(truth, prediction)
        assert str(caught.value).startswith(message)
    with pytest.raises(EmiError, match=f"did you mean {runs / 'one'}"):
        abaw_emi.ensemble({"all": runs})


@pytest.mark.parametrize("form", ["pandas", "integers", "files"])
def test_diagnose_takes_tables_of_any_form(form: str, tmp_path: Path) -> None:
    def give(table: pl.DataFrame, file: str) -> Any:
        if form == "pandas":
            return pd.DataFrame(table.to_dict(as_series=False)).iloc[::-1]
        if form == "integers":
            return table.with_columns(pl.col("Filename").cast(pl.Int64))
        return abaw_emi.write_predictions(table, tmp_path / file)

    expected = abaw_emi.diagnose(LABELS, A, others={"again": A})
    assert [found.code for found in expected] == ["duplicate"]
    again = {"again": give(A, "a.csv")}
    assert abaw_emi.diagnose(give(LABELS, "v.csv"), give(A, "p.csv"), others=again) == expected


def test_diagnose_names_ids_that_are_missing() -> None:
    with pytest.raises(EmiError, match=r"^predictions: 10 ids missing, against labels: 08122"):
        abaw_emi.diagnose(LABELS, A[:50])
