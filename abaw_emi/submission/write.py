"""A prediction table to a submission that has been read back and checked.

Values are brought into the profile's range last, after ensembling, counted and recorded; nothing else is
changed. A submission appears under its name whole or not at all: it is made in a hidden folder beside,
checked there, entered into the ledger, and renamed.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import Problem, SubmissionError, UsageError, show_first
from abaw_emi.core.files import AnyPath, write_bytes
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.records import timestamp
from abaw_emi.core.suggest import check_choice
from abaw_emi.data.frames import Ids, Table, read_table
from abaw_emi.data.provenance import Provenance
from abaw_emi.submission.archive import read_zip
from abaw_emi.submission.bounds import Bounds
from abaw_emi.submission.check import MANIFEST, list_test_ids
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat, find_profile
from abaw_emi.submission.ledger import (
    LEDGER,
    Ledger,
    append,
    locked,
    partial_folder,
    read_ledger,
    size_of,
    truncate,
)
from abaw_emi.submission.prepare import Ready, doubt, prepare_submission

_NAME = re.compile(r"\w[\w .-]{0,99}(?<![ .])")
"""Names that every system takes for a folder, and that no CSV, JSON or shell misreads."""

_UNKNOWN_HARM = "whether clipping lowers r is not known: no predictions of valid by what is submitted"

_RENAME = "use --name (in Python name=NAME)"

_LEDGER_KEYS = (
    *("name", "created", "sha256", "zip_sha256", "rows", "clipped"),
    *("source", "system", "val", "signature"),
)

# The first moment that a zip can hold: the archive's bytes depend on the CSV alone.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A finished submission: where it lies, and what was changed to make it.

    Attributes:
        folder: `submissions/<name>/`.
        archive: the zip to send.
        clipped: cells set to the nearer end of [0, 1], per emotion.
        filled: ids that had no prediction and got the train mean.
        manifest: what `manifest.json` records.
        warnings: likely mistakes that did not keep it from being written.
    """

    folder: Path
    archive: Path
    clipped: dict[str, int]
    filled: tuple[str, ...]
    manifest: dict[str, Any]
    warnings: tuple[Problem, ...] = ()

    def describe_changes(self) -> list[str]:
        """A line for each thing that was done to the predictions."""
        low, high = self.manifest["profile"]["range"]
        lines = []
        if counts := ", ".join(f"{emotion} {count:,}" for emotion, count in self.clipped.items() if count):
            lines.append(f"clipped to [{low:g}, {high:g}]: {counts}")
            if self.manifest["bounds"] == "auto" and self.manifest["harmed"] is None:
                lines.append(_UNKNOWN_HARM)
        for emotion, (factor, offset) in self.manifest["rescaled"].items():
            change = f"rescaled, {factor:.6g} times the value {offset:+.6g}"
            lines.append(f"{emotion}: {change}, to which r is blind")
        if self.filled:
            lines.append(f"filled with the train mean: {len(self.filled):,} clips: {show_first(self.filled)}")
        return lines


def write_submission(
    table: Table,
    test_ids: Ids,
    out: AnyPath,
    *,
    name: str = "",
    bounds: Bounds = "auto",
    harmed: Collection[str] | None = None,
    fill: Table | None = None,
    source: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
    where: str = "predictions",
    profile: SubmissionFormat | AnyPath = DEFAULT_PROFILE,
    val: dict[str, Any] | None = None,
    force: bool = False,
    dry_run: bool = False,
    before_commit: Callable[[], object] | None = None,
) -> Submission:
    """Writes, packs, re-reads and checks a submission, and enters it into the ledger.

    Stopped or killed anywhere, it leaves the submissions as they were before.

    Args:
        table: the predictions: a CSV file, or a frame of polars or pandas.
        test_ids: ids of the test clips, each of which needs one row, or a table of them.
        out: the folder of submissions.
        name: of this submission; the next free `submission-<k>` where empty.
        bounds: how values outside the profile's range are brought into it, or refused: see `bounds.Bounds`.
        harmed: emotions whose r on valid is lower when clipped, for "auto"; None where that is not known, so
            that only a column which clipping would flatten is rescaled.
        fill: label table whose means stand in for clips without a prediction; refused otherwise.
        source: what the manifest says of the prediction file (path, hash, ...).
        provenance: the prediction file's record: checked, and kept in the manifest.
        where: what messages call the predictions.
        profile: the organisers' format, and how many tries they give; or the TOML file of it.
        val: what is known of the system's validation score, for the ledger.
        force: whether to go on where no try is left, or the file is that of an earlier submission or looks
            like labels.
        dry_run: whether to do all but write.
        before_commit: called when only the ledger's line and the rename are left. Who stops on signals holds
            them back from there on: what is entered is not called off any more.

    Raises:
        TableError: columns of a frame are missing or hold text, or there is no test id.
        SubmissionError: everything that would get the file rejected, all together; nothing is written.
        UsageError: `name` is not a plain folder name, or `bounds` unknown.
    """
    out = Path(out)
    if name and not _NAME.fullmatch(name):
        raise UsageError(Problem("name", repr(name), "a plain folder name: letters, digits, . _ - or spaces"))
    check_choice("bounds", bounds, get_args(Bounds))
    ids, profile = list_test_ids(test_ids), find_profile(profile)
    ready = prepare_submission(
        read_table(table, where, "predictions").table,
        ids,
        bounds=bounds,
        harmed=harmed,
        fill=None if fill is None else read_table(fill, "fill", "labels").table,
        source=source or {},
        provenance=provenance,
        where=where,
        profile=profile,
        val=val,
    )
    ledger = read_ledger(out)
    problems = [*ready.problems, *_check_place(out, name, ledger)]
    warnings = list(ledger.problems)
    doubts = doubt(ready, out, ledger, profile, where)
    (warnings if force else problems).extend(doubts)
    warnings += ready.warnings
    if problems:
        raise SubmissionError(problems)
    if dry_run:
        return _finish(out / (name or _next_name(out, ledger)), ready, warnings, ids, profile)
    with locked(out):
        # Another one may have come first while this one was being checked.
        ledger = read_ledger(out)
        folder = out / (name or _next_name(out, ledger))
        problems = _check_place(out, name, ledger)
        problems += [] if force else doubt(ready, out, ledger, profile, where)
        if problems:
            raise SubmissionError(problems)
        submission = _finish(folder, ready, warnings, ids, profile)
        _commit(submission, ready.content, profile, before_commit)
    return submission


