"""What is assumed of the organisers' submission format, in one place: a profile.

No public text gives the format; the default is what the official label files look like and what past entrants
sent (`submissions/README.md`). A TOML file with what the organisers do say replaces it, key by key:

    header = ["Filename", "Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy"]
    id_form = "plain"          # 42 in place of 00042
    id_suffix = ".mp4"
    decimals = 6
    range = [0.0, 1.0]
    csv_name = "predictions.csv"
    zip_name = "{name}.zip"    # {name}: of the submission
    tries = 5

What a file does not give stays assumed, and whatever rests on it says so.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, fields, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from abaw_emi.core.constants import COLUMNS, EMOTIONS, FILENAME, INTENSITY_RANGE
from abaw_emi.core.errors import Problem, SubmissionError, UsageError
from abaw_emi.core.files import AnyPath
from abaw_emi.core.ids import parse_id
from abaw_emi.core.records import read_toml
from abaw_emi.data.csv import BLANKS, CsvText, cap_problems
from abaw_emi.data.tables import format_predictions

IdForm = Literal["padded", "plain"]

_PLAIN_NAME = re.compile(r"[\w{}][\w{} .-]*", re.ASCII)
_SUFFIX = re.compile(r"[\w.-]*", re.ASCII)

_Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFormat:
    """A submission format.

    Attributes:
        header: names of the id column and of the six emotions, in the official order.
        id_form: whether ids are padded to five digits.
        id_suffix: what follows an id, such as ".mp4".
        decimals: of every value; None for the digits that read back to the same float32.
        range: the lowest and the highest value.
        csv_name: name of the CSV in the zip.
        zip_name: name of the zip; {name} stands for the submission's.
        tries: how many submissions a team may send.
        given: the attributes that a file gave; the others are assumed.
        source: that file, "" for the default.
    """

    header: Annotated[tuple[str, ...], Field(min_length=len(COLUMNS), max_length=len(COLUMNS))] = COLUMNS
    id_form: IdForm = "padded"
    id_suffix: str = ""
    decimals: Annotated[int, Field(ge=1, le=17, strict=True)] | None = None
    range: tuple[_Bound, _Bound] = INTENSITY_RANGE
    csv_name: str = "predictions.csv"
    zip_name: str = "{name}.zip"
    tries: Annotated[int, Field(ge=1, strict=True)] = 5
    given: frozenset[str] = frozenset()
    source: str = ""

    @property
    def assumed(self) -> tuple[str, ...]:
        """The attributes that nobody gave."""
        return tuple(key for key in KEYS if key not in self.given)

    @property
    def describe(self) -> str:
        """What the format rests on, in one line that says "assumed" where it is."""
        if not self.assumed:
            return f"the format is that of {self.source}"
        what = ", ".join(key.replace("_", " ") for key in self.assumed)
        rest = f"; the rest is that of {self.source}" if self.given else ": see abaw-emi submit --show-format"
        return f"the format is assumed ({what}){rest}"

    def to_toml(self) -> str:
        """The profile as the TOML file that `read_profile` reads; what is assumed says so."""
        lines = [f"# {self.describe}"]
        for key in KEYS:
            value = getattr(self, key)
            note = "" if key in self.given else "  # assumed"
            if value is None:
                lines.append(f"# {key} = 6  # not set: the digits that read back to the same float32")
            else:
                lines.append(
                    f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value)}{note}"
                )
        return "\n".join(lines)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value within `range` that can be written, in float32 and `decimals`.

        >>> low, high = SubmissionFormat(range=(0.1, 0.3)).bounds
        >>> 0.1 <= low < 0.1 + 1e-7, 0.3 - 1e-7 < high <= 0.3
        (True, True)
        """
        low, high = (Decimal(repr(bound)) for bound in self.range)
        if self.decimals is not None:
            step = Decimal(1).scaleb(-self.decimals)
            low, high = low.quantize(step, ROUND_CEILING), high.quantize(step, ROUND_FLOOR)
        least, most = np.float32(float(low)), np.float32(float(high))
        least = least if Decimal(float(least)) >= low else np.nextafter(least, np.float32(np.inf))
        most = most if Decimal(float(most)) <= high else np.nextafter(most, np.float32(-np.inf))
        return float(least), float(most)

    def mark(self, key: str) -> str:
        """The mark of an attribute that nobody gave: " (assumed)", else nothing."""
        return "" if key in self.given else " (assumed)"

    def name_zip(self, name: str) -> str:
        """The file name of the zip of the submission `name`."""
        return self.zip_name.replace("{name}", name)

    def spell(self, filename: str) -> str:
        """An id as this format writes it.

        >>> SubmissionFormat(id_form="plain", id_suffix=".mp4").spell("00042")
        '42.mp4'
        """
        return (filename if self.id_form == "padded" else str(int(filename))) + self.id_suffix

    def format(self, table: pl.DataFrame) -> bytes:
        """The bytes of the CSV to send: one row a clip, sorted by id."""
        if not self.given:
            return format_predictions(table)
        rows = (
            table.select(COLUMNS)
            .sort(FILENAME)
            .with_columns(pl.col(EMOTIONS).cast(pl.Float32).cast(pl.Float64))
        )
        spelled = pl.Series(FILENAME, [self.spell(filename) for filename in rows[FILENAME]], dtype=pl.String)
        named = rows.with_columns(spelled).rename(dict(zip(COLUMNS, self.header, strict=True)))
        return named.write_csv(float_precision=self.decimals).encode()

    def to_official(self, text: CsvText) -> tuple[CsvText, list[Problem]]:
        """The CSV with header and ids as the official files have them, row by row, and problems.

        Only what a file gave is insisted on; what is assumed is left to the check of the table.
        """
        if not self.given or not text.header:
            return text, []
        if text.header != self.header:
            expected = f"{','.join(self.header)}, as {self.source} says"
            return text, [Problem(f"{text.name}, line 1", f"header {','.join(text.header)}", expected)]
        problems: list[Problem] = []
        rows = []
        for row, (cell, *values) in enumerate(text.rows):
            spelled = cell.strip(BLANKS).removesuffix(self.id_suffix)
            filename = parse_id(spelled)
            if filename and cell != self.spell(filename) and self.given & {"id_form", "id_suffix"}:
                problems.append(Problem(text.where(row, self.header[0]), cell, self.spell(filename)))
            if self.decimals is not None:
                problems += self._check_decimals(values, text.where(row))
            rows.append([spelled, *values])
        step = f"is this file written as {self.source} says?"
        return replace(text, header=COLUMNS, rows=rows), cap_problems(problems, text.name, step)

    def _check_decimals(self, values: list[str], where: str) -> list[Problem]:
        return [
            Problem(f"{where}, {column}", cell, f"{self.decimals} decimals")
            for column, cell in zip(self.header[1:], values, strict=True)
            if len(cell.strip(BLANKS).partition(".")[2]) != self.decimals
        ]

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON values, with what of it is assumed."""
        values = {key: getattr(self, key) for key in KEYS}
        return {
            **values,
            "header": list(self.header),
            "range": list(self.range),
            "assumed": list(self.assumed),
        }


KEYS = tuple(field.name for field in fields(SubmissionFormat) if field.name not in ("given", "source"))
DEFAULT_PROFILE = SubmissionFormat()


def read_profile(path: AnyPath) -> SubmissionFormat:
    """The profile that a TOML file gives; what it leaves out has its default, and stays assumed.

    Raises:
        SubmissionError: the file is missing, is not TOML, or holds unknown keys or impossible values; all
            problems together.
    """
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    values = read_toml(path, SubmissionError, "a profile")
    known = ", ".join(KEYS)
    problems = [
        Problem(f"{path}, {key}", "no such key", f"one of {known}") for key in values if key not in KEYS
    ]
    profile = DEFAULT_PROFILE
    try:
        profile = TypeAdapter(SubmissionFormat).validate_python(
            {key: values[key] for key in values if key in KEYS}
        )
    except ValidationError as error:
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"] if not str(part).startswith("constrained"))
            problems.append(Problem(f"{path}, {key}", f"{item['input']!r}: {item['msg']}"))
    problems += _check(profile, path)
    if problems:
        raise SubmissionError(problems)
    return replace(profile, given=frozenset(values), source=str(path))


def find_profile(profile: SubmissionFormat | AnyPath) -> SubmissionFormat:
    """The profile, read where it is a file's name.

    Raises:
        SubmissionError: what `read_profile` raises.
        UsageError: it is neither.
    """
    if isinstance(profile, SubmissionFormat):
        return profile
    if not isinstance(profile, (str, os.PathLike)):
        raise UsageError(Problem("profile", f"a {type(profile).__name__}", "what read_profile returns"))
    return read_profile(profile)


def _check(profile: SubmissionFormat, path: Path) -> list[Problem]:
    problems = []
    if len(set(profile.header)) < len(COLUMNS) or not all(profile.header):
        problems.append(Problem(f"{path}, header", ", ".join(profile.header), "seven different names"))
    moved = [
        name
        for name, official in zip(profile.header, COLUMNS, strict=True)
        if name in COLUMNS and name != official
    ]
    if moved:  # the header renames columns in their official order, so it would name them wrongly
        expected = f"the order {', '.join(COLUMNS)}, under whatever names"
        problems.append(Problem(f"{path}, header", f"{', '.join(moved)} in another's place", expected))
    if not profile.range[0] < profile.range[1] or not profile.bounds[0] < profile.bounds[1]:
        problems.append(Problem(f"{path}, range", f"{list(profile.range)}", "the lower value first"))
    for key, suffix in (("csv_name", ".csv"), ("zip_name", ".zip")):
        value = getattr(profile, key)
        if not _PLAIN_NAME.fullmatch(value) or not value.endswith(suffix):
            problems.append(
                Problem(f"{path}, {key}", repr(value), f"a plain file name that ends in {suffix}")
            )
    if re.search("[{}]", profile.zip_name.replace("{name}", "")):
        problems.append(Problem(f"{path}, zip_name", repr(profile.zip_name), "no braces but {name}"))
    if re.search("[{}]", profile.csv_name):
        problems.append(
            Problem(f"{path}, csv_name", repr(profile.csv_name), "no braces; zip_name has {name}")
        )
    if not _SUFFIX.fullmatch(profile.id_suffix):
        problems.append(Problem(f"{path}, id_suffix", repr(profile.id_suffix), "letters, digits, . _ -"))
    return problems
