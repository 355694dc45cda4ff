from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.core.errors import DiagnosticWarning, ScoreError, UsageError
from abaw_emi.data.frames import write_predictions
from abaw_emi.data.tables import format_predictions, read_predictions
from abaw_emi.ensembling.combine import ensemble, find_gaps, find_recipe
from abaw_emi.evaluation.pearson import pearson
from tests.csv_tables import EMOTIONS, to_table
from tests.simulated import draw_labels, predict
from tests.simulated import name as with_ids


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


# Other schemes.


@pytest.fixture
def labelled() -> dict[str, pl.DataFrame]:
    """Labels of 120 clips, and two members' predictions, one of them better."""
    rng = np.random.default_rng(1)
    truth = draw_labels(rng, 120)
    return {"labels": with_ids(truth)} | {
        m: with_ids(predict(rng, truth, e)) for m, e in (("a", 0.4), ("b", 2.0))
    }


def test_a_fitted_scheme_on_its_own_clips_is_out_of_fold_and_elsewhere_uses_the_weights(
    labelled: dict[str, pl.DataFrame],
) -> None:
    truth = labelled["labels"]
    fit = {m: labelled[m] for m in "ab"}
    recipe = find_recipe(truth, fit, "weights")
    assert recipe.report is not None
    assert recipe.weights is not None
    assert recipe.weights[0, 0] > recipe.weights[0, 1]
    own = ensemble(fit, "weights", labels=truth)
    assert own.select(EMOTIONS).to_numpy() == pytest.approx(recipe.report.predictions["weights"])
    rng = np.random.default_rng(2)
    test = {m: with_ids(rng.random((30, 6)), start=12660) for m in "ab"}
    combined = ensemble(test, "weights", labels=truth, fit=fit)
    z = [(t - t.mean(axis=0)) / t.std(axis=0) for t in (test[m].select(EMOTIONS).to_numpy() for m in "ab")]
    expected = recipe.weights[:, 0] * z[0] + recipe.weights[:, 1] * z[1]
    assert pearson(expected, combined.select(EMOTIONS).to_numpy()) == pytest.approx(np.ones(6))
    assert combined["Filename"].to_list() == sorted(test["a"]["Filename"])


def test_out_of_fold_a_clip_that_one_member_lacks_is_combined_by_weights_that_never_saw_its_label(
    labelled: dict[str, pl.DataFrame],
) -> None:
    truth = labelled["labels"]
    members = {"a": labelled["a"], "b": labelled["b"].filter(pl.col("Filename") != "08100")}
    recipe = find_recipe(truth, members, "weights")
    assert recipe.report is not None
    assert "08100" not in recipe.labelled
    found = ensemble(members, "weights", labels=truth, missing="others")
    assert found["Filename"].to_list() == truth["Filename"].to_list()
    rest = pl.col("Filename") != "08100"
    folds = recipe.report.predictions["weights"]
    assert found.filter(rest).select(EMOTIONS).to_numpy() == pytest.approx(folds)
    assert found.filter(~rest).equals(ensemble(members, recipe=recipe, missing="others").filter(~rest))
    assert ensemble(members, "weights", labels=truth, missing="drop").equals(found.filter(rest))
    with pytest.raises(ScoreError, match="b: 1 id missing, against a: 08100"):
        ensemble(members, "weights", labels=truth)


def test_auto_without_labels_and_unknown_names_are_refused(predictions: pl.DataFrame) -> None:
    for method, said in (
        ("auto", "without labels"),
        ("weights", "without labels"),
        ("median", "one of mean"),
    ):
        with pytest.raises(UsageError, match=said):
            ensemble({"a": predictions, "b": predictions}, method)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="missing 'zeros'; expected one of error, drop, others"):
        ensemble({"a": predictions}, missing="zeros")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["mean", "zscores", "ranks"])
def test_what_a_method_does_not_look_at_is_refused(labelled: dict[str, pl.DataFrame], method: str) -> None:
    members = {m: labelled[m] for m in "ab"}
    for extra in ({"labels": labelled["labels"]}, {"fit": members}, {"groups": labelled["labels"]}):
        with pytest.raises(UsageError, match=f"^ensemble: {next(iter(extra))} beside method {method}, which"):
            ensemble(members, method, **extra)  # type: ignore[arg-type]
    recipe = find_recipe(labelled["labels"], members, "weights")
    with pytest.raises(UsageError, match="ensemble: labels beside"):
        ensemble(members, recipe=recipe, labels=labelled["labels"])


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
@pytest.mark.parametrize("method", ["mean", "ranks", "weights"])
def test_a_value_that_is_not_finite_is_refused_with_its_member_and_its_clip(
    labelled: dict[str, pl.DataFrame], method: str, value: float | None
) -> None:
    bad = labelled["b"].with_columns(
        Joy=pl.when(pl.col("Filename") == "08080").then(pl.lit(value, pl.Float64)).otherwise(pl.col("Joy"))
    )
    labels = labelled["labels"] if method == "weights" else None
    with pytest.raises(ScoreError) as caught:
        ensemble({"a": labelled["a"], "b": bad}, method, labels=labels)  # type: ignore[arg-type]
    assert str(caught.value) == "b, Joy: 1 id with a value that is not finite: 08080; expected finite numbers"


