"""Label, id and prediction tables: their schemas, read and written.

Conventions: a table is a collected polars DataFrame with the columns `constants.COLUMNS`; `Filename` is
text of five digits ("00042") however the file spells it (`42`, `00042`, `42.0`); intensities are
float64. Every reader names all problems of a file together, by line and column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from abaw_emi.core.constants import COLUMNS, EMOTIONS, FILENAME, ID_WIDTH, INTENSITY_RANGE
from abaw_emi.core.errors import Problem, TableError
from abaw_emi.core.files import AnyPath, read_bytes
from abaw_emi.core.ids import parse_id
from abaw_emi.data.csv import BLANKS, MAX_BYTES, CsvText, cap_problems, parse_csv

if TYPE_CHECKING:
    import pandera.polars as pa

TableKind = Literal["labels", "predictions", "submission"]
"""What a table is: labels and submissions lie in [0, 1], raw predictions may lie outside."""

_ASKED: dict[TableKind, str] = {
    "labels": "is this a label file?",
    "predictions": "is this a prediction file?",
    "submission": "raw predictions are checked with --kind predictions; submit brings them into range",
}
"""What to ask of a file with many problems."""

_LONGEST = 50
"""Characters of a column's name that are compared with the official ones."""

_LARGEST = float(np.finfo(np.float32).max)
_SCIENTIFIC = re.compile(r"\d+(\.\d*)?[eE][-+]?\d+", re.ASCII)
_DESCRIBED = 1_000
"""Bad cells of a file that are described; the others are counted: each takes a kilobyte."""

_MANY = Problem("", "is bad, too")
"""One of those."""

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*", re.ASCII)


def read_labels(path: AnyPath) -> pl.DataFrame:
    """The label table of a split, in the file's row order.

    Raises:
        TableError: the file is missing, or breaks the schema; all problems together.
    """
    return parse_table(read_bytes(Path(path), MAX_BYTES), str(path), "labels")


def read_predictions(path: AnyPath) -> pl.DataFrame:
    """A prediction table, in the file's row order; values may lie outside [0, 1].

    Raises:
        TableError: the file is missing, or breaks the schema; all problems together.
    """
    return parse_table(read_bytes(Path(path), MAX_BYTES), str(path), "predictions")


def read_ids(path: Path) -> list[str]:
    """The ids of a split file that need not hold labels, in the file's order.

    Raises:
        TableError: no column `Filename`, a bad id or a duplicate; all problems together.
    """
    text, problems = parse_csv(read_bytes(path, MAX_BYTES), str(path))
    if FILENAME not in text.header:
        missing = Problem(f"{path}, line 1", f"column {FILENAME} is missing")
        raise TableError(cap_problems([missing, *problems], str(path)))
    rows, found = find_ids(text)
    problems += found
    if not text.rows and not problems:
        problems.append(_no_rows(str(path)))
    if problems:
        raise TableError(cap_problems(problems, str(path)))
    return list(rows)


def find_ids(text: CsvText) -> tuple[dict[str, int], list[Problem]]:
    """The row of each id in the column `Filename`, and a problem for each other or repeated one."""
    column = text.header.index(FILENAME)
    rows: dict[str, int] = {}
    problems = []
    for row, cells in enumerate(text.rows):
        filename, where = parse_id(cells[column]), text.where(row, FILENAME)
        if filename is None:
            problems.append(_bad_id(where, cells[column]))
        elif filename in rows:
            problems.append(_duplicate(where, filename, text.lines[rows[filename]]))
        else:
            rows[filename] = row
    return rows, problems


def parse_table(content: bytes, name: str, kind: TableKind) -> pl.DataFrame:
    """The table that the bytes of a CSV spell; `name` is what messages call it.

    Raises:
        TableError: they break the schema; all problems together.
    """
    frame, problems = inspect_table(content, name, kind)
    if frame is None or problems:
        raise TableError(problems)
    return frame


