"""Tables of the same clips, brought into the same order: by Filename, never by row."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import Problem, ScoreError
from abaw_emi.core.ids import parse_id


def align(
    truth: pl.DataFrame, prediction: pl.DataFrame, names: tuple[str, str] = ("labels", "predictions")
) -> tuple[Array, Array]:
    """The two tables as (N, 6) arrays whose rows are the same clips, in the order of `truth`.

    Raises:
        ScoreError: an id is missing, extra or appears twice, or a value is not finite; all problems together.
    """
    problems = [
        *compare_ids(truth[FILENAME].to_list(), prediction[FILENAME].to_list(), names[1], names[0]),
        *check_rows(truth, names[0]),
        *_check_finite(prediction, names[1]),
    ]
    if problems:
        raise ScoreError(problems)
    rows = truth.select(FILENAME).join(prediction, on=FILENAME, how="left", maintain_order="left")
    return truth.select(EMOTIONS).to_numpy(), rows.select(EMOTIONS).to_numpy()


def compare_ids(
    expected: Collection[str], found: Collection[str], name: str, against: str, *, if_missing: str = ""
) -> list[Problem]:
    """A problem for the ids that are missing (with the next step `if_missing`), too many, or there twice."""
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    problems = []
    if missing:
        found_missing = list_ids(missing, f"missing, against {against}")
        problems.append(Problem(name, found_missing, next_step=if_missing))
    if extra:
        step = ""
        if any(parse_id(Path(each).stem) for each in extra if parse_id(each) is None):
            step = "make paths ids: Path(x).stem of each Filename"
        problems.append(Problem(name, list_ids(extra, f"too many, against {against}"), next_step=step))
    return problems + find_repeated(pl.Series(FILENAME, list(found), dtype=pl.String), name)


def check_rows(table: pl.DataFrame, name: str) -> list[Problem]:
    """What no table of clips may hold: an id twice, and values that are missing or not finite."""
    return [*find_repeated(table[FILENAME], name), *_check_finite(table, name)]


def list_ids(ids: Collection[str], what: str, shown: int = 10) -> str:
    """How many ids there are, what of them, and the first ones.

    >>> list_ids(["00001", "00002", "00003"], "missing", shown=2)
    '3 ids missing: 00001, 00002 and 1 more'
    """
    more = f" and {len(ids) - shown:,} more" if len(ids) > shown else ""
    return f"{len(ids):,} {'id' if len(ids) == 1 else 'ids'} {what}: {', '.join(list(ids)[:shown])}{more}"


def find_repeated(ids: pl.Series, name: str) -> list[Problem]:
    """A problem where ids are there more than once; messages call the table `name`."""
    twice = ids.filter(ids.is_duplicated()).unique().sort().to_list()
    return [Problem(name, list_ids(twice, "more than once"), "each id once")] if twice else []


def _check_finite(table: pl.DataFrame, name: str) -> list[Problem]:
    problems = []
    for emotion in EMOTIONS:
        finite = pl.col(emotion).cast(pl.Float64).is_finite().fill_null(value=False)
        if clips := table.filter(~finite)[FILENAME].to_list():
            found = list_ids(clips, "with a value that is not finite")
            problems.append(Problem(f"{name}, {emotion}", found, "finite numbers"))
    return problems