def test_weights_go_to_the_members_they_were_fitted_on_in_whatever_order_these_are_named(
    labelled: dict[str, pl.DataFrame],
) -> None:
    truth, rng = labelled["labels"], np.random.default_rng(2)
    test = {m: with_ids(rng.random((30, 6)), start=12660) for m in "ab"}
    expected = ensemble(test, "weights", labels=truth, fit={m: labelled[m] for m in "ab"})
    assert ensemble(test, "weights", labels=truth, fit={m: labelled[m] for m in "ba"}).equals(expected)
    with pytest.raises(UsageError, match="ensemble: fit has a, c; expected the members' names: a, b"):
        ensemble(test, "weights", labels=truth, fit={"a": labelled["a"], "c": labelled["b"]})


def test_members_that_saw_the_labelled_clips_or_hold_their_labels_are_refused_together(
    labelled: dict[str, pl.DataFrame],
) -> None:
    truth = labelled["labels"]
    members = {"a": labelled["a"], "b": truth}
    with pytest.raises(ScoreError) as caught:
        ensemble(members, "auto", labels=truth, trained_on={"a": ["08080", "00001"]})
    assert str(caught.value).splitlines() == [
        "a: it was trained on 1 of the clips of labels; expected predictions of clips that it has not seen",
        "b: these are the labels (mean r 1.0000); expected predictions",
    ]


def test_likely_mistakes_are_python_warnings(labelled: dict[str, pl.DataFrame]) -> None:
    members = {"a": labelled["a"], "copy": labelled["a"], "same": labelled["b"].with_columns(Joy=pl.lit(0.5))}
    with pytest.warns(DiagnosticWarning) as warned:
        ensemble(members)
    assert [str(warning.message) for warning in warned] == [
        "a: the same values as copy; expected another system",
        "same, Joy: every clip has the same value; expected values that differ: r is undefined",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ensemble({m: labelled[m] for m in "ab"}, "zscores")


def test_a_member_of_another_scale_is_named_where_a_plain_mean_is_taken(
    labelled: dict[str, pl.DataFrame],
) -> None:
    percent = labelled["b"].with_columns(pl.col(EMOTIONS) * 100)
    with pytest.warns(DiagnosticWarning, match=r"^a: its values spread \d+ times less than"):
        ensemble({"a": labelled["a"], "percent": percent})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ensemble({"a": labelled["a"], "percent": percent}, "ranks")
        ensemble({"a": labelled["a"], "half": labelled["b"].with_columns(pl.col(EMOTIONS) / 2)})


def test_one_member_or_no_shared_clip_cannot_be_weighed(labelled: dict[str, pl.DataFrame]) -> None:
    with pytest.raises(ScoreError, match="1 member; expected two at least"):
        find_recipe(labelled["labels"], {"a": labelled["a"]})
    with pytest.raises(ScoreError, match="0 clips of labels that all members have"):
        find_recipe(labelled["labels"], {"a": labelled["a"][:60], "b": labelled["b"][60:]})


def test_a_clip_that_a_member_lacks_is_refused_left_out_or_left_to_the_others(
    predictions: pl.DataFrame,
) -> None:
    ordered = predictions.sort("Filename")
    other = ordered.with_columns(pl.col(EMOTIONS) / 2)[1:]
    members = {"a": ordered, "b": other}
    assert find_gaps(members) == {"b": ["12660"]}
    with pytest.raises(ScoreError, match="b: 1 id missing, against a: 12660"):
        ensemble(members)
    assert ensemble(members, missing="drop").equals(ensemble({"a": ordered[1:], "b": other}))
    left = ensemble(members, missing="others")
    assert left[0].equals(ordered[0])
    assert left[1:].equals(ensemble(members, missing="drop"))
    with pytest.raises(ScoreError, match="no clip that all members have"):
        ensemble({"a": ordered[:2], "b": ordered[2:]}, missing="drop")
