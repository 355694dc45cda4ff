from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from abaw_emi.config.presets import PRESETS
from abaw_emi.core.errors import UsageError
from abaw_emi.evaluation.text_tables import FORMATS
from abaw_emi.reproduction.published import MARKS, ROWS, TABLES, PublishedRow, find_rows
from abaw_emi.reproduction.table import RowOutcome, render_table
from tests.reproduction.golden_tables import GOLDEN, make_outcomes, render_golden

# Typed from the issue that asked for the tables, not from the package: valid, test.
TABLE_1 = """
baseline-vision    -     .09
baseline-audio     -     .24
baseline-av        -     .25
savchenko          .289  .331
yu                 .328  .359
zhang              .463  .718
vision             .013  -
vision-audio       .198  -
frozen             .262  -
paper              .386  .461
paper-dropout      .389  .465
paper-trainval     -     .522
paper-longer       -     .554
"""
# Backbone; global vector, head, LSTM, VAD; valid.
TABLE_2 = """
W2V2-L       x - - -  .017
W2V2-L.XLSR  x - - -  .021
audeering    x - - -  .342
audeering    x x - -  .356
audeering    - x x -  .375
audeering    x x x -  illegible
audeering    - x x x  .375
audeering    x x x x  .386
"""


def number(text: str) -> float | None:
    return None if text in ("-", "illegible") else float(text)


def test_table_1_holds_the_published_numbers_in_order() -> None:
    expected = {
        name: (number(valid), number(test)) for name, valid, test in map(str.split, TABLE_1.split("\n")[1:-1])
    }
    rows = find_rows("1")
    assert {row.name: (row.valid, row.test) for row in rows[: len(expected)]} == expected
    assert [row.name for row in rows[: len(expected)]] == list(expected)
    beside = {row.name: (row.valid, row.test) for row in rows[len(expected) :]}
    assert beside == {
        "winner-2025": (0.522, 0.706),  # the 8th edition's winner
        "baseline-vision-again": (0.1084, None),  # the official baselines, run by MimicMetrics
        "baseline-audio-again": (0.1428, None),
        "baseline-audio-lstm": (0.3088, None),
    }
    assert all("not in this table" in row.note for row in rows[len(expected) :])


def test_table_2_holds_the_published_numbers_and_its_presets_have_just_those_parts() -> None:
    rows = find_rows("2")
    lines = TABLE_2.split("\n")[1:-1]
    assert len(rows) == len(lines)
    backbones = {
        "W2V2-L": "facebook/wav2vec2-large",
        "W2V2-L.XLSR": "facebook/wav2vec2-large-xlsr-53",
        "audeering": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
    }
    for row, line in zip(rows, lines, strict=True):
        backbone, *parts, valid = line.split()
        model = PRESETS[row.preset or ""].model
        assert model.backbone == backbones[backbone]
        switches = (model.global_vector, model.regression_head, model.lstm, model.vad_head)
        assert [("-", "x")[part] for part in switches] == parts
        assert row.valid == number(valid)
        assert row.test is None
        named = row.system.split(": ")[1].split(", ")
        assert named == [
            n for n, part in zip(("GV", "head", "LSTM", "VAD"), parts, strict=True) if part == "x"
        ]
    (unread,) = [row for row in rows if row.valid is None]
    assert (unread.words, unread.marks) == ("illegible", ("illegible",))


def test_the_rows_of_the_text() -> None:
    assert {row.name: (row.valid, row.words) for row in find_rows("text")} == {
        "paper-ccc": (None, "no better"),
        "paper-pearson": (None, "no better"),
        "zero-padding": (-0.1, ""),
        "vision-within-train": (0.18, ""),
        "other-faces": (None, "-.10 to -.01"),
    }


