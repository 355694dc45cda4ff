"""Groups of clips that are not independent of each other, such as the clips of one speaker.

The challenge delivers no speaker ids. If they are known, they are given as a CSV of two columns, `Filename`
and any other name, one row a clip. It may hold more clips than are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.constants import FILENAME
from abaw_emi.core.errors import Problem, ScoreError, TableError
from abaw_emi.core.files import AnyPath, read_bytes
from abaw_emi.data.align import list_ids
from abaw_emi.data.csv import BLANKS, MAX_BYTES, cap_problems, parse_csv
from abaw_emi.data.tables import find_ids

GROUP = "Group"
"""Name of the group column in a group table."""

_FEWEST = 2


def read_groups(path: AnyPath) -> pl.DataFrame:
    """The group table of a CSV: `Filename` (five digits) and `Group` (text).

    Raises:
        TableError: the file is missing, has other columns, or a bad or repeated id; all problems together.
    """
    text, problems = parse_csv(read_bytes(Path(path), MAX_BYTES), str(path))
    if len(text.header) != 2 or text.header[0] != FILENAME:
        found = f"columns {', '.join(text.header) or '(none)'}"
        wanted = Problem(f"{path}, line 1", found, f"two: {FILENAME}, and one that names the group")
        raise TableError(cap_problems([wanted, *problems], str(path)))
    rows, bad_ids = find_ids(text)
    groups = {filename: text.rows[row][1].strip(BLANKS) for filename, row in rows.items()}
    problems += bad_ids
    problems += [
        Problem(text.where(rows[filename], text.header[1]), "no group", "the group of the clip")
        for filename, group in groups.items()
        if not group
    ]
    if problems:
        raise TableError(cap_problems(problems, str(path), "is this a group file?"))
    return pl.DataFrame(
        {FILENAME: list(groups), GROUP: list(groups.values())}, schema={FILENAME: pl.String, GROUP: pl.String}
    )


def number_groups(
    groups: pl.DataFrame, clips: Sequence[str], names: tuple[str, str] = ("labels", "groups")
) -> npt.NDArray[np.intp]:
    """(N,) the number of each clip's group, from 0 on, in the order of their first clips.

    Raises:
        ScoreError: a clip has no group, or there are fewer than two groups.

    >>> table = pl.DataFrame({"Filename": ["00001", "00002", "00003"], "Group": ["b", "a", "b"]})
    >>> number_groups(table, ["00001", "00002", "00003"]).tolist()
    [0, 1, 0]
    """
    group_of = dict(groups.select(FILENAME, GROUP).iter_rows())
    missing = sorted(clip for clip in clips if clip not in group_of)
    if missing:
        raise ScoreError(Problem(names[1], list_ids(missing, f"without a group, against {names[0]}")))
    numbers: dict[str, int] = {}
    clusters = np.array([numbers.setdefault(group_of[clip], len(numbers)) for clip in clips], dtype=np.intp)
    if len(numbers) < _FEWEST:
        raise ScoreError(Problem(names[1], f"{len(numbers)} group", "at least two groups to resample"))
    return clusters
