"""What Python prints of its results are the tables that the commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

import abaw_emi
from tests.cli.conftest import environment
from tests.cli.regenerate import write_files
from tests.command import run_command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tell(line: str) -> str:
    return run_command(*line.split(), env=environment()).stdout


@pytest.mark.usefixtures("files")
def test_a_score() -> None:
    found = abaw_emi.score("valid.csv", "new.csv", against={"old.csv": "old.csv"}, names=("v", "new.csv"))
    assert tell("score new.csv valid.csv --against old.csv").startswith(f"{found}\n")
    assert "new.csv minus old.csv" in str(found)
    alone = abaw_emi.score("valid.csv", "new.csv", resamples=0)
    assert tell("score new.csv valid.csv --bootstrap 0").startswith(f"{alone}\n")
    seen = abaw_emi.score("valid.csv", "new.csv", resamples=0, trained_on="valid.csv")
    assert str(seen) == f"SEEN IN TRAINING: not a validation score\n{alone}"


@pytest.mark.usefixtures("files")
def test_a_comparison() -> None:
    found = abaw_emi.compare("valid.csv", {"new.csv": "new.csv", "old.csv": "old.csv"})
    assert tell("compare new.csv old.csv valid.csv").startswith(f"{found}\n")
    assert "taken as independent" in str(found)


@pytest.mark.usefixtures("files")
def test_a_recipe() -> None:
    found = abaw_emi.find_recipe("valid.csv", {"new.csv": "new.csv", "old.csv": "old.csv"}, "weights")
    told = tell("ensemble --preds new.csv old.csv --split valid --method weights --labels valid.csv")
    assert str(found) in told
    assert "weights: new.csv " in str(found)
