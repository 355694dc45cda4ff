from __future__ import annotations

import re
import sys

import pytest

from abaw_emi.evaluation.text_tables import TextTable, render

HEADER = ["System", "Mean", "95 % interval", "Empty", "Admiration", "Beats"]
NAMES = [f"out/runs/tiny-seed{seed}/valid_predictions.csv" for seed in (1, 2)]
ROWS = [
    [NAMES[0], "0.5891", "[0.5160, 0.6536]", "", "0.6605", NAMES[1]],
    [NAMES[1], "0.5697", "[0.4910, 0.6374]", "", "0.5946", "-"],
]


def be_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Makes stdout a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120])
def test_a_table_fits_the_terminal_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    be_terminal(monkeypatch, columns)
    text = render(TextTable(HEADER, ROWS), "table")
    lines = text.splitlines()
    *table, note = lines
    assert note == "each is out/runs/*/valid_predictions.csv"
    assert all(len(line) <= columns for line in table)
    for cell in ("tiny-seed1", "tiny-seed2", *ROWS[0][1:3], *ROWS[1][1:3], "0.6605", "0.5946"):
        assert cell in text
    assert all(name in text for name in HEADER[1:] if name != "Empty")
    assert not re.search("seed1$|seed2$", note)


def test_what_fits_and_what_goes_into_a_pipe_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = render(TextTable(HEADER, ROWS), "table")
    be_terminal(monkeypatch, 200)
    assert render(TextTable(HEADER, ROWS), "table") == piped
    assert all(name in piped for name in [*HEADER, *NAMES])


def test_names_without_a_common_folder_are_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch, 30)
    rows = [["a/new.csv", "0.1", "0.2"], ["old.csv", "0.3", "0.4"], ["a/third.csv", "0.5", "0.6"]]
    text = render(TextTable(["System", "A long header", "Another one"], rows), "table")
    assert all(row[0] in text for row in rows)
    assert "each is" not in text
    assert text.count("old.csv") == 2  # columns below each other


def test_the_names_of_a_pair_are_broken_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch, 40)
    pair = "predictions/ensemble-valid.csv - runs/tiny-seed1.csv"
    text = render(TextTable(["Pair", "Difference"], [[pair, "+0.0018"]]), "table")
    assert max(map(len, text.splitlines())) <= 40
    assert " ".join(text.split()).startswith(pair)
