"""Files, polars and pandas frames give the same answers, matched by Filename in whatever form ids have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import abaw_emi
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError
from abaw_emi.data.provenance import Provenance, write_with_provenance

FORMS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "path": lambda table, path: write(table, path),
    "text": lambda table, path: str(write(table, path)),
    "polars": lambda table, _: table.sample(fraction=1, shuffle=True, seed=3),
    "lazy": lambda table, _: table.lazy(),
    "integers": lambda table, _: table.with_columns(pl.col(FILENAME).cast(pl.Int64)),
    "pandas": lambda table, _: to_pandas(table).iloc[::-1],
    "pandas, integers": lambda table, _: to_pandas(table).astype({FILENAME: int}),
    "pandas, by index": lambda table, _: to_pandas(table).set_index(FILENAME),
    "further columns": lambda table, _: table.with_columns(note=pl.lit("x")),
}


def write(table: pl.DataFrame, path: Path) -> Path:
    path.write_bytes(table.write_csv().encode())
    return path


def to_pandas(table: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(table.to_dict(as_series=False))


def make(seed: int, error: float, rows: int = 40) -> pl.DataFrame:
    truth = np.random.default_rng(0).random((rows, 6))
    values = (truth + error * np.random.default_rng(seed).random((rows, 6))) / (1 + error)
    return pl.DataFrame(
        {FILENAME: [f"{i:05}" for i in range(rows)], **dict(zip(EMOTIONS, values.T, strict=True))}
    )


def without_ids(table: pl.DataFrame) -> pl.DataFrame:
    ids = table[FILENAME].to_list()
    return table.with_columns(pl.Series(FILENAME, [*ids[:3], None, *ids[4:7], " ", *ids[8:]]))


LABELS, NEW, OLD = make(1, 0), make(2, 0.5), make(3, 2)
GROUPS = pl.DataFrame({FILENAME: LABELS[FILENAME], "speaker": [i // 4 for i in range(len(LABELS))]})


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form: str, tmp_path: Path) -> None:
    labels, new, old, groups = (
        FORMS[form](table, tmp_path / name)
        for table, name in ((LABELS, "v.csv"), (NEW, "n.csv"), (OLD, "o.csv"), (GROUPS, "g.csv"))
    )
    if form == "further columns":
        groups = GROUPS
    expected = [np.corrcoef(LABELS[e], NEW[e])[0, 1] for e in EMOTIONS]
    found = abaw_emi.score(labels, new, against={"old": old}, groups=groups, resamples=20, permutations=20)
    assert list(found.pearson.values()) == pytest.approx(expected, abs=1e-12)
    assert found.groups == 10
    assert found.against["old"].difference["mean_pearson"] > 0
    np.testing.assert_allclose(abaw_emi.pearson(labels, new), expected, rtol=0, atol=1e-12)
    assert abaw_emi.mean_pearson(labels, new) == pytest.approx(np.mean(expected), abs=1e-12)
    compared = abaw_emi.compare(labels, {"new": new, "old": old}, groups=groups, resamples=0, permutations=20)
    assert list(compared.scores) == ["new", "old"]
    both = abaw_emi.ensemble({"new": new, "old": old})
    np.testing.assert_allclose(both["Joy"], (NEW["Joy"] + OLD["Joy"]) / 2, rtol=0, atol=1e-7)
    assert both[FILENAME].to_list() == LABELS[FILENAME].to_list()
    fitted = abaw_emi.ensemble({"new": new, "old": old}, "weights", labels=labels, groups=groups)
    assert len(fitted) == len(LABELS)


def test_arrays_of_anything_but_six_columns_have_no_mean_pearson() -> None:
    values = np.random.default_rng(0).random((9, 7))
    with pytest.raises(EmiError, match=r"^mean_pearson: shape \(9, 7\); expected \(N, 6\)"):
        abaw_emi.mean_pearson(values, values)
    with pytest.raises(EmiError, match=r"^mean_pearson: shape \(9,"):
        abaw_emi.mean_pearson(values[:, 0], values[:, 0])
    with pytest.raises(EmiError, match=r"^predictions: a ndarray"):
        abaw_emi.mean_pearson(LABELS, LABELS.select(EMOTIONS).to_numpy())


def test_the_record_beside_a_file_is_read_with_it(tmp_path: Path) -> None:
    record = Provenance(command="test", trained_on=frozenset(LABELS[FILENAME][:7]), trained_on_complete=True)
    write_with_provenance(NEW, tmp_path / "new.csv", record)
    found = abaw_emi.score(LABELS, tmp_path / "new.csv", resamples=0)
    assert found.seen == 7
    assert any("SEEN IN TRAINING" in str(problem) for problem in found.problems)
    compared = abaw_emi.compare(LABELS, {"new": tmp_path / "new.csv", "old": OLD}, resamples=0)
    assert compared.scores["new"].seen == 7


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (LABELS.drop("Joy", "Excitement"), "predictions: column Excitement is missing"),
        (LABELS.with_columns(Joy=pl.lit("0.5")), "predictions, Joy: String values; expected numbers"),
        ([1, 2], "predictions: a list; expected a path, or a frame of polars or pandas"),
        (
            LABELS.with_columns(Joy=pl.lit(None, pl.Float64)),
            "predictions, Joy: 40 ids with a value that is not",
        ),
        (pl.concat([LABELS, LABELS[:1]]), "predictions: 1 id more than once: 00000"),
        (without_ids(LABELS), "predictions, Filename: no id in 2 of 40 rows, from 0: 3, 7; expected an id"),
        (
            to_pandas(without_ids(LABELS)),
            "predictions, Filename: no id in 2 of 40 rows, from 0: 3, 7; expected an id",
        ),
    ],
)
def test_a_frame_that_cannot_be_used_is_described(frame: object, message: str) -> None:
    with pytest.raises(EmiError) as caught:
        abaw_emi.score(LABELS, frame)
    assert str(caught.value.problems[0]).startswith(message)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_checked_and_submitted_with_ids_of_any_kind(form: str, tmp_path: Path) -> None:
    given = FORMS[form](NEW, tmp_path / "n.csv")
    written = abaw_emi.write_predictions(given, str(tmp_path / "written.csv"))
    assert written == tmp_path / "written.csv"
    assert written.read_bytes() == abaw_emi.write_predictions(NEW, tmp_path / "expected.csv").read_bytes()
    numbers = list(range(len(NEW)))
    assert abaw_emi.check_submission(given, numbers).problems == ()
    made = abaw_emi.write_submission(given, numbers, str(tmp_path / "submissions"), name="mine")
    for ids in (numbers, NEW[FILENAME].to_list()):
        assert abaw_emi.check_path(made.archive, ids).problems == ()


def test_a_rival_may_have_the_name_that_messages_give_the_predictions() -> None:
    flat = OLD.with_columns(Joy=pl.lit(0.5))
    found = abaw_emi.score(LABELS, NEW, against={"predictions": flat}, resamples=0, permutations=20)
    assert found.mean_pearson == abaw_emi.score(LABELS, NEW, resamples=0).mean_pearson
    assert list(found.against) == ["predictions"]
    flat_itself = abaw_emi.score(LABELS, flat, against={"predictions": NEW}, resamples=0, permutations=20)
    assert any("the predictions are constant" in str(problem) for problem in flat_itself.problems)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.concat([NEW, NEW[:1]]), r"predictions: 1 id more than once: 00000"),
        (
            NEW.with_columns(Joy=pl.lit(float("nan"))),
            r"predictions, Joy: 40 ids with a value that is not finite",
        ),
        (NEW.with_columns(Joy=pl.lit(1e39)), r"predictions, Joy: 40 ids with a value that is not finite"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    frame: pl.DataFrame, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EmiError, match=message):
        abaw_emi.write_predictions(frame, tmp_path / "p.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [lambda table: table, to_pandas])
def test_a_frame_of_groups_is_refused_like_a_file(form: Callable[[pl.DataFrame], Any]) -> None:
    speakers = [str(speaker) for speaker in GROUPS["speaker"]]
    groups = GROUPS.with_columns(pl.Series("speaker", [None, *speakers[1:]]))
    again = pl.concat([groups, groups[5:6].with_columns(speaker=pl.lit("x"))])
    with pytest.raises(EmiError) as caught:
        abaw_emi.score(LABELS, NEW, groups=form(again))
    assert [str(problem) for problem in caught.value.problems] == [
        "groups: 1 id more than once: 00005; expected each id once",
        "groups, speaker: 1 id without a group: 00000",
    ]


def test_tables_without_names_are_refused() -> None:
    message = "a list; expected a dict of tables by name"
    for call in (
        lambda: abaw_emi.ensemble([NEW, OLD]),  # type: ignore[arg-type]
        lambda: abaw_emi.compare(LABELS, [NEW, OLD]),  # type: ignore[arg-type]
        lambda: abaw_emi.score(LABELS, NEW, against=[OLD]),  # type: ignore[arg-type]
    ):
        with pytest.raises(EmiError, match=message):
            call()
