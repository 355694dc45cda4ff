"""What a table of the page is: cells that show one thing and sort by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abaw_emi.evaluation.text_tables import format_interval, format_r


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows, or what its picture says.
        value: what it sorts by; None for its text.
        href: a link, or the file that is played.
        kind: "text", "player" or "strip".
        code: whether it is a hash or a signature.
        video: whether what is played is a video.
        label: what the player is called.
        bars: of a strip.
    """

    text: str = ""
    value: float | str | None = None
    href: str = ""
    kind: str = "text"
    code: bool = False
    video: bool = False
    label: str = ""
    bars: Sequence[dict[str, object]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its name, and whether it holds numbers, cannot be sorted by, is for the screen alone."""

    name: str
    number: bool = False
    plain: bool = False
    screen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page.

    Attributes:
        id: its anchor.
        name: for readers who cannot see it.
        columns: their heads.
        rows: as wide as the columns.
        title: a heading, "" for none.
        note: how to read it.
        signature: of its numbers.
        sortable: whether heads sort.
        filter: whether rows can be filtered.
        lead: whether the first row is the one that counts.
    """

    id: str
    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    signature: str = ""
    sortable: bool = True
    filter: bool = False
    lead: bool = False
    kind: str = "table"


def correlation_cell(value: float | None, *, signed: bool = False) -> Cell:
    """A correlation, or a difference of two."""
    return Cell(text=format_r(value, signed=signed), value="" if value is None else value)


def number_cell(value: float) -> Cell:
    """A number with three decimals."""
    return Cell(text=f"{value:.3f}", value=value)


def interval_cell(bounds: tuple[float, float] | None, *, signed: bool = False) -> Cell:
    """An interval, which sorts by its lower end."""
    return Cell(text=format_interval(bounds, signed=signed), value=bounds[0] if bounds else "")


def plain_cell(value: object) -> Cell:
    """Whatever a record holds, empty for nothing."""
    if value is None:
        return Cell()
    return Cell(text=str(value), value=value if isinstance(value, int | float) else None)
