"""What an audit finds: how bad it is, what it means, what to do about it.

An error keeps a run, or a submission, from being whole: `train` and `ensemble` would refuse, or leave clips
out. A warning makes results worse, or less believable, than they look. A note is to be known, no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from abaw_emi.core.constants import Split
from abaw_emi.core.errors import Problem
from abaw_emi.core.ids import pack_ids

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first."""

SHOWN_EXAMPLES = 5
SHOWN_RANGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found, of all clips that it was found of.

    Attributes:
        kind: a short name, the same in every audit.
        severity: "error", "warning" or "note".
        found: what.
        means: what it means for training or for submitting.
        step: what to do; "" where there is nothing to do.
        splits: whose clips it is about; none where it is about no split's.
        ids: of those clips, as `ids.pack_ids` packs them.
        count: how many clips, or files, or lines.
        examples: some of them, with file names.
    """

    kind: str
    severity: Severity
    found: str
    means: str
    step: str = ""
    splits: tuple[Split, ...] = ()
    ids: tuple[str, ...] = ()
    count: int = 0
    examples: tuple[str, ...] = ()

    @property
    def problem(self) -> Problem:
        """It in one line."""
        where = ", ".join(self.splits) or "data"
        return Problem(where, f"{self.found}{self.shown_ids}", next_step=self.step)

    @property
    def shown_ids(self) -> str:
        """The first ranges of its ids, after a colon; "" without ids."""
        more = ", ..." if len(self.ids) > SHOWN_RANGES else ""
        return f": {', '.join(self.ids[:SHOWN_RANGES])}{more}" if self.ids else ""


def make_finding(
    kind: str,
    severity: Severity,
    found: str,
    means: str,
    step: str = "",
    *,
    splits: Collection[Split] = (),
    ids: Iterable[str] = (),
    examples: Iterable[str] = (),
    count: int | None = None,
) -> Finding:
    """A finding about these clips, by id; `{n}` in `found` becomes how many there are."""
    clips = set(ids)
    total = len(clips) if count is None else count
    return Finding(
        kind=kind,
        severity=severity,
        found=found.replace("{n}", f"{total:,}"),
        means=means,
        step=step,
        splits=tuple(splits),
        ids=tuple(pack_ids(clips)),
        count=total,
        examples=tuple(list(examples)[:SHOWN_EXAMPLES]),
    )


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; within a severity in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