def inspect_table(content: bytes, name: str, kind: TableKind) -> tuple[pl.DataFrame | None, list[Problem]]:
    """The table that the bytes of a CSV spell, and every problem of it; see `inspect_text`."""
    text, problems = parse_csv(content, name, strict=kind == "submission")
    return inspect_text(text, problems, kind)


def inspect_text(
    text: CsvText, problems: Sequence[Problem], kind: TableKind, bounds: tuple[float, float] = INTENSITY_RANGE
) -> tuple[pl.DataFrame | None, list[Problem]]:
    """The table of a parsed CSV, None where its header is unusable, and every problem of it.

    The table holds the rows that could be read at all; with problems it is fit for further checks,
    not for use.

    Args:
        text: the CSV.
        problems: of its form, as `parse_csv` found them.
        kind: labels and submissions lie within `bounds`, raw predictions may lie outside.
        bounds: the lowest and the highest value.
    """
    name = text.name
    problems = [*_check_header(text), *problems]
    if any(column not in text.header for column in COLUMNS):
        return None, cap_problems(problems, name, _ASKED[kind])
    if not text.rows and not problems:
        problems.append(_no_rows(name))
    cells = {column: [row[text.header.index(column)] for row in text.rows] for column in COLUMNS}
    frame = pl.DataFrame(
        {
            FILENAME: [parse_id(cell) or cell for cell in cells[FILENAME]],
            **{emotion: cells[emotion] for emotion in EMOTIONS},
        },
        schema=dict.fromkeys(COLUMNS, pl.String),
    ).with_columns(pl.col(EMOTIONS).str.strip_chars(BLANKS).cast(pl.Float64, strict=False))
    limits = None if kind == "predictions" else bounds
    problems += _check_values(frame, text, cells, limits)
    return frame, cap_problems(problems, name, _ASKED[kind])


def format_predictions(table: pl.DataFrame) -> bytes:
    """The bytes of the prediction CSV: UTF-8, comma, `constants.COLUMNS`, one row a clip, sorted by id."""
    rows = (
        table.select(COLUMNS).sort(FILENAME).with_columns(pl.col(EMOTIONS).cast(pl.Float32).cast(pl.Float64))
    )
    return rows.write_csv().encode()


def _check_header(text: CsvText) -> list[Problem]:
    where, header = f"{text.name}, line 1", text.header
    if not header or header == COLUMNS:
        return []
    missing = [column for column in COLUMNS if column not in header]
    unknown = [column for column in header if column not in COLUMNS]
    alike = {found: meant for found in unknown if (meant := _find_alike(found, missing))}
    if missing == list(COLUMNS) and not alike and parse_id(header[0]):
        found = f"a row of values, {','.join(header)[:_LONGEST]!r}"
        return [Problem(where, found, f"the header {','.join(COLUMNS)}", "write it above")]
    problems = [
        Problem(where, f"column {found!r}", repr(meant), "rename it") for found, meant in alike.items()
    ]
    lost = [column for column in missing if column not in alike.values()]
    problems += [Problem(where, f"column {column} is missing") for column in lost]
    problems += [_unknown_column(where, column) for column in unknown if column not in alike]
    repeated = sorted(column for column, count in Counter(header).items() if count > 1)
    problems += [Problem(where, f"column {column!r} appears more than once") for column in repeated]
    if problems:
        return problems
    return [Problem(where, f"columns in the order {', '.join(header)}", f"the order {', '.join(COLUMNS)}")]


def _find_alike(column: str, official: Sequence[str]) -> str:
    """The official name that a column's own resembles, as `empathic_pain` does; "" if none."""
    plain = {"".join(filter(str.isalnum, name)).lower(): name for name in official}
    near = get_close_matches("".join(filter(str.isalnum, column[:_LONGEST])).lower(), plain, 1, 0.8)
    return plain[near[0]] if near else ""


