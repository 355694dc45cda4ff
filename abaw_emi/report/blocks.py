"""What a page is made of: sections of charts, tables and texts; and how a table is made of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from abaw_emi.report.charts.chart import Chart
from abaw_emi.report.charts.style import format_bounds, format_number

T = TypeVar("T")

_FILTERED = 8
"""A table with more rows than this can be filtered."""

_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows, or the description of its picture.
        notes: smaller lines below the text.
        full: what `text` is the beginning of, shown by the pointer.
        value: what it is sorted by; None for its text.
        href: a link, or the file that is played.
        kind: "text", "code" (a hash), "audio", "video" or "strip".
        label: of the player.
        bars: of a strip.
    """

    text: str = ""
    notes: Sequence[str] = ()
    full: str = ""
    value: float | str | None = None
    href: str = ""
    kind: str = "text"
    label: str = ""
    bars: Sequence[dict[str, object]] = ()


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column.

    Attributes:
        name: its head.
        cell: what it shows of an item; text, a number and None (an empty cell) stand for simple cells.
        number: whether it holds numbers, which are aligned to the right.
        sortable: whether its head sorts the rows.
        screen: whether a printed page leaves it out.
    """

    name: str
    cell: Callable[[T], Cell | str | float | None]
    number: bool = False
    sortable: bool = True
    screen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[T]):
    """A table.

    Attributes:
        id: its anchor.
        title: its heading.
        items: one for each row.
        columns: at least one.
        note: how to read it.
        signature: the settings that reproduce its numbers.
        lead: whether the first row is emphasised.
    """

    id: str
    title: str
    items: Sequence[T]
    columns: Sequence[Column[T]]
    note: str = ""
    signature: str = ""
    lead: bool = False
    kind: str = "table"

    @property
    def rows(self) -> list[list[Cell]]:
        """The cells."""
        return [[_to_cell(column.cell(item)) for column in self.columns] for item in self.items]

    @property
    def filtered(self) -> bool:
        """Whether the page offers to filter the rows."""
        return len(self.items) > _FILTERED


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; of kind "missing" where it says what is not on the page."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Lines:
    """A list of lines."""

    lines: Sequence[str]
    kind: str = "list"


Block = Chart | Table[Any] | Text | Lines
"""What a section is made of."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number at the top of the page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The content of a page.

    Attributes:
        lede: what the page is about, in a sentence.
        tiles: the numbers at its top.
        sections: in their order.
    """

    lede: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]

    @property
    def charts(self) -> list[Chart]:
        """Every chart, in the order of the page."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Chart)]

    @property
    def missing(self) -> dict[str, list[str]]:
        """What is not on the page and why, by the section's id."""
        texts = {
            section.id: [
                block.text for block in section.blocks if isinstance(block, Text) and block.kind == "missing"
            ]
            for section in self.sections
        }
        return {name: lines for name, lines in texts.items() if lines}


def r_cell(value: float | None, *, signed: bool = False) -> Cell:
    """A correlation, or a difference of two."""
    return Cell(text=format_number(value, signed=signed), value="" if value is None else value)


def interval_cell(bounds: tuple[float, float] | None, *, signed: bool = False) -> Cell:
    """An interval, sorted by its lower end."""
    return Cell(text=format_bounds(bounds, signed=signed), value=bounds[0] if bounds else "")


def hash_cell(value: object) -> Cell:
    """The first digits of a hash, and the whole hash under the pointer; empty for None."""
    text = str(value or "")
    return Cell(text=text[:_HASH_DIGITS], full=text, kind="code")


def _to_cell(content: Any) -> Cell:
    if isinstance(content, Cell):
        return content
    if isinstance(content, int | float):
        return Cell(
            text=f"{content:,}" if isinstance(content, int) else format_number(content, 3), value=content
        )
    return Cell(text="" if content is None else str(content))
