"""The command audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abaw_emi.cli import options
from abaw_emi.cli.next_step import PLACES, keep, print_next
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.constants import EMOTIONS, OFFICIAL_COUNTS, Split
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.files import check_writable
from abaw_emi.core.installation import SOUND, require
from abaw_emi.core.progress import Reporter
from abaw_emi.core.terminal import Console
from abaw_emi.data.layout import check_root
from abaw_emi.evaluation.text_tables import TextTable, render

if TYPE_CHECKING:
    from abaw_emi.audit.record import Audit

EXAMPLES = """Examples:
  abaw-emi audit                             of data/, with all numbers left in audit.json
  abaw-emi audit --json | jq -r '.findings[] | select(.severity == "error") | .found'
"""

_SHOWN_EXAMPLES = 3

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def audit(
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The record to write.")] = Path(
        "audit.json"
    ),
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="Processes that decode.", min=1, show_default="one for each core"),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Look whether the data is whole and sound: files, sound, labels. Changes nothing in it."""
    check_root(data)
    if data.resolve() in out.resolve().parents:
        raise UsageError(Problem("--out", f"{out} lies in the data folder", "a place where files are made"))
    check_writable(out)
    require(SOUND, "train")

    from abaw_emi.audit.probe_cache import ProbeCache
    from abaw_emi.audit.record import write_audit
    from abaw_emi.audit.run import audit_folder
    from abaw_emi.data.folder import DataFolder

    reporter = Reporter(quiet=quiet)
    store = ProbeCache(reporter)
    found = audit_folder(DataFolder(data, features), store=store, jobs=jobs, track=reporter.track)
    write_audit(found, out)
    print_result(
        {**_to_json(found), "audit": str(out)},
        partial(_print_audit, found, data, out),
        [*(finding for finding in found.findings if finding.severity != "note"), *reporter.warnings],
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

    hours = sum(each.seconds for each in found.durations.values()) / 3_600
    print_line(f"{data}: {len(found.seconds):,} clips with files, {hours:.2f} h of sound")
    if found.clips:
        print_line("\n" + render(_tabulate_clips(found), "table"))
    if found.labels:
        print_line("\n" + render(_tabulate_labels(found), "table"))
    _print_findings(found)
    print_line(f"\n{found.describe_counts()}; all of it is in {out}")
    if not found.count("error"):
        print_next("train", "--limit", "64", *keep(*PLACES))


def _tabulate_clips(found: Audit) -> TextTable:

    splits = list(found.clips)

    def row(name: str, values: Mapping[Split, Any], show: Callable[[Any], str]) -> list[str]:
        """A cell for each split, empty where there is nothing of it."""
        return [name, *(show(values[split]) if split in values else "" for split in splits)]

    durations, labels, cut = found.durations, found.labels, f"{found.max_seconds:g} s"
    rows = [
        row("clips", found.clips, "{:,}".format),
        row("officially", OFFICIAL_COUNTS, "{:,}".format),
        row("hours", durations, lambda each: f"{each.seconds / 3_600:.2f}"),
        row("shortest, s", durations, lambda each: f"{each.shortest:.2f}"),
        row("mean, s", durations, lambda each: f"{each.mean:.2f}"),
        row("longest, s", durations, lambda each: f"{each.longest:.2f}"),
        row("below 1 s", durations, lambda each: f"{each.short:,}"),
        row(f"above {cut}", durations, lambda each: f"{each.long:,}"),
        row(f"sound behind {cut}", durations, lambda each: f"{each.lost:.1%}"),
        row("all labels 0", labels, lambda each: f"{each.all_zero:,}"),
        row("raters, median", labels, lambda each: f"{each.raters[1]}" if each.raters else ""),
    ]
    return TextTable(["", *splits], rows)


def _tabulate_labels(found: Audit) -> TextTable:
    from abaw_emi.audit.label_statistics import PUBLISHED_MEANS

    header = [""]
    rows = [[emotion] for emotion in EMOTIONS]
    for split, labels in found.labels.items():
        header += [f"{split} mean", f"{split} published", f"{split} zeros"]
        for row in rows:
            stats = labels.emotions[row[0]]
            row += [f"{stats.mean:.3f}", f"{PUBLISHED_MEANS[split][row[0]]:.3f}", f"{stats.zero_share:.0%}"]
    return TextTable(header, rows)


def _print_findings(found: Audit) -> None:
    """Each finding as a block: what, what it means, examples, what to do."""
    from rich.table import Table

    console = Console(piped_width=100)
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
    if found.findings:
        console.print(table)
