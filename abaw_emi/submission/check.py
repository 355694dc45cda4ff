"""Checks a prediction file, a submission folder or a zip, of any origin, before it is sent.

The form of a submission is that of a profile (`submission.format`), assumed where nobody gave it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import polars as pl
from typing_extensions import TypedDict

from abaw_emi.core.constants import FILENAME, ID_WIDTH
from abaw_emi.core.errors import EmiError, Problem, SubmissionError, TableError
from abaw_emi.core.files import AnyPath, read_bytes
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import parse_id
from abaw_emi.core.records import read_json
from abaw_emi.core.suggest import check_choice
from abaw_emi.data.align import compare_ids
from abaw_emi.data.csv import MAX_BYTES, CsvText, cap_problems, find_cut, parse_csv
from abaw_emi.data.frames import Ids, Table, read_clip_ids, read_table
from abaw_emi.data.tables import TableKind, inspect_text
from abaw_emi.evaluation.diagnostics import find_constant, inspect_values
from abaw_emi.submission.archive import check_members, is_csv, read_zip
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat, find_profile

MANIFEST = "manifest.json"


class _Manifest(TypedDict):
    """What is read of a manifest."""

    sha256: str


_PLAIN_OR_PADDED = re.compile(rf"\d{{{ID_WIDTH}}}|[1-9]\d*|0", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check found: problems reject the file, warnings do not; `rows` is None if none were read."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    rows: int | None = None


def check_path(
    path: AnyPath,
    test_ids: Ids,
    kind: TableKind = "submission",
    profile: SubmissionFormat | AnyPath = DEFAULT_PROFILE,
) -> Check:
    """Checks a CSV, a zip or a submission folder against the ids of the test clips.

    Args:
        path: the CSV, zip or folder.
        test_ids: the ids that must be there, each once, or a table of them.
        kind: "submission" (in the profile's form, no constant column) or "predictions" (raw model output).
        profile: the form of a submission (`format.read_profile`), or its TOML file; assumed where nobody
            gave it.

    Raises:
        TableError: `path` does not exist or cannot be read, or there is no test id.
        UsageError: no such kind.
    """
    check_choice("kind", kind, get_args(TableKind))
    path, profile = Path(path), find_profile(profile)
    ids = list_test_ids(test_ids)
    if path.is_dir():
        return _check_folder(path, ids, kind, profile)
    content = read_bytes(path, MAX_BYTES)
    if path.suffix.lower() == ".zip" or content.startswith(b"PK\x03\x04"):
        return check_zip(content, str(path), ids, kind, profile)
    return check_csv(content, str(path), ids, kind, profile)


def check_submission(
    submission: Table, test_ids: Ids, *, profile: SubmissionFormat | AnyPath = DEFAULT_PROFILE
) -> Check:
    r"""Checks a submission, of any origin, as `check_path` does; signs of likely mistakes are warnings.

    A frame, of polars or pandas, is checked as the file that it would be in the profile's form.

    Raises:
        TableError: columns of a frame are missing or hold text, or there is no test id.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.csv"
    ...     header = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    ...     _ = path.write_text(f"{header}\n1,0,.1,.2,.3,.4,.5\n2,1,.2,.3,.4,.5,1.6\n")
    ...     checked = check_submission(path, ["00001", "00002"])
    >>> [str(problem).partition("mine.csv")[2] for problem in checked.problems]
    [', line 3, Joy: 1.6 is outside [0, 1]']
    """
    if isinstance(submission, (str, os.PathLike)):
        return check_path(submission, test_ids, "submission", profile)
    table = read_table(submission, "submission", "predictions").table
    ids, profile = list_test_ids(test_ids), find_profile(profile)
    return check_csv(profile.format(table), "submission", ids, profile=profile)


def list_test_ids(test_ids: Ids) -> list[str]:
    """The ids of the test clips, of a list or a table.

    Raises:
        TableError: there is none.
    """
    ids = read_clip_ids(test_ids, "test_ids")
    if not ids:
        raise TableError(Problem("test_ids", "no id", "those of the test clips"))
    return ids


def check_csv(
    content: bytes,
    name: str,
    test_ids: Sequence[str],
    kind: TableKind = "submission",
    profile: SubmissionFormat = DEFAULT_PROFILE,
) -> Check:
    """Checks the bytes of a prediction CSV: form, header, ids, order of rows, values."""
    text, form = parse_csv(content, name, strict=kind == "submission")
    problems: list[Problem] = []
    if kind == "submission":
        text, problems = profile.to_official(text)
    table, found = inspect_text(text, form, kind, profile.range)
    problems += found
    if table is None:
        return Check(problems=tuple(problems))
    problems += [*_check_ids(table, text, test_ids), *_check_order(table, text)]
    constant = find_constant(table, name).values()
    diagnostics = [] if problems else inspect_values(table, name=name)
    cut = find_cut(content, name)
    if kind == "predictions":
        return Check(problems=tuple(problems), warnings=(*cut, *constant, *diagnostics), rows=len(table))
    # A submission is clipped, and written with the decimals that the organisers want.
    usual = {"clipped"} | ({"rounded"} if profile.decimals else set())
    warnings = [*cut, *_check_spelling(text), *(each for each in diagnostics if each.code not in usual)]
    return Check(problems=(*problems, *constant), warnings=tuple(warnings), rows=len(table))


def check_zip(
    content: bytes,
    name: str,
    test_ids: Sequence[str],
    kind: TableKind = "submission",
    profile: SubmissionFormat = DEFAULT_PROFILE,
) -> Check:
    """Checks the bytes of a zip: sound, exactly one CSV at its root and nothing else, and that CSV."""
    try:
        members = read_zip(content, name)
    except SubmissionError as error:
        return Check(problems=error.problems)
    checks = [
        check_csv(inner, f"{name}, {member}", test_ids, kind, profile)
        for member, inner in members
        if is_csv(member)
    ]
    problems = [problem for check in checks for problem in check.problems]
    return Check(
        problems=(*check_members([member for member, _ in members], name, profile), *problems),
        warnings=tuple(warning for check in checks for warning in check.warnings),
        rows=checks[-1].rows if checks else None,
    )


def _check_folder(folder: Path, test_ids: Sequence[str], kind: TableKind, profile: SubmissionFormat) -> Check:
    """Checks a submission folder: its CSV, its zip, and that both and the manifest agree."""
    shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    tables = [path for path in shown if path.suffix.lower() == ".csv"]
    archives = [path for path in shown if path.suffix.lower() == ".zip"]
    problems: list[Problem] = []
    if len(tables) != 1:
        problems.append(Problem(str(folder), f"{len(tables)} CSV files", "exactly one"))
    if len(archives) != 1:
        problems.append(Problem(str(folder), f"{len(archives)} zip files", "exactly one"))
    checks = [check_path(path, test_ids, kind, profile) for path in (*tables, *archives)]
    for check in checks:
        problems += check.problems
    if not problems:
        content = tables[0].read_bytes()
        ((_, packed),) = read_zip(archives[0].read_bytes(), str(archives[0]))
        if packed != content:
            problems.append(Problem(str(archives[0]), f"its CSV is not {tables[0].name}", "the same bytes"))
        problems += _check_manifest(folder / MANIFEST, content)
    return Check(
        problems=tuple(problems),
        warnings=checks[0].warnings if checks else (),
        rows=checks[0].rows if checks else None,
    )


def _check_manifest(path: Path, content: bytes) -> list[Problem]:
    if not path.is_file():
        return [Problem(str(path), "no manifest", "the one that abaw-emi submit writes")]
    try:
        recorded = read_json(path, _Manifest, "a manifest")["sha256"]
    except EmiError as error:
        return list(error.problems)
    if recorded != sha256(content):
        return [Problem(str(path), "the CSV was changed after it was written", f"SHA-256 {recorded}")]
    return []


def _check_ids(table: pl.DataFrame, text: CsvText, test_ids: Sequence[str]) -> list[Problem]:
    """Ids that are no test clip's, by their lines, and test clips that have no row."""
    known = set(test_ids)
    others = [
        Problem(text.where(row, FILENAME), f"{filename} is not a test id")
        for row, filename in enumerate(table[FILENAME])
        if parse_id(filename) and filename not in known
    ]
    missing = compare_ids(test_ids, [*known.intersection(table[FILENAME])], text.name, "the test ids")
    return [*cap_problems(others, text.name, "is this a file of another split, or a label file?"), *missing]


def _check_spelling(text: CsvText) -> list[Problem]:
    """A warning of ids that the organisers may read otherwise: 42.0, 000042, or only some padded."""
    ids = [row[text.header.index(FILENAME)] for row in text.rows]
    odd = next((cell for cell in ids if not _PLAIN_OR_PADDED.fullmatch(cell)), None)
    if odd:
        return [Problem(text.name, f"ids such as {odd!r}", "digits alone, of one form")]
    plain = next((cell for cell in ids if len(cell) < ID_WIDTH), None)
    padded = next((cell for cell in ids if cell.startswith("0") and len(cell) == ID_WIDTH), None)
    if padded and plain:
        return [Problem(text.name, f"ids such as {padded} and such as {plain}", "ids of one form")]
    return []


def _check_order(table: pl.DataFrame, text: CsvText) -> list[Problem]:
    """The first row that stands before a smaller id, and how many there are: one move can shift many."""
    ids = table[FILENAME].to_list()
    late = [row for row, (before, after) in enumerate(pairwise(ids), start=1) if after < before]
    if not late:
        return []
    more = f", and {len(late) - 1:,} more such rows" if len(late) > 1 else ""
    found = f"{ids[late[0]]} stands after {ids[late[0] - 1]}{more}"
    return [Problem(text.where(late[0], FILENAME), found, "rows sorted by id")]
