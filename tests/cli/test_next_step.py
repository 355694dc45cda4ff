from __future__ import annotations

import sys

import pytest

from abaw_emi.cli.next_step import keep, print_next, retype


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
