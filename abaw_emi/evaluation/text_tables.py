"""Tables of text in the forms that people paste: terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

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
    from rich.table import Table

    from abaw_emi.core.terminal import Console, escape_controls

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(table.header):
        grid.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(escape_controls(cell, line=True) for cell in row))
    console = Console(piped_width=10_000, file=io.StringIO(), force_terminal=False)
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join([table.title, *lines] if table.title else lines)


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
