"""What Python is given for ids, profiles, choices and folders is read, or refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import abaw_emi
from abaw_emi.core.errors import EmiError
from tests.simulated import draw_labels, name, predict

RNG = np.random.default_rng(9)
TABLE = name(predict(RNG, draw_labels(RNG, 30), 3))
IDS = TABLE["Filename"].to_list()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TABLE.select("Filename").write_csv(tmp_path / "test_split.csv")
    (tmp_path / "rules.toml").write_text('id_form = "plain"\n')
    (tmp_path / "submissions").mkdir()
    return tmp_path


GIVEN: dict[str, Callable[[Path], Any]] = {
    "a file": lambda folder: folder / "test_split.csv",
    "text": lambda folder: str(folder / "test_split.csv"),
    "a frame": lambda _: TABLE,
    "a pandas frame": lambda _: pd.DataFrame({"Filename": [int(clip) for clip in IDS]}),
    "a series": lambda _: pd.Series(IDS),
}


@pytest.mark.parametrize("form", GIVEN)
def test_test_ids_are_read_from_every_form(form: str, folder: Path) -> None:
    ids = GIVEN[form](folder)
    assert abaw_emi.check_submission(TABLE, ids).problems == ()
    (missing,) = abaw_emi.check_submission(TABLE[1:], ids).problems
    assert str(missing) == f"submission: 1 id missing, against the test ids: {IDS[0]}"
    made = abaw_emi.write_submission(TABLE, ids, folder / "submissions")
    assert abaw_emi.check_path(made.archive, ids).problems == ()
    with pytest.raises(EmiError, match=f"1 id missing, against the test ids: {IDS[0]}; .*fill=LABELS"):
        abaw_emi.write_submission(TABLE[1:], ids, folder / "submissions")


def test_no_test_ids_are_refused(folder: Path) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda ids: abaw_emi.check_submission(TABLE, ids),
        lambda ids: abaw_emi.check_path(folder / "submissions", ids),
        lambda ids: abaw_emi.write_submission(TABLE, ids, folder / "submissions"),
    ]
    for call in calls:
        with pytest.raises(EmiError, match=r"^test_ids: no id; expected those of the test clips$"):
            call([])
        with pytest.raises(EmiError, match=r"^test_ids: column Filename is missing"):
            call(pl.DataFrame({"id": IDS}))
        with pytest.raises(EmiError, match=r": a folder; expected a list of ids.*; read_test_ids lists"):
            call(folder)


def test_a_profile_is_read_from_its_file(folder: Path) -> None:
    read = abaw_emi.read_profile(folder / "rules.toml")
    for profile in (folder / "rules.toml", str(folder / "rules.toml")):
        made = abaw_emi.write_submission(TABLE, IDS, folder / "submissions", profile=profile, dry_run=True)
        assert made.manifest["profile"] == read.to_json()
        assert abaw_emi.check_submission(TABLE, IDS, profile=profile).problems == ()
        abaw_emi.write_predictions(TABLE, folder / "padded.csv")
        assert abaw_emi.check_path(folder / "padded.csv", IDS, profile=profile).problems
    given: Any = {"id_form": "plain"}
    with pytest.raises(EmiError, match=r"^profile: a dict; expected what read_profile returns"):
        abaw_emi.check_submission(TABLE, IDS, profile=given)


def test_unknown_choices_are_refused_in_a_line(folder: Path) -> None:
    bounds: Any = "clipp"
    kind: Any = "prediction"
    with pytest.raises(EmiError, match=r"^bounds: 'clipp'; expected one of .*; did you mean clip\?$"):
        abaw_emi.write_submission(TABLE, IDS, folder / "submissions", bounds=bounds)
    with pytest.raises(EmiError, match=r"^kind: 'prediction'; .*; did you mean predictions\?$"):
        abaw_emi.check_path(folder / "submissions", IDS, kind)
    with pytest.raises(EmiError, match=r"^name: 'a/b'; expected a plain folder name"):
        abaw_emi.write_submission(TABLE, IDS, folder / "submissions", name="a/b")


def test_the_ledger_is_read_from_its_file_and_no_other_file_is_an_empty_one(folder: Path) -> None:
    made = abaw_emi.write_submission(TABLE, IDS, folder / "submissions")
    (entry,) = abaw_emi.read_ledger(folder / "submissions" / "ledger.jsonl").entries
    assert entry.name == made.folder.name
    with pytest.raises(EmiError, match=r"rules\.toml: a file; expected the folder of submissions"):
        abaw_emi.read_ledger(folder / "rules.toml")
