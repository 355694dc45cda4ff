from __future__ import annotations

import csv
import io
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from abaw_emi.core.errors import Problem, TableError
from abaw_emi.core.files import write_bytes
from abaw_emi.core.ids import pack_ids, parse_id, unpack_ids
from abaw_emi.data.frames import write_predictions
from abaw_emi.data.tables import (
    TableKind,
    format_predictions,
    inspect_table,
    read_ids,
    read_labels,
    read_predictions,
)
from abaw_emi.submission.check import check_csv
from tests.csv_tables import COLUMNS, EMOTIONS, HEADER, MUTATIONS, Grid, grids, ids, to_csv
from tests.data.regenerate import golden_files, messages_of

KINDS: dict[str, TableKind] = {"l": "labels", "p": "predictions", "s": "submission"}


def check(content: bytes, kind: TableKind, names: list[str]) -> tuple[Problem, ...]:
    """What the strictest door of a kind says: label files have no list of ids to be compared with."""
    if kind == "labels":
        return tuple(inspect_table(content, "x.csv", kind)[1])
    return check_csv(content, "x.csv", names, kind).problems


# Reading.


@pytest.mark.parametrize(
    "spelling", ["12", "00012", "012", "12.0", "00012.0", "12.", "12.00", " 12 ", '"12"']
)
def test_ids_in_any_spelling_are_read_as_five_digits(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n{spelling},0,0,0,0,0,0\n")
    assert read_labels(path)["Filename"].to_list() == ["00012"]
    assert read_predictions(path)["Filename"].to_list() == ["00012"]
    assert read_ids(path) == ["00012"]


@given(st.integers(0, 99_999))
def test_every_number_of_up_to_five_digits_is_an_id(number: int) -> None:
    assert {parse_id(text) for text in (f"{number}", f"{number:05}", f"{number}.0")} == {f"{number:05}"}


@given(st.text(max_size=8))
@example("0\x1f")
def test_an_id_is_five_ascii_digits_or_none(text: str) -> None:
    found = parse_id(text)
    assert found is None or (
        len(found) == 5 and found.isascii() and found.isdigit() and int(found) == float(text)
    )


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_change_nothing(
    tmp_path: Path, newline: str, bom: str, last: bool
) -> None:
    lines = [HEADER, "00002,0.125,1,0,1e-3,+0.5, 0.25 ", '"1",0,"0.5",0.0,1.0,.5,1.']
    text = bom + newline.join(lines) + newline * last
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    table = read_labels(path)
    assert table.columns == COLUMNS
    assert table.rows() == [
        ("00002", 0.125, 1.0, 0.0, 1e-3, 0.5, 0.25),
        ("00001", 0.0, 0.5, 0.0, 1.0, 0.5, 1.0),
    ]
    assert [table[emotion].dtype for emotion in EMOTIONS] == [pl.Float64] * 6


@given(grids())
@settings(max_examples=25)
def test_a_sound_file_has_no_problem_as_any_kind(grid: Grid) -> None:
    names = [row[0] for row in grid[1:]]
    assert [check(to_csv(grid), kind, names) for kind in KINDS.values()] == [(), (), ()]


def test_predictions_may_lie_outside_0_to_1_and_labels_and_submissions_may_not() -> None:
    content = f"{HEADER}\n00001,-2,1.5,0,0,0,0\n00002,1,1,1,1,1,1\n".encode()
    found = {kind: len(check(content, kind, ["00001", "00002"])) for kind in KINDS.values()}
    assert found == {"labels": 2, "predictions": 0, "submission": 2}


# Defects.


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_messages_are_the_golden_ones(path: Path) -> None:
    assert messages_of(path) == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_there_are_golden_files_of_every_kind() -> None:
    kinds = {path.name.partition("-")[0] for path in golden_files()}
    assert kinds == {"labels", "predictions", "submission", "ids"}
    assert all(path.with_suffix(".txt").stat().st_size for path in golden_files())


@pytest.mark.parametrize("name", MUTATIONS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_one_mutation_of_a_sound_file_is_found(name: str, data: st.DataObject) -> None:
    mutation = MUTATIONS[name]
    grid = data.draw(grids())
    names = [row[0] for row in grid[1:]]
    content = mutation(data.draw, grid)
    assume(content != to_csv(grid))
    for kind in mutation.kinds:
        problems = check(content, KINDS[kind], names)
        assert problems, f"not found in {KINDS[kind]}"
        assert all("\n" not in str(problem) and str(problem).startswith("x.csv") for problem in problems)


def test_the_line_named_is_the_line_of_the_file_also_after_a_cell_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'{HEADER}\n1,0,0,0,0,0,0\n"a\nb",0,0,0,0,0,0\n3,0,0,0,0,0,7\n')
    with pytest.raises(TableError) as caught:
        read_labels(path)
    assert [problem.where for problem in caught.value.problems] == [
        f"{path}, line 4, Filename",
        f"{path}, line 5, Joy",
    ]


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_arbitrary_bytes_never_raise_anything_but_a_table_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sound = to_csv([COLUMNS, ["00001", *"000000"], ["2", *"111111"]])
    place = st.integers(0, len(sound))
    spliced = st.builds(lambda at, to, piece: sound[:at] + piece + sound[to:], place, place, st.binary())
    rows = st.lists(st.lists(st.text(max_size=4), max_size=8).map(",".join)).map("\n".join)
    headed = rows.map(lambda text: f"{HEADER}\n{text}".encode("utf-8", errors="replace"))
    content = data.draw(st.binary() | spliced | headed)
    path = tmp_path_factory.getbasetemp() / "arbitrary.csv"
    path.write_bytes(content)
    for kind in KINDS.values():
        check(content, kind, ["00001", "00002"])
    for read in (read_labels, read_predictions, read_ids):
        with suppress(TableError):
            assert len(read(path)) > 0


def test_a_missing_file_and_a_folder_are_table_errors(tmp_path: Path) -> None:
    for read in (read_labels, read_predictions, read_ids):
        with pytest.raises(TableError, match=r"nowhere\.csv: no such file"):
            read(tmp_path / "nowhere.csv")
        with pytest.raises(TableError, match="is a folder; expected a file"):
            read(tmp_path)


def test_ids_need_no_label_columns_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "test_split.csv"
    path.write_text("fold,Filename\n1,12662\n1,12660.0\n")
    assert read_ids(path) == ["12662", "12660"]
    path.write_text("Filename\n")
    with pytest.raises(TableError, match="no rows"):
        read_ids(path)


# Writing.

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
CORNERS = [0.0, -0.0, 1e-45, -1.1754942e-38, 3.4028234663852886e38, -3.4028234663852886e38, 0.1, 1 / 3]


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    names = draw(st.permutations(draw(ids(min_size=1))))
    values = st.lists(FLOAT32 | st.sampled_from(CORNERS), min_size=len(names), max_size=len(names))
    return pl.DataFrame({"Filename": names, **{emotion: np.array(draw(values)) for emotion in EMOTIONS}})


@given(table=tables())
@settings(max_examples=60, deadline=None)
def test_written_predictions_read_back_bit_for_bit_and_sorted_by_id(
    tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.csv"
    assert write_predictions(table, str(path)) == path
    content = path.read_bytes()
    assert path.read_bytes() == content
    expected = dict(zip(table["Filename"], table.select(EMOTIONS).to_numpy().astype(np.float32), strict=True))
    back = read_predictions(path)
    assert back["Filename"].to_list() == sorted(table["Filename"])
    for name, values in zip(back["Filename"], back.select(EMOTIONS).to_numpy(), strict=True):
        assert values.astype(np.float32).tobytes() == expected[name].tobytes()
        assert values.tobytes() == expected[name].astype(np.float64).tobytes()  # also when read as float64
    # A reader that is not ours: the standard library's.
    header, *rows = csv.reader(io.StringIO(content.decode("ascii")))
    assert header == COLUMNS
    for name, *cells in rows:
        assert np.array(cells, dtype=np.float64).astype(np.float32).tobytes() == expected[name].tobytes()
    assert format_predictions(back) == content


def test_the_form_of_a_prediction_file() -> None:
    table = pl.DataFrame(
        {e: [0.5, -0.25] for e in EMOTIONS} | {"Filename": ["00010", "00009"], "fold": [1, 2]}
    )
    assert format_predictions(table).decode() == (
        f"{HEADER}\n00009,-0.25,-0.25,-0.25,-0.25,-0.25,-0.25\n00010,0.5,0.5,0.5,0.5,0.5,0.5\n"
    )


def test_what_cannot_be_written_is_a_table_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.csv", tmp_path):
        with pytest.raises(TableError, match="cannot be written"):
            write_bytes(path, b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Ranges of ids.


@given(st.sets(st.integers(0, 99_999) | st.integers(40, 60)))
def test_packed_ids_unpack_to_the_same_set_and_ranges_do_not_touch(numbers: set[int]) -> None:
    names = {f"{number:05}" for number in numbers}
    packed = pack_ids(names)
    assert unpack_ids(packed) == names
    ends = [text.split("-") for text in packed]
    assert all(int(after[0]) - int(before[-1]) > 1 for before, after in pairwise(ends))


@pytest.mark.parametrize(
    "text", ["", "7", "00001-", "-00001", "00001-00002-00003", "0000a", "00000-9999999999"]
)
def test_what_is_no_range_of_ids_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a range of ids"):
        unpack_ids([text])
