"""Tables as people have them, files and frames of polars or pandas, to the package's own tables.

A frame has the columns `constants.COLUMNS`, in any order and beside any others; a pandas frame may have
`Filename` as its index. Ids are integers or text ("12" and "00012" are the same clip).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from abaw_emi.core.constants import COLUMNS, EMOTIONS, FILENAME
from abaw_emi.core.errors import Problem, TableError, UsageError, collect_errors, show_first
from abaw_emi.core.files import AnyPath, write_bytes
from abaw_emi.core.ids import as_id, parse_id
from abaw_emi.data.align import check_rows, find_repeated, list_ids
from abaw_emi.data.csv import BLANKS
from abaw_emi.data.groups import GROUP, read_groups
from abaw_emi.data.provenance import Provenance, find_prediction_file, read_prediction_file
from abaw_emi.data.tables import format_predictions, read_ids, read_labels

Table = pl.DataFrame | pl.LazyFrame | str | os.PathLike[str] | Any
"""A CSV file, or a frame of polars or pandas; of predictions, a run folder, too."""

Ids = Table | Iterable[str | int]
"""Ids of clips, as numbers or text, or a table whose column `Filename` holds them."""

_EXPECTED = "a path, or a frame of polars or pandas"


class Given(NamedTuple):
    """A table of clips.

    Attributes:
        table: with `constants.COLUMNS`.
        record: that lies beside a prediction file.
        doubts: what is wrong with that record, or doubtful of the file.
    """

    table: pl.DataFrame
    record: Provenance | None = None
    doubts: tuple[Problem, ...] = ()

    @property
    def trained_on(self) -> frozenset[str]:
        """The ids that the record names."""
        return self.record.trained_on if self.record else frozenset()


def is_table(value: object) -> bool:
    """Whether this is a path or a frame, and not an array or a list of numbers."""
    return isinstance(value, (str, os.PathLike, pl.DataFrame, pl.LazyFrame)) or _is_pandas(value)


def read_table(source: Table, name: str, kind: Literal["labels", "predictions"]) -> Given:
    """The table of labels or predictions that `source` is or holds; messages call a frame `name`.

    A run folder stands for its predictions of what it held out.

    Raises:
        TableError: a file breaks the schema, or a frame lacks columns or ids, or holds text; all problems
            together.
    """
    if isinstance(source, (str, os.PathLike)):
        if kind == "labels":
            return Given(read_labels(_find_label_file(Path(source))))
        file, problems = read_prediction_file(find_prediction_file(Path(source)))
        return Given(file.table, file.record, (*file.warnings, *problems))
    frame = _to_polars(source, name)
    _check_columns(frame, name, COLUMNS)
    texts = [emotion for emotion in EMOTIONS if not frame[emotion].dtype.is_numeric()]
    if texts:
        raise TableError(
            Problem(f"{name}, {each}", f"{frame[each].dtype} values", "numbers") for each in texts
        )
    return Given(_with_ids(frame, name).select(COLUMNS).with_columns(pl.col(EMOTIONS).cast(pl.Float64)))


def _find_label_file(path: Path) -> Path:
    """The path of a label file.

    Raises:
        TableError: it is a folder.
    """
    if not path.is_dir():
        return path
    files = sorted(path.glob("*_split.csv"), reverse=True)  # valid before train
    step = f"did you mean {files[0]}?" if files else ""
    raise TableError(Problem(str(path), "a folder", "a label file", step))


def check_named(tables: object, what: str) -> None:
    """Passes if tables are given by name.

    Raises:
        TableError: they are not.
    """
    if not isinstance(tables, Mapping):
        example = 'a dict of tables by name, such as {"new": "new.csv", "old": "old.csv"}'
        raise TableError(Problem(what, f"a {type(tables).__name__}", example))


def write_predictions(table: Table, path: AnyPath) -> Path:
    """Writes a prediction table, sorted by id, whole or not at all; returns the path.

    Values are rounded to float32, and written with the digits that read back to just that number in
    float64 too: a score of the file equals the score of the predictions in memory.

    Raises:
        TableError: columns are missing or hold text, an id is missing or there twice, or a value is not
            finite in float32.
    """
    given = read_table(table, "predictions", "predictions").table
    if problems := check_rows(given.with_columns(pl.col(EMOTIONS).cast(pl.Float32)), "predictions"):
        raise TableError(problems)
    write_bytes(Path(path), format_predictions(given))
    return Path(path)


def read_group_table(source: Table, name: str = "groups") -> pl.DataFrame:
    """The table of groups (`groups.read_groups`) that `source` is or holds.

    Raises:
        TableError: it has no column `Filename`, or not one other; an id is missing or there twice, or a clip
            has no group.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_groups(Path(source))
    frame = _to_polars(source, name)
    _check_columns(frame, name, (FILENAME,))
    others = [column for column in frame.columns if column != FILENAME]
    if len(others) != 1:
        found = f"columns {', '.join(frame.columns)}"
        raise TableError(Problem(name, found, f"two: {FILENAME}, and one that names the group"))
    table = _with_ids(frame, name).select(FILENAME, _to_text(frame[others[0]]).alias(GROUP))
    problems = find_repeated(table[FILENAME], name)
    if bare := table.filter(pl.col(GROUP).is_null())[FILENAME].to_list():
        problems.append(Problem(f"{name}, {others[0]}", list_ids(bare, "without a group")))
    if problems:
        raise TableError(problems)
    return table


