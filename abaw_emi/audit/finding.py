"""What an audit finds, of all clips that it was found of: a `Diagnostic`, with a place made of its splits."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from abaw_emi.core.constants import Split
from abaw_emi.core.errors import Diagnostic, Severity
from abaw_emi.core.ids import pack_ids

SHOWN_EXAMPLES = 5


def make_finding(
    code: str,
    severity: Severity,
    found: str,
    means: str,
    step: str = "",
    *,
    splits: Collection[Split] = (),
    ids: Iterable[str] = (),
    examples: Iterable[str] = (),
    count: int | None = None,
) -> Diagnostic:
    """A diagnostic about these clips, by id; `{n}` in `found` becomes how many there are."""
    clips = set(ids)
    total = len(clips) if count is None else count
    return Diagnostic(
        where=name_splits(splits),
        found=found.replace("{n}", f"{total:,}"),
        next_step=step,
        code=code,
        severity=severity,
        means=means,
        splits=tuple(splits),
        ids=tuple(pack_ids(clips)),
        count=total,
        examples=tuple(list(examples)[:SHOWN_EXAMPLES]),
    )


def name_splits(splits: Iterable[str]) -> str:
    """Where a finding about these splits is: their names, or "data" where it is about no split's clips."""
    return ", ".join(splits) or "data"