def _check_place(out: Path, name: str, ledger: Ledger) -> list[Problem]:
    if not name:
        return []
    if (out / name).exists():
        found = "a submission of this name is already there"
        return [Problem(str(out / name), found, next_step=_RENAME)]
    if ledger.find(name):
        return [Problem(str(out / LEDGER), f"it already holds a submission {name!r}", next_step=_RENAME)]
    return []


def _finish(
    folder: Path,
    ready: Ready,
    warnings: Sequence[Problem],
    test_ids: Sequence[str],
    profile: SubmissionFormat,
) -> Submission:
    packed = pack(ready.content, profile.csv_name)
    manifest = {
        "name": folder.name,
        "created": timestamp(),
        "version": VERSION,
        "csv": profile.csv_name,
        "sha256": sha256(ready.content),
        "zip_sha256": sha256(packed),
        "rows": len(ready.table),
        "ids": pack_ids(test_ids),
        **ready.record,
    }
    return Submission(
        folder=folder,
        archive=folder / profile.name_zip(folder.name),
        clipped=ready.clipped,
        filled=ready.filled,
        manifest=manifest,
        warnings=tuple(warnings),
    )


def _commit(
    submission: Submission,
    content: bytes,
    profile: SubmissionFormat,
    before_commit: Callable[[], object] | None,
) -> None:
    """Writes the folder beside its place, the ledger's line, and then renames the folder: all or nothing."""
    folder = submission.folder
    out, staging, size = folder.parent, partial_folder(folder.parent, folder.name), size_of(folder.parent)
    try:
        write_bytes(staging / profile.csv_name, content)
        write_bytes(staging / submission.archive.name, pack(content, profile.csv_name))
        manifest = json.dumps(submission.manifest, indent=2) + "\n"
        write_bytes(staging / MANIFEST, manifest.encode())
        _verify(staging / submission.archive.name, [(profile.csv_name, content)])
        if before_commit is not None:
            before_commit()
        append(out, {key: submission.manifest[key] for key in _LEDGER_KEYS})
        staging.rename(folder)
    except BaseException as error:
        # Stopped before it was reported as done: as if it had never begun.
        shutil.rmtree(folder, ignore_errors=True)
        truncate(out, size)
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError):
            found = f"cannot be written: {error.strerror or error!r}"
            raise SubmissionError(Problem(str(folder), found)) from error
        raise


def pack(content: bytes, name: str) -> bytes:
    """A zip that holds exactly `content` as `name` at its root; the same bytes on every machine."""
    buffer = io.BytesIO()
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, also where it is written on another system
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, content)  # stored: compressed bytes differ between zlib builds
    return buffer.getvalue()


def _verify(archive: Path, meant: list[tuple[str, bytes]]) -> None:
    """Reads the finished zip from disk and compares it with what was meant, which is checked already."""
    if read_zip(archive.read_bytes(), archive.name) != meant:
        raise SubmissionError(Problem(archive.name, "read back, it is not what was written"))


def _next_name(out: Path, ledger: Ledger) -> str:
    number = 1
    while (out / f"submission-{number}").exists() or ledger.find(f"submission-{number}"):
        number += 1
    return f"submission-{number}"
