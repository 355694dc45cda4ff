from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from abaw_emi.cli.next_step import keep, print_next, retype
from tests.cli.conftest import Shell, test_ids, values, write_csv


def type_words(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "argv", line.split())


def test_an_option_is_kept_or_left_out_with_its_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    type_words(monkeypatch, "abaw-emi score --data here preds.csv --seed 3 --features=there")
    assert keep("--data", "--features", "--runs") == ["--data", "here", "--features=there"]
    assert retype("--data", "--seed") == ["score", "preds.csv", "--features=there"]
    type_words(monkeypatch, "abaw-emi submit --dry-run --force")
    assert retype("--dry-run") == ["submit", "--force"]


def test_the_next_command_can_be_copied_and_is_left_out_when_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_words(monkeypatch, "abaw-emi ensemble")
    print_next("submit", "--preds", "my predictions.csv", note="once it is done")
    assert capsys.readouterr().out == "next, once it is done: abaw-emi submit --preds 'my predictions.csv'\n"
    type_words(monkeypatch, "abaw-emi ensemble --quiet")
    print_next("submit")
    assert capsys.readouterr().out == ""


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(" \\\n   ", "").splitlines()[-1]


def test_what_is_compared_can_be_combined_as_the_last_line_says(shell: Shell, folder: Path) -> None:
    ids = [f"{i:05}" for i in range(5, 17)]
    for number, name in enumerate(("a.csv", "b.csv")):
        write_csv(folder / name, values(ids, seed=number))
    labels = "data/valid_split.csv"
    line = last_line(shell("score", "a.csv", labels, "--against", "b.csv"))
    assert line.startswith("next, to rank them, and see what combining gains: abaw-emi ")
    line = last_line(shell(*line.partition("abaw-emi ")[2].split()))
    assert line.startswith("next, to combine them: abaw-emi ")
    line = last_line(shell(*line.partition("abaw-emi ")[2].split()))
    assert line == "next: abaw-emi score predictions/ensemble-valid.csv"


def test_what_is_fit_to_be_sent_is_sent_and_its_score_entered(shell: Shell, folder: Path) -> None:
    write_csv(folder / "test.csv", values(test_ids(), seed=1))
    assert shell("submit", "--preds", "test.csv", "--name", "mine").returncode == 0
    for path in ("submissions/mine", "submissions/mine/mine.zip"):
        line = last_line(shell("check", path))
        assert line == (
            "next, once it is sent and its score is known: abaw-emi ledger set mine --test-score R"
        )
    assert last_line(shell("ledger", "set", "mine", "--test-score", ".4")) == "next: abaw-emi ledger"
    assert last_line(shell("ledger")) == "next, puts them on a page: abaw-emi report"
    (folder / "elsewhere.zip").write_bytes((folder / "submissions/mine/mine.zip").read_bytes())
    assert last_line(shell("check", "elsewhere.zip")) == "next: send it to the organisers"