def read_clip_ids(source: Ids, name: str) -> list[str]:
    """The ids that `source` is or holds, as text of five digits, in its order; messages call it `name`.

    Raises:
        TableError: it is a single id or no ids at all, or a table without a column `Filename`.
    """
    if isinstance(source, (str, os.PathLike)):
        if parse_id(str(source)):
            raise TableError(Problem(name, f"a single id, {str(source)!r}", "a list of ids"))
        if Path(source).is_dir():
            step = "read_test_ids lists those of a data folder"
            raise TableError(Problem(str(source), "a folder", f"a list of ids, {_EXPECTED}", step))
        return read_ids(Path(source))
    if is_table(source):
        frame = _to_polars(source, name)
        _check_columns(frame, name, (FILENAME,))
        return _with_ids(frame, name)[FILENAME].to_list()
    if not isinstance(source, Iterable):
        raise TableError(Problem(name, f"a {type(source).__name__}", f"a list of ids, {_EXPECTED}"))
    return [as_id(clip) for clip in source]


def read_trained_on(
    trained_on: Mapping[str, Ids] | None, names: Collection[str]
) -> dict[str, frozenset[str]]:
    """The ids that each of the systems `names` was trained on; none for one that `trained_on` leaves out.

    Raises:
        UsageError: it names another system, or holds what is no ids; all such problems.
    """
    problems: list[Problem] = []
    seen: dict[str, frozenset[str]] = dict.fromkeys(names, frozenset())
    for name, ids in (trained_on or {}).items():
        with collect_errors(problems):
            if name not in names:
                known = ", ".join(map(str, names))
                raise UsageError(Problem("trained_on", f"no system {name!r}", f"one of {known}"))
            seen[name] = frozenset(read_clip_ids(ids, f"trained_on, {name}"))
    if problems:
        raise UsageError(problems)
    return seen


def _to_polars(source: Any, name: str) -> pl.DataFrame:
    """A frame of polars; one of pandas column by column, which needs no pyarrow."""
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if isinstance(source, pl.DataFrame):
        return source
    if not _is_pandas(source):
        raise TableError(Problem(name, f"a {type(source).__name__}", _EXPECTED))
    frame = source.reset_index() if source.index.name == FILENAME else source
    known = frame.astype(object).where(frame.notna(), None)  # pandas has several signs for a missing value
    return pl.DataFrame({str(column): known[column].to_list() for column in frame.columns}, strict=False)


def _is_pandas(value: object) -> bool:
    """Told by its methods: pandas is no dependency."""
    return hasattr(value, "columns") and hasattr(value, "reset_index")


def _check_columns(frame: pl.DataFrame, name: str, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise TableError(Problem(name, f"column {column} is missing") for column in missing)


def _with_ids(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame with ids as text of five digits; other text, such as a path, stays as it is.

    Raises:
        TableError: a row has no id.
    """
    ids = _to_text(frame[FILENAME])
    if bare := ids.is_null().arg_true().to_list():
        found = (
            f"no id in {len(bare):,} of {len(ids):,} rows, from 0: {show_first([str(row) for row in bare])}"
        )
        raise TableError(Problem(f"{name}, {FILENAME}", found, "an id in each row"))
    return frame.with_columns(pl.Series(FILENAME, [as_id(text) for text in ids], pl.String))


def _to_text(values: pl.Series) -> pl.Series:
    """The values as text; null for NaN and for blanks, too."""
    numbers = values.fill_nan(None) if values.dtype.is_float() else values
    text = numbers.cast(pl.String)
    return text.set(text.str.strip_chars(BLANKS) == "", None)