def test_what_is_doubtful_is_marked_and_what_cannot_be_run_says_why() -> None:
    marks = {row.name: row.marks for row in ROWS if row.marks}
    assert marks == {
        **dict.fromkeys(("baseline-vision", "baseline-audio", "baseline-av"), ("disputed",)),
        **dict.fromkeys(("paper-trainval", "paper-longer"), ("lengths",)),
        **dict.fromkeys(("zero-padding", "vision-within-train"), ("about",)),
        "winner-2025": ("inferred",),
        "gv-head-lstm": ("illegible",),
    }
    assert set(MARKS) == {mark for found in marks.values() for mark in found}
    for row in ROWS:
        assert row.source
        if row.marks:
            assert MARKS[row.marks[0]] in row.remarks
        if row.preset is None:
            assert "abaw-emi extract" in row.note
            assert "--set model.features.0.name=" in row.note


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.preset], ids=lambda row: f"{row.table}-{row.name}"
)
def test_every_preset_of_a_row_exists(row: PublishedRow) -> None:
    assert row.preset in PRESETS


def test_rows_are_found_by_name_in_the_order_of_the_table() -> None:
    assert [row.name for row in find_rows("2", ["paper", "gv"])] == ["gv", "paper"]
    assert {row.table for table in TABLES for row in find_rows(table)} == set(TABLES)
    with pytest.raises(UsageError) as caught:
        find_rows("2", ["gv", "zhang", "papper"])
    assert [(problem.found, problem.next_step) for problem in caught.value.problems] == [
        ("no row 'zhang' of table 2", "abaw-emi tables --list --table 2 lists them"),
        ("no row 'papper' of table 2", "did you mean paper?"),
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_is_exactly_its_golden_file(form: str) -> None:
    assert render_golden(form) == (GOLDEN / f"{form}.txt").read_text(encoding="utf-8")


def test_differences_are_to_what_the_number_is_of() -> None:
    found = {outcome.row.name: outcome for outcome in make_outcomes()}
    assert found["paper"].difference == pytest.approx(0.38 - 0.386)
    assert found["paper"].test_difference == pytest.approx(0.4655 - 0.461)
    assert found["baseline-av"].difference == pytest.approx(0.26178 - 0.25)  # disputed, and said so
    assert found["paper-trainval"].difference is None  # there is no number of valid to set it beside
    assert found["paper-trainval"].test_difference == pytest.approx(0.4655 - 0.522)
    tested = replace(found["baseline-av"], tested=found["paper"].tested)
    assert tested.test_difference is None


def test_a_valid_split_of_another_size_is_reported() -> None:
    outcomes = make_outcomes()
    measured = outcomes[3].measured
    assert measured is not None
    assert "not comparable" not in render_table("1", outcomes)
    outcomes[3] = replace(outcomes[3], measured=replace(measured, n=32))
    assert "the official valid split has 4,588 clips: the scores are not comparable" in render_table(
        "1", outcomes
    )


def test_latex_is_for_booktabs_and_escaped() -> None:
    lines = render_golden("latex").splitlines()
    table = lines[lines.index(r"\toprule") - 1 : lines.index(r"\end{tabular}") + 1]
    assert [line for line in table if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    columns = table[0].removeprefix(r"\begin{tabular}{").removesuffix("}")
    for line in table:
        if line.endswith(r"\\"):
            assert line.count(" & ") == len(columns) - 1
            assert not re.search(r"(?<!\\)[%_#]", line)
    assert all(line.startswith("%") for line in lines if line not in table)


def test_csv_and_json_hold_the_same_unrounded_numbers() -> None:
    outcomes = make_outcomes()
    rows = list(csv.DictReader(io.StringIO(render_table("1", outcomes, "csv"))))
    values = json.loads(render_table("1", outcomes, "json"))["rows"]
    assert [row["row"] for row in rows] == [value["name"] for value in values]
    for row, value in zip(rows, values, strict=True):
        measured = value["measured"] or {"mean_pearson": None, "interval": None, "spread": None, "n": None}
        low, high = measured["interval"] or (None, None)
        cells = (measured["mean_pearson"], low, high, measured["spread"], value["difference"], measured["n"])
        names = ("valid", "low", "high", "spread", "difference", "n")
        assert [row[name] for name in names] == ["" if cell is None else str(cell) for cell in cells]
        assert row["state"] == value["state"]


def test_columns_in_which_nothing_would_stand_are_left_out() -> None:
    alone = [RowOutcome(row=row, runs=[], state="not run") for row in find_rows("2")]
    header = render_table("2", alone, "markdown").splitlines()[2]
    assert header == "| System | Published | Measured | 95 % interval | Difference | Runs |"
    with pytest.raises(UsageError, match="'html'"):
        render_table("2", alone, "html")
