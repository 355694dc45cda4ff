"""CSV bytes to rows of text, with the line of every row.

The standard library's reader gives exact line numbers, rows of the wrong width and blank lines, which
a data-frame reader hides; nothing is converted here, so `00001` stays `00001`.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from abaw_emi.core.errors import Problem
from abaw_emi.core.foreign import recognise_foreign

SEPARATOR = ","

SHOWN = 15
"""Problems of one file that are shown one by one: more than that usually have one cause."""

MAX_BYTES = 2**25
"""The largest table that is read: the official files hold 1 MB, 100,000 rows of 20 digits a number 16 MB."""

MAX_ROWS = 100_000
"""There are no more ids than that."""

MAX_COLUMNS = 1_000

BLANKS = " \t"
"""What may stand around a number or an id: pandas and polars strip these, and no other space of Unicode."""

_LONE_RETURN = re.compile(r"\r(?!\n)")

# What files of other kinds begin with. A workbook of a spreadsheet program is a zip, too.
_KINDS = {
    b"PK\x03\x04": "a zip file or a workbook",
    b"PK\x05\x06": "an empty zip file",
    b"\xd0\xcf\x11\xe0": "an old workbook",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "gzip-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"(\xb5/\xfd": "zstd-compressed",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF file",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"\x00\x05\x16\x07": "a file that macOS adds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvText:
    """A CSV file as text: `rows[i]` (as wide as `header`) stands on line `lines[i]` of `name`."""

    name: str
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def where(self, row: int, column: str = "") -> str:
        """Where row `row` (counted from 0) stands, for a message."""
        return f"{self.name}, line {self.lines[row]}" + (f", {column}" if column else "")


def parse_csv(content: bytes, name: str, *, strict: bool = False) -> tuple[CsvText, list[Problem]]:
    """Rows of text and every problem of form: encoding, separator, width of rows, blank lines.

    Args:
        content: the file's bytes.
        name: what messages call the file.
        strict: whether a byte-order mark and lines that end in a carriage return alone are problems.

    Rows of the wrong width are named and left out of what is returned. Blank lines at the end are no rows.
    """
    nothing = CsvText(name=name, header=(), rows=[], lines=[])
    if other := _recognise_other(content, name):
        return nothing, [other]
    text, problems = _decode(content, name, strict=strict)
    if "\0" in text:  # no text, whatever else it may be
        return nothing, problems
    text = text.rstrip("\r\n" + BLANKS)
    if not text:
        problems.append(Problem(name, "the file is empty", "a header line and one row a clip"))
        return nothing, problems
    if strict and _LONE_RETURN.search(text):
        problems.append(Problem(name, "lines end in a carriage return alone", "line feeds"))
    separator = _find_separator(text)
    if before := _find_line_before(text):
        problems.append(Problem(f"{name}, line 1", repr(before), "the header", "remove this line"))
        return nothing, problems
    if separator != SEPARATOR:
        problems.append(Problem(f"{name}, line 1", f"columns are separated by {separator!r}", "commas"))
    header: tuple[str, ...] = ()
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if not header and row:
                header = tuple(row)
                if len(header) > MAX_COLUMNS:
                    return nothing, [Problem(f"{name}, line 1", f"{len(header):,} columns", "seven")]
            elif len(rows) + len(problems) > MAX_ROWS:
                where = f"{name}, line {reader.line_num}"
                return nothing, [Problem(where, f"more than {MAX_ROWS:,} rows", "one row a clip")]
            elif found := _find_wrong(row, len(header)):
                problems.append(Problem(f"{name}, line {reader.line_num}", *found))
            else:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        problems.append(Problem(f"{name}, line {reader.line_num}", f"not readable as CSV: {error}"))
    return CsvText(name=name, header=header, rows=rows, lines=lines), problems


def _recognise_other(content: bytes, name: str) -> Problem | None:
    """What a file is that is no table of text; None if it may be one."""
    expected = "a CSV file of one row a clip"
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
    if kind:
        return Problem(name, f"is {kind}", expected)
    foreign = recognise_foreign(content)
    return Problem(name, foreign[0], expected, foreign[1]) if foreign else None


def _find_wrong(row: list[str], width: int) -> tuple[str, ...]:
    """What is wrong with the form of a row, and what is expected; () for nothing."""
    if not row:
        return ("a blank line",)
    if not any(map(str.strip, row)):
        return ("a row of empty cells",)
    if len(row) == width:
        return ()
    commas = " (decimal commas?)" if len(row) == 2 * width - 1 else ""
    return f"{len(row)} values{commas}", f"{width}, as in the header"


def find_cut(content: bytes, name: str) -> list[Problem]:
    """A warning where the last line of a CSV has no end: it may be cut inside its last number."""
    if content.endswith((b"\n", b"\r")):
        return []
    return [Problem(name, "ends without a line break", next_step="see that it is whole, and its last number")]


def cap_problems(problems: list[Problem], name: str, step: str = "") -> list[Problem]:
    """The first problems of a file; how many more there are, and what may be the cause, if there are many."""
    if len(problems) <= SHOWN:
        return problems
    more = Problem(name, f"{len(problems) - SHOWN:,} more problems of its lines", next_step=step)
    return [*problems[:SHOWN], more]


def _decode(content: bytes, name: str, *, strict: bool) -> tuple[str, list[Problem]]:
    problems = []
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(Problem(name, "the encoding is UTF-16", "UTF-8"))
        return content.decode("utf-16", errors="replace"), problems
    if content.startswith(b"\xef\xbb\xbf"):
        if strict:
            problems.append(Problem(f"{name}, line 1", "a byte-order mark (BOM)", "plain UTF-8"))
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(
            Problem(f"{name}, line {line}", f"byte 0x{content[error.start]:02x} is not UTF-8", "UTF-8")
        )
        text = content.decode("latin-1")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems = [Problem(f"{name}, line {line}", "a NUL byte", "text")]
    return text, problems


def _find_line_before(text: str, longest: int = 60) -> str:
    """The first line, cut, if it is no header, but the next one has columns: Excel's "sep=,", a remark."""
    first, second = [*text.lstrip("\r\n").splitlines()[:2], ""][:2]
    is_header = _find_separator(text) != SEPARATOR or SEPARATOR in first.rstrip(SEPARATOR)
    return first[:longest] if SEPARATOR in second and not is_header else ""


def _find_separator(text: str) -> str:
    """The separator of the first line: a comma unless another one splits it and a comma does not."""
    first = text.lstrip("\r\n").splitlines()[0]
    if SEPARATOR in first:
        return SEPARATOR
    return next((other for other in (";", "\t", "|") if other in first), SEPARATOR)
