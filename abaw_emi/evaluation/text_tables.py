"""Tables of text in the forms that people paste: terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rich.cells import cell_len

from abaw_emi.core.terminal import escape_controls, find_width, fit_line

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

_GAP = "  "

_BETWEEN = " - |, "
"""What stands between the names of a cell."""

_SHOWS = 0.0005
"""A difference of scores that shows in the third decimal."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text: one row a line, as wide as the header; the first column is to the left.

    Attributes:
        header: names of the columns.
        rows: the cells.
        title: a line above it, "" for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


def render(table: TextTable, form: str) -> str:
    r"""The table as text in that form, without a final line break.

    >>> print(render(TextTable(["", "r"], [["a_b", "0.5"]]), "markdown"))
    |  | r |
    |---|---:|
    | a_b | 0.5 |
    >>> print(render(TextTable(["", "r"], [["a_b", "0.5"]]), "latex"))
    \begin{tabular}{lr}
    \hline
     & r \\
    \hline
    a\_b & 0.5 \\
    \hline
    \end{tabular}
    """
    return {"markdown": _markdown, "latex": _latex, "csv": _csv}.get(form, _terminal)(table)


def format_r(value: float | None, *, signed: bool = False) -> str:
    """A correlation with four decimals, or "undefined"."""
    if value is None:
        return "undefined"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def format_interval(bounds: tuple[float, float] | None, *, signed: bool = False) -> str:
    """An interval with four decimals, or nothing."""
    if bounds is None:
        return ""
    return "[" + ", ".join(format_r(bound, signed=signed) for bound in bounds) + "]"


def format_clipped(raw: float, clipped: float | None) -> str:
    """The score of the clipped predictions, where it and the raw one differ in the third decimal; else "".

    >>> format_clipped(0.5891, 0.6123), format_clipped(0.5891, 0.5892)
    ('0.6123', '')
    """
    return "" if clipped is None or abs(clipped - raw) < _SHOWS else format_r(clipped)


def format_p(p: float) -> str:
    """A p-value with two significant digits, at least three decimals.

    >>> format_p(0.04321), format_p(0.00009999)
    ('0.043', '0.0001')
    """
    return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}"


def _terminal(table: TextTable) -> str:
    """Columns beside each other; where the terminal is too narrow, below each other, and nothing is lost."""
    cells = [[escape_controls(cell, line=True) for cell in row] for row in (table.header, *table.rows)]
    width, note = find_width(), ""
    if _measure(cells) > width:
        filled = [place for place, column in enumerate(zip(*cells[1:], strict=True)) if any(column)]
        cells = [[row[place] for place in filled] for row in cells] if cells[1:] else cells
        folder, ending = _find_common(cells)
        cells = [[_cut(cell, folder, ending) for cell in row] for row in cells]
        note = f"each is {folder}*{ending}" if folder or ending else ""
    lines = [line.rstrip() for line in _stack(cells, width)]
    return "\n".join(filter(None, [fit_line(table.title, width), "\n".join(lines), note]))


def _measure(cells: Sequence[Sequence[str]]) -> int:
    """How wide a table of these cells is."""
    widths = _measure_columns(cells)
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _measure_columns(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*cells, strict=True)]


def _find_common(cells: Sequence[Sequence[str]]) -> tuple[str, str]:
    """With what the paths of the first column all begin, up to a slash, and end, from a slash on."""
    paths = [name for row in cells[1:] for name in re.split(_BETWEEN, row[0])]
    if not all("/" in path for path in paths):
        return "", ""
    common = os.path.commonprefix  # of characters: it is cut back to a slash
    folder, slash, _ = common(paths).rpartition("/")
    folder += slash
    _, slash, ending = common([path.removeprefix(folder)[::-1] for path in paths])[::-1].partition("/")
    return folder, slash + ending


def _cut(cell: str, folder: str, ending: str) -> str:
    """The cell with its names less what they all begin and end with."""
    parts = re.split(f"({_BETWEEN})", cell)
    return "".join(part.removeprefix(folder).removesuffix(ending) for part in parts)


def _stack(cells: Sequence[Sequence[str]], width: float) -> Iterator[str]:
    """The lines of a table; columns that do not fit beside the first come below, beside the first again.

    Where one column does not even fit beside the first, each row becomes a paragraph.
    """
    widths = _measure_columns(cells)
    if len(widths) > 1 and widths[0] + len(_GAP) + max(widths[1:]) > width:
        yield from _list_rows(cells, int(width))
        return
    blocks: list[list[int]] = [[0]]
    for place in range(1, len(widths)):
        used = sum(widths[each] + len(_GAP) for each in blocks[-1])
        if used + widths[place] > width:
            blocks.append([0])
        blocks[-1].append(place)
    for number, block in enumerate(blocks):
        if number:
            yield ""
        for row in cells:
            yield _GAP.join(_pad(row[place], widths[place], left=not place) for place in block)


def _pad(cell: str, width: int, *, left: bool) -> str:
    room = " " * (width - cell_len(cell))
    return cell + room if left else room + cell


def _list_rows(cells: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Each row as a paragraph: its first cell, then a line for each other one."""
    header, *rows = cells
    for first, *others in rows:
        yield fit_line(first, width)
        for name, cell in zip(header[1:], others, strict=True):
            if cell:
                yield fit_line(f"  {name}: {cell}".replace(" : ", " "), width)


def _markdown(table: TextTable) -> str:
    rows = [table.header, ["---", *["---:"] * (len(table.header) - 1)], *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return "\n".join([f"{table.title}\n", *lines] if table.title else lines)


def _latex(table: TextTable) -> str:
    def line(row: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"

    lines = [
        f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\hline",
        line(table.header),
        r"\hline",
    ]
    lines += [*map(line, table.rows), r"\hline", r"\end{tabular}"]
    return "\n".join([f"% {table.title}", *lines] if table.title else lines)


def _csv(table: TextTable) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([table.header, *table.rows])
    return buffer.getvalue().rstrip("\n")
