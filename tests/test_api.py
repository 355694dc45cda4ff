"""The same question asked of the command line and of the Python API has the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import abaw_emi
from abaw_emi.ensembling.combine import METHODS
from tests.cli.conftest import environment
from tests.cli.regenerate import write_files
from tests.csv_tables import EMOTIONS


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


def say(folder: Path, line: str) -> dict[str, object]:
    import subprocess
    import sys

    command = [sys.executable, "-m", "abaw_emi", *line.split(), "--json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_score(files: Path) -> None:
    told = say(files, "score new.csv valid.csv --against old.csv --groups groups.csv --interval bca --seed 3")
    found = abaw_emi.score(
        abaw_emi.read_labels(files / "valid.csv"),
        abaw_emi.read_predictions(files / "new.csv"),
        against={"old.csv": abaw_emi.read_predictions(files / "old.csv")},
        groups=abaw_emi.read_groups(files / "groups.csv"),
        method="bca",
        seed=3,
        names=("valid.csv", "new.csv"),
    )
    assert told["mean_pearson"] == found.mean_pearson
    assert told["signature"] == found.signature
    assert told["interval"] == {key: list(bounds or ()) for key, bounds in found.interval.items()}
    (difference,) = told["against"]  # type: ignore[misc]
    assert difference["p_holm"] == found.against["old.csv"].p_holm
    assert difference["detectable"] == found.against["old.csv"].detectable


def test_compare(files: Path) -> None:
    told = say(files, "compare new.csv old.csv worse.csv valid.csv --bootstrap 100")
    names = ("new.csv", "old.csv", "worse.csv")
    systems = {name: abaw_emi.read_predictions(files / name) for name in names}
    found = abaw_emi.compare(abaw_emi.read_labels(files / "valid.csv"), systems, resamples=100)
    assert {**told, "problems": []} == {**json.loads(found.render("json")), "problems": []}


@pytest.mark.parametrize("method", METHODS)
def test_ensemble(files: Path, method: str) -> None:
    fit = "" if method in ("mean", "zscores", "ranks") else "--fit new.csv old.csv --labels valid.csv"
    say(files, f"ensemble --preds new-test.csv old-test.csv {fit} --method {method}")
    written = abaw_emi.read_predictions(files / "predictions" / "ensemble-test.csv")
    combined = abaw_emi.ensemble(
        {name: abaw_emi.read_predictions(files / f"{name}-test.csv") for name in ("new", "old")},
        method,  # type: ignore[arg-type]
        labels=abaw_emi.read_labels(files / "valid.csv"),
        fit={name: abaw_emi.read_predictions(files / f"{name}.csv") for name in ("new", "old")},
    )
    assert written["Filename"].to_list() == combined["Filename"].to_list()
    expected = combined.select(EMOTIONS).to_numpy()
    assert written.select(EMOTIONS).to_numpy() == pytest.approx(expected, abs=1e-6)


def test_check_submission(files: Path) -> None:
    say(files, "submit --preds new-test.csv --name mine")
    archive = files / "submissions" / "mine" / "mine.zip"
    ids = abaw_emi.read_predictions(files / "new-test.csv")["Filename"].to_list()
    assert abaw_emi.check_submission(archive, ids).problems == ()
    assert len(abaw_emi.check_submission(archive, ids[1:]).problems) == 1
    strict = abaw_emi.read_profile(files / "rules.toml")
    assert len(abaw_emi.check_submission(archive, ids, profile=strict).problems) == 16
    (entry,) = abaw_emi.read_ledger(files / "submissions").entries
    assert entry.name == "mine"


def test_every_public_name_is_there() -> None:
    for name in abaw_emi.__all__:
        assert getattr(abaw_emi, name).__doc__
    with pytest.raises(AttributeError):
        _ = abaw_emi.nothing
