"""A prediction table to a submission that has been read back and checked.

Clipping to [0, 1] comes last, after ensembling, and is counted and recorded; nothing else is changed.
A submission appears under its name whole or not at all: it is made in a hidden folder beside, checked
there, and renamed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from abaw_emi.challenge.checking import MANIFEST, check_csv, check_zip, find_constant
from abaw_emi.challenge.facts import EMOTIONS, FILENAME, INTENSITY_RANGE
from abaw_emi.challenge.ids import pack_ids
from abaw_emi.challenge.matching import compare_ids
from abaw_emi.challenge.provenance import Provenance, sha256
from abaw_emi.challenge.tables import format_predictions
from abaw_emi.errors import Problem, SubmissionError, UsageError
from abaw_emi.files import write_bytes
from abaw_emi.version import VERSION

CSV_NAME = "predictions.csv"
LEDGER = "ledger.jsonl"

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
    """

    folder: Path
    archive: Path
    clipped: dict[str, int]
    filled: tuple[str, ...]
    manifest: dict[str, Any]


def write_submission(
    table: pl.DataFrame,
    test_ids: Sequence[str],
    out: Path,
    *,
    name: str = "",
    clip: bool = True,
    fill: pl.DataFrame | None = None,
    source: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
    where: str = "predictions",
) -> Submission:
    """Writes, packs, re-reads and checks a submission, and enters it into the ledger.

    Args:
        table: the predictions (`tables.read_predictions`).
        test_ids: ids of the test clips, each of which needs one row.
        out: the folder of submissions.
        name: of this submission; the next free `submission-<k>` where empty.
        clip: whether values outside [0, 1] are clipped; refused otherwise.
        fill: label table whose means stand in for clips without a prediction; refused otherwise.
        source: what the manifest says of the prediction file (path, hash, ...).
        provenance: the prediction file's record, for the manifest.
        where: what messages call the predictions.

    Raises:
        SubmissionError: everything that would get the file rejected, all at once; nothing is written.
        UsageError: `name` is not a plain folder name.
    """
    folder = out / (name or _next_name(out))
    if name and (Path(name).name != name or name.startswith(".")):
        raise UsageError(Problem("--name", f"{name!r} is not a plain folder name"))
    problems = []
    if folder.exists():
        found = "a submission of this name is already there"
        problems.append(Problem(str(folder), found, next_step="use --name"))
    seen = provenance.trained_on.intersection(test_ids) if provenance else ()
    if seen:
        problems.append(Problem(where, f"its runs were trained on {len(seen):,} of the test clips"))
    table, clipped, range_problems = _clip(table, where, clip=clip)
    problems += range_problems
    for problem, emotion in find_constant(table, where):
        count = clipped[emotion]
        step = f"{count:,} of its values were clipped to [0, 1]" if count else ""
        problems.append(replace(problem, next_step=step))
    table, filled = _fill(table, test_ids, fill)
    step = "predict them, or use --fill train-mean, which is recorded"
    problems += compare_ids(test_ids, table[FILENAME].to_list(), where, "the test ids", if_missing=step)
    content = format_predictions(table)
    # What a table that was not read from a file may hold besides: no numbers, no ids.
    problems = problems or list(check_csv(content, CSV_NAME, test_ids).problems)
    if problems:
        raise SubmissionError(problems)

    packed = pack(content, CSV_NAME)
    manifest = {
        "name": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "csv": CSV_NAME,
        "sha256": sha256(content),
        "zip_sha256": sha256(packed),
        "rows": len(table),
        "ids": pack_ids(test_ids),
        "clipped": clipped,
        "filled": list(filled),
        "format": "assumed: no public text of the organisers' format is known",
        "signature": f"emi_submission|rows:{len(table)}|clip:{'yes' if clip else 'no'}"
        f"|filled:{len(filled)}|abaw_emi:{VERSION}",
        "source": source or {},
        "provenance": provenance.to_json() if provenance else None,
    }
    staging = out / f".{folder.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)  # of one that was killed
    try:
        write_bytes(staging / CSV_NAME, content)
        write_bytes(staging / f"{folder.name}.zip", packed)
        write_bytes(staging / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        _verify(staging / f"{folder.name}.zip", content, test_ids)
        staging.rename(folder)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise SubmissionError(
            Problem(str(folder), f"cannot be written: {error.strerror or error!r}")
        ) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    try:
        _append(out / LEDGER, manifest)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # no submission without its line in the ledger
        raise
    return Submission(
        folder=folder,
        archive=folder / f"{folder.name}.zip",
        clipped=clipped,
        filled=filled,
        manifest=manifest,
    )


def pack(content: bytes, name: str) -> bytes:
    """A zip that holds exactly `content` as `name` at its root; the same bytes on every machine."""
    buffer = io.BytesIO()
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, also where it is written on another system
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, content)  # stored: compressed bytes differ between zlib builds
    return buffer.getvalue()


def _verify(archive: Path, meant: bytes, test_ids: Sequence[str]) -> None:
    """Reads the finished zip from disk and compares it with what was meant."""
    packed = archive.read_bytes()
    problems = list(check_zip(packed, archive.name, test_ids).problems)
    if not problems:
        with zipfile.ZipFile(io.BytesIO(packed)) as opened:
            if opened.namelist() != [CSV_NAME] or opened.read(CSV_NAME) != meant:
                problems.append(Problem(archive.name, "read back, it is not what was written"))
    if problems:
        raise SubmissionError(problems)


def _next_name(out: Path) -> str:
    number = 1
    while (out / f"submission-{number}").exists():
        number += 1
    return f"submission-{number}"


def _fill(
    table: pl.DataFrame, test_ids: Sequence[str], labels: pl.DataFrame | None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with the labels' means for every test id that it lacks, and those ids."""
    missing = tuple(sorted(set(test_ids) - set(table[FILENAME])))
    if not missing or labels is None:
        return table, ()
    means = labels.select(pl.col(EMOTIONS).mean()).row(0)
    rows = pl.DataFrame(
        {FILENAME: missing, **{e: [mean] * len(missing) for e, mean in zip(EMOTIONS, means, strict=True)}}
    )
    return pl.concat([table, rows.cast(table.schema)]), missing


def _clip(
    table: pl.DataFrame, where: str, *, clip: bool
) -> tuple[pl.DataFrame, dict[str, int], list[Problem]]:
    low, high = INTENSITY_RANGE
    outside = {
        emotion: int(table.select(((pl.col(emotion) < low) | (pl.col(emotion) > high)).sum()).item())
        for emotion in EMOTIONS
    }
    if not clip:
        problems = [
            Problem(f"{where}, {emotion}", f"{count:,} values lie outside [{low:g}, {high:g}]")
            for emotion, count in outside.items()
            if count
        ]
        return table, dict.fromkeys(EMOTIONS, 0), problems
    return table.with_columns(pl.col(EMOTIONS).clip(low, high)), outside, []


def _append(ledger: Path, manifest: dict[str, Any]) -> None:
    """Appends a line to the ledger in one write, so that two writers cannot mix their lines."""
    keys = ("name", "created", "sha256", "zip_sha256", "rows", "clipped", "source", "signature")
    line = json.dumps({key: manifest[key] for key in keys}) + "\n"
    try:
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise SubmissionError(Problem(str(ledger), f"cannot be written: {error.strerror}")) from error
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    except OSError as error:
        raise SubmissionError(Problem(str(ledger), f"cannot be written: {error.strerror}")) from error
    finally:
        os.close(handle)
