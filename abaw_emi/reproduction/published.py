"""Published results, row by row, and which preset runs the same system here.

The rows are in `published.csv`. Numbers are mean Pearson as their authors printed them, on the official valid
and hidden test splits; nothing there was measured by this package. PAPER is the one of `core.constants`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

from pydantic import TypeAdapter

from abaw_emi.core.constants import TableName
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.suggest import suggest_name

TABLES: tuple[TableName, ...] = get_args(TableName)

TITLES: dict[TableName, str] = {
    "1": "Table 1: entrants of the challenge",
    "2": "Table 2: parts of the model, on valid",
    "text": "From the text: further experiments",
}

Mark = Literal["disputed", "inferred", "about", "illegible", "lengths"]

MARKS: dict[Mark, str] = {
    "disputed": "sources differ on whether the number is for valid or test; it is compared with our valid",
    "inferred": "the number for valid is inferred, not printed as such",
    "about": "the text gives it as a rough figure",
    "illegible": "the number cannot be read in our copy of the paper",
    "lengths": "the length of training is not published: 30 epochs, and 60 for longer, are guesses",
}
"""The meaning of a mark at a published number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A system with a published score.

    Attributes:
        table: the table that it is in.
        name: unique within the table; what `--only` takes.
        system: its name in the publication.
        preset: what runs it here; None where no preset can, and `note` says why.
        train_plus_val: whether it is trained on valid too, so that it has no score on valid.
        valid: mean Pearson on valid; None where it is not published.
        test: mean Pearson on test; None where it is not published.
        words: what is published in place of a number for valid.
        marks: what a reader must know about the numbers.
        source: where they are published.
        note: how the run here differs from the published system.
    """

    table: TableName
    name: str
    system: str
    preset: str | None = None
    train_plus_val: bool = False
    valid: float | None = None
    test: float | None = None
    words: str = ""
    marks: tuple[Mark, ...] = ()
    source: str = ""
    note: str = ""

    @property
    def beside_valid(self) -> float | None:
        """The published number that a score on valid is compared with."""
        return self.test if self.valid is None and "disputed" in self.marks else self.valid

    @property
    def remarks(self) -> tuple[str, ...]:
        """The meaning of the marks, and the note."""
        return tuple(filter(None, [*(MARKS[mark] for mark in self.marks), self.note]))


def _read_rows() -> tuple[PublishedRow, ...]:
    """The rows of `published.csv`; an empty cell is the default of its attribute."""
    text = (files("abaw_emi.reproduction") / "published.csv").read_text(encoding="utf-8")
    rows = [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(text.splitlines())]
    return TypeAdapter(tuple[PublishedRow, ...]).validate_python(
        [{**row, "marks": row.get("marks", "").split()} for row in rows]
    )


ROWS = _read_rows()


def find_rows(table: TableName, names: Sequence[str] = ()) -> tuple[PublishedRow, ...]:
    """The rows of a table in its order: all of them, or those with these names.

    Raises:
        UsageError: the table has no row of a name; all such names, with the known ones.
    """
    rows = [row for row in ROWS if row.table == table]
    known = [row.name for row in rows]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            Problem(
                "--only",
                f"no row {name!r} of table {table}",
                next_step=suggest_name(name, known) or f"abaw-emi tables --list --table {table} lists them",
            )
            for name in unknown
        )
    return tuple(row for row in rows if not names or row.name in names)