def _unknown_column(where: str, column: str) -> Problem:
    found = f"column {column!r} is not one of the official ones"
    if not column.strip() or column.startswith("Unnamed") or column.lower() == "index":
        found = f"column {column!r} looks like a row index"
    return Problem(where, found, "no further columns", "write the file without it")


def _check_values(
    frame: pl.DataFrame, text: CsvText, cells: dict[str, list[str]], bounds: tuple[float, float] | None
) -> list[Problem]:
    import pandera.errors

    try:
        _schema(*(bounds or (-_LARGEST, _LARGEST))).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        failures = error.failure_cases.drop_nulls("index").select("index", "column").unique().sort("index")
    else:
        return []
    problems = []
    first_line: dict[str, int] = {}
    for filename, line in zip(frame[FILENAME], text.lines, strict=True):
        first_line.setdefault(filename, line)
    order = {column: rank for rank, column in enumerate(COLUMNS)}
    # A cell that fails several checks (NaN is "null" and "out of range") is named once.
    found = sorted(failures.head(_DESCRIBED).iter_rows(), key=lambda cell: (cell[0], order[cell[1]]))
    for row, column in found:
        cell = cells[column][row]
        where = text.where(row, column)
        if column != FILENAME:
            problems.append(_bad_value(where, cell, bounds))
        elif parse_id(cell) is None:
            problems.append(_bad_id(where, cell))
        elif first_line[frame[FILENAME][row]] != text.lines[row]:
            problems.append(_duplicate(where, frame[FILENAME][row], first_line[frame[FILENAME][row]]))
    return problems + [_MANY] * (len(failures) - len(found))


@cache
def _schema(low: float, high: float) -> pa.DataFrameSchema:
    import pandera.polars as pa

    intensity = pa.Column(pl.Float64, pa.Check.in_range(low, high), nullable=False)
    filename = pa.Column(pl.String, pa.Check.str_matches(rf"^[0-9]{{{ID_WIDTH}}}$"), unique=True)
    return pa.DataFrameSchema(
        {FILENAME: filename, **dict.fromkeys(EMOTIONS, intensity)}, strict=True, ordered=True
    )


def _bad_value(where: str, cell: str, bounds: tuple[float, float] | None) -> Problem:
    low, high = bounds or (-_LARGEST, _LARGEST)
    expected = "a finite number" if bounds is None else f"a number in [{low:g}, {high:g}]"
    text = cell.strip()
    if not text:
        return Problem(where, "no value", expected)
    if _DECIMAL_COMMA.fullmatch(text):
        return Problem(where, f"{text!r} has a decimal comma", "a decimal point")
    try:
        number = float(text.replace("_", "x"))  # Python would read 1_0 as 10
    except ValueError:
        return Problem(where, f"{text!r} is not a number", expected)
    if number != number or number in (float("inf"), float("-inf")):
        return Problem(where, f"{text} is not finite", expected)
    if bounds is not None and not low <= number <= high:
        return Problem(where, f"{text} is outside [{low:g}, {high:g}]")
    if abs(number) > _LARGEST:
        return Problem(where, f"{text} is too large for float32", f"at most {_LARGEST:.4g}")
    return Problem(where, f"{text!r} is not a plain number", expected)


def _no_rows(name: str) -> Problem:
    return Problem(name, "no rows", "one row a clip")


def _bad_id(where: str, cell: str) -> Problem:
    expected = f"an id of up to {ID_WIDTH} digits, such as 00042"
    stem, dot, suffix = cell.strip().rpartition(".")
    if dot and parse_id(stem) and suffix[:1].isalpha():
        return Problem(where, f"{cell!r} has an extension", expected)
    if _SCIENTIFIC.fullmatch(cell.strip()):
        return Problem(where, f"{cell!r} is a number in scientific notation", expected, "make ids text")
    return Problem(where, f"{cell!r} is not a clip id" if cell.strip() else "no id", expected)


def _duplicate(where: str, filename: str, first_line: int) -> Problem:
    return Problem(where, f"{filename} appears again; it is already on line {first_line}", "each id once")
