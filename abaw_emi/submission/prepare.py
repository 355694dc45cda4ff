"""A prediction table made ready to be sent, and everything that stands against sending it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from abaw_emi.core.constants import EMOTIONS, FILENAME, VERSION
from abaw_emi.core.errors import Problem, show_first
from abaw_emi.core.files import read_bytes
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids
from abaw_emi.data.align import compare_ids
from abaw_emi.data.csv import MAX_BYTES, parse_csv
from abaw_emi.data.provenance import Provenance
from abaw_emi.data.tables import inspect_text
from abaw_emi.evaluation.diagnostics import find_constant, inspect_values
from abaw_emi.submission.bounds import Bounds, bring_into_range
from abaw_emi.submission.check import check_csv
from abaw_emi.submission.format import SubmissionFormat
from abaw_emi.submission.ledger import LEDGER, Ledger

FORCE = "--force (in Python force=True)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What is to be written, and what stands against it."""

    table: pl.DataFrame
    content: bytes
    clipped: dict[str, int]
    filled: tuple[str, ...]
    record: dict[str, Any]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def hashes(self) -> frozenset[str]:
        """SHA-256 of the CSV to be sent, and of the file that it is made from."""
        return frozenset({sha256(self.content), self.record["source"].get("sha256", "")} - {""})


def prepare_submission(
    table: pl.DataFrame,
    test_ids: Sequence[str],
    *,
    bounds: Bounds,
    harmed: Collection[str] | None,
    fill: pl.DataFrame | None,
    source: dict[str, Any],
    provenance: Provenance | None,
    where: str,
    profile: SubmissionFormat,
    val: dict[str, Any] | None,
) -> Ready:
    """The table in its final form, and every problem of it."""
    problems = check_origin(provenance, test_ids, where, source.get("sha256", ""))
    bounded = bring_into_range(table, where, profile, bounds, harmed)
    table, clipped = bounded.table, bounded.clipped
    problems += bounded.problems
    for emotion, constant in find_constant(table, where).items():
        count = clipped[emotion]
        low, high = profile.range
        step = f"{count:,} of its values were clipped to [{low:g}, {high:g}]; bounds auto rescales them"
        problems.append(replace(constant, next_step=step if count else ""))
    table, filled = _fill(table, test_ids, fill)
    step = "predict them, or use --fill train-mean (in Python fill=LABELS), which is recorded"
    if set(test_ids).isdisjoint(table[FILENAME]):
        step = "predict the test clips: it holds others"
    problems += compare_ids(test_ids, table[FILENAME].to_list(), where, "the test ids", if_missing=step)
    content = profile.format(table)
    warnings: tuple[Problem, ...] = ()
    if not problems:
        # What a table that was not read from a file may hold besides: no numbers, no ids.
        checked = check_csv(content, profile.csv_name, test_ids, profile=profile)
        problems, warnings = list(checked.problems), checked.warnings
    record = {
        "bounds": bounds,
        "harmed": None if harmed is None else sorted(harmed),
        "clipped": clipped,
        "rescaled": {name: list(values) for name, values in bounded.rescaled.items()},
        "filled": list(filled),
        "format": profile.describe,
        "profile": profile.to_json(),
        "signature": f"emi_submission|rows:{len(table)}|clip:{_describe_bounds(bounds)}"
        f"|filled:{len(filled)}|abaw_emi:{VERSION}",
        "source": source,
        "system": provenance.system if provenance else "",
        "val": val,
        "provenance": provenance.to_json() if provenance else None,
    }
    warnings = (*describe_missing(provenance, len(table), where), *warnings)
    return Ready(
        table=table,
        content=content,
        clipped=clipped,
        filled=filled,
        record=record,
        problems=tuple(problems),
        warnings=warnings,
    )


def _describe_bounds(bounds: Bounds) -> str:
    """What a signature says of them."""
    return {"clip": "yes", "refuse": "no"}.get(bounds, bounds)


def check_origin(
    provenance: Provenance | None, test_ids: Sequence[str], where: str, sha256_of_file: str = ""
) -> list[Problem]:
    """What a prediction file's record says against sending it.

    Args:
        provenance: the record; None says nothing.
        test_ids: ids of the test clips.
        where: what messages call the predictions.
        sha256_of_file: hash of the file that is sent, where it is known.
    """
    if provenance is None:
        return []
    problems = []
    seen = provenance.trained_on.intersection(test_ids)
    if seen:
        problems.append(Problem(where, f"its runs were trained on {len(seen):,} of the test clips"))
    if provenance.sha256 and sha256_of_file and provenance.sha256 != sha256_of_file:
        problems.append(Problem(where, "its provenance record was written for other bytes", "its own record"))
    if provenance.split not in ("", "test"):
        problems.append(Problem(where, f"its record says split {provenance.split}", "split test"))
    others = {split for split in provenance.splits_of_members() if split not in ("", "test")}
    if others:
        found = f"members of it predict split {', '.join(sorted(others))}"
        problems.append(Problem(where, found, "members that all predict test"))
    return problems


def describe_missing(provenance: Provenance | None, total: int, where: str) -> list[Problem]:
    """A warning for each modality that some of the `total` clips were predicted without."""
    missing = provenance.missing() if provenance else {}
    return [
        Problem(
            where,
            f"{len(ids):,} of {total:,} clips were predicted without {name}: {show_first(pack_ids(ids))}",
        )
        for name, ids in missing.items()
    ]


def doubt(ready: Ready, out: Path, ledger: Ledger, profile: SubmissionFormat, where: str) -> list[Problem]:
    """What only `force` overrides: no try left, labels, an earlier submission over again."""
    doubts = _check_quota(out, ledger, profile)
    step = f"{FORCE} to send it all the same"
    again, earlier = [], {}
    for entry in ledger.entries:
        if not entry.sent:
            continue
        if entry.hashes & ready.hashes:  # found also where its folder is gone
            again.append(Problem(where, f"the same file as submission {entry.name}", "another system", step))
            continue
        for path in sorted((out / entry.name).glob("*.csv")):
            text, form = parse_csv(read_bytes(path, MAX_BYTES), str(path))
            other, found = inspect_text(profile.to_official(text)[0], form, "predictions")
            if other is not None and not found:
                earlier[f"submission {entry.name}"] = other
    if ready.table.select(EMOTIONS).null_count().sum_horizontal().item() == 0:
        doubts += [
            replace(found, next_step=step)
            for found in inspect_values(ready.table, name=where, others=earlier)
            if found.code in ("labels", "duplicate")
        ]
    return doubts + again


def _check_quota(out: Path, ledger: Ledger, profile: SubmissionFormat) -> list[Problem]:
    if ledger.used < profile.tries:
        return []
    found = f"{ledger.used} of {profile.tries} tries{profile.mark('tries')} are used"
    return [Problem(str(out / LEDGER), found, "one try left", f"{FORCE} to go on all the same")]


def _fill(
    table: pl.DataFrame, test_ids: Sequence[str], labels: pl.DataFrame | None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with the labels' means for every test id that it is missing, and those ids."""
    missing = tuple(sorted(set(test_ids) - set(table[FILENAME])))
    if not missing or labels is None:
        return table, ()
    means = labels.select(pl.col(EMOTIONS).mean()).row(0)
    rows = pl.DataFrame(
        {FILENAME: missing, **{e: [mean] * len(missing) for e, mean in zip(EMOTIONS, means, strict=True)}}
    )
    return pl.concat([table, rows.cast(table.schema)]), missing
