"""The command audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_FEATURES, Data, Features, Quiet
from abaw_emi.cli.output import print_result
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.installation import check_sound_installation

if TYPE_CHECKING:
    from rich.table import Table

    from abaw_emi.audit.record import Audit
    from abaw_emi.core.constants import Split
    from abaw_emi.core.terminal import Console

T = TypeVar("T")

EXAMPLES = """Examples:

  abaw-emi audit                             of data/, with all numbers left in audit.json

  abaw-emi audit --json | jq -r '.findings[] | select(.severity == "error") | .found'
"""

_SHOWN_EXAMPLES = 3

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def audit(
    data: Data = DEFAULT_DATA,
    features: Features = DEFAULT_FEATURES,
    out: Annotated[Path, typer.Option("--out", help="The record to write.")] = Path("audit.json"),
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="Processes that decode.", min=1, show_default="one for each core"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Look whether the data is whole and sound: files, sound, labels. Changes nothing in it."""
    from abaw_emi.core.files import check_writable

    if data.resolve() in out.resolve().parents:
        raise UsageError(Problem("--out", f"{out} lies in the data folder", "a place where files are made"))
    check_writable(out)
    check_sound_installation()

    from abaw_emi.audit.fact_store import FactStore
    from abaw_emi.audit.record import write_audit
    from abaw_emi.audit.run import audit_folder
    from abaw_emi.core.progress import Reporter
    from abaw_emi.data.folder import DataFolder

    reporter = Reporter(quiet=quiet)
    store = FactStore(reporter)
    found = audit_folder(DataFolder(data, features), store=store, jobs=jobs, track=reporter.track)
    write_audit(found, out)
    print_result(
        {**_to_json(found), "audit": str(out)},
        partial(_print_audit, found, data, out),
        [
            *(finding for finding in found.findings if finding.severity != "note"),
            *reporter.warnings,
        ],
    )
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if errors:
        reporter.fail(errors)
        raise typer.Exit(1)


def _to_json(found: Audit) -> dict[str, Any]:
    """The record without the length of each clip, which are 17,246."""
    from abaw_emi.audit.record import audit_to_json

    values = audit_to_json(found)
    del values["seconds"]
    return values


def _print_audit(found: Audit, data: Path, out: Path) -> None:
    from abaw_emi.core.errors import SEVERITIES
    from abaw_emi.core.terminal import Console

    console = Console(piped_width=100)
    hours = sum(each.seconds for each in found.durations.values()) / 3_600
    console.print(f"{data}: {len(found.seconds):,} clips with files, {hours:.2f} h of sound")
    if found.clips:
        console.print()
        console.print(_tabulate_clips(found))
    if found.labels:
        console.print()
        console.print(_tabulate_labels(found))
    _print_findings(console, found)
    counts = [(found.count(severity), severity) for severity in SEVERITIES]
    numbers = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts)
    console.print()
    console.print(f"{numbers}; all of it is in {out}")


def _tabulate_clips(found: Audit) -> Table:
    from abaw_emi.core.constants import OFFICIAL_COUNTS

    table = _make_table()
    for split in found.clips:
        table.add_column(split, justify="right")
    splits = list(found.clips)
    table.add_row("clips", *(f"{found.clips[split]:,}" for split in splits))
    table.add_row("officially", *(f"{OFFICIAL_COUNTS[split]:,}" for split in splits), style="dim")
    durations = [found.durations.get(split) for split in splits]
    labels = [found.labels.get(split) for split in splits]
    cut = f"{found.max_seconds:g} s"
    _add_row(table, "hours", durations, lambda each: f"{each.seconds / 3_600:.2f}")
    _add_row(table, "shortest, s", durations, lambda each: f"{each.shortest:.2f}")
    _add_row(table, "mean, s", durations, lambda each: f"{each.mean:.2f}")
    _add_row(table, "longest, s", durations, lambda each: f"{each.longest:.2f}")
    _add_row(table, "below 1 s", durations, lambda each: f"{each.short:,}")
    _add_row(table, f"above {cut}", durations, lambda each: f"{each.long:,}")
    _add_row(table, f"sound behind {cut}", durations, lambda each: f"{each.lost:.1%}")
    _add_row(table, "all labels 0", labels, lambda each: f"{each.all_zero:,}")
    _add_row(table, "raters, median", labels, lambda each: f"{each.raters[1]}" if each.raters else "")
    return table


def _tabulate_labels(found: Audit) -> Table:
    from abaw_emi.audit.label_statistics import PUBLISHED_MEANS
    from abaw_emi.core.constants import EMOTIONS

    table = _make_table()
    splits: list[Split] = list(found.labels)
    for split in splits:
        for name in (f"{split}\nmean", "pub-\nlished", "zeros"):
            table.add_column(name, justify="right")
    for emotion in EMOTIONS:
        cells: list[str] = []
        for split in splits:
            stats = found.labels[split].emotions[emotion]
            published = f"{PUBLISHED_MEANS[split][emotion]:.3f}"
            cells += [f"{stats.mean:.3f}", published, f"{stats.zero_share:.0%}"]
        table.add_row(emotion, *cells)
    return table


def _add_row(table: Table, name: str, values: Iterable[T | None], show: Callable[[T], str]) -> None:
    """Adds a row of a cell for each split, empty where there is nothing of it."""
    table.add_row(name, *("" if value is None else show(value) for value in values))


def _make_table() -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    return table


def _print_findings(console: Console, found: Audit) -> None:
    """Each finding as a block: what, what it means, examples, what to do."""
    from rich.table import Table

    if not found.findings:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found.findings:
        where = f"{', '.join(finding.splits)}: " if finding.splits else ""
        table.add_row()
        table.add_row(
            console.render_str(finding.severity, style=_STYLES[finding.severity]),
            console.render_str(f"{where}{finding.found}{finding.shown_ids}", style="bold"),
        )
        table.add_row("", finding.means)
        for example in finding.examples[:_SHOWN_EXAMPLES]:
            table.add_row("", console.render_str(example, style="dim"))
        if finding.next_step:
            table.add_row("", f"what to do: {finding.next_step}")
    console.print(table)
