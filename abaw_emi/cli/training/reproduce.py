"""The command tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_keys
from abaw_emi.cli.next_step import print_next, retype
from abaw_emi.cli.output import print_json, print_line, print_text, texts, wants_json
from abaw_emi.core.constants import TableName
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.installation import check_installation, require_training
from abaw_emi.core.progress import Reporter
from abaw_emi.evaluation.text_tables import Format, TextTable, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from abaw_emi.data.folder import DataFolder
    from abaw_emi.reproduction.requirements import Failure
    from abaw_emi.reproduction.rows import RowPlan
    from abaw_emi.reproduction.table import RowOutcome

_BAD = ("lacks inputs", "failed", "refused")
"""States of a row without numbers that make the command exit with 1."""

_FOLDER = Path("tables")
"""Where runs are made, apart from those of `train`, so that runs/* holds what is meant."""

EXAMPLES = """Examples:
  abaw-emi tables --list                           every row, its preset, and what is missing for it
  abaw-emi tables --table 2                        trains what is not there yet, then prints the table
  abaw-emi tables --table 1 --only paper frozen --seeds 1 2 3
  abaw-emi tables --table 1 --no-run --format latex
  abaw-emi tables --table 2 --set training.epochs=2 --backbone audeering=models/small --runs trial/
"""


def tables(
    table: Annotated[
        TableName | None,
        typer.Option("--table", help="Of the paper, or the numbers of its text.", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="These rows; --list names them.")
    ] = None,
    seeds: options.Seeds = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            autocompletion=complete_keys,
            metavar="K=V",
            help="KEY=VALUE, for every row that has the key.",
        ),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            metavar="NAME=ID_OR_DIR",
            help="NAME=ID_OR_DIR in the place of audeering, w2v2-large or xlsr, as published.",
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Show the rows, their presets and what they need; run nothing.")
    ] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Train nothing: show what is there.")] = False,
    out: options.Runs = _FOLDER,
    submissions: Annotated[
        Path,
        typer.Option("--submissions", metavar="DIR", help="Folder of the submissions, for scores on test."),
    ] = Path("submissions"),
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    form: Annotated[
        Format, typer.Option("--format", help="latex is for booktabs; csv and json are unrounded.")
    ] = "table",
    quiet: options.Quiet = False,
) -> None:
    """Run the systems of the paper's tables, and print their scores beside the published ones.

    A run that is there is used, and one that is not finished is resumed; finished ones in runs/ are used,
    too. A row that cannot be run says what is missing, does not stop the others, and makes the exit code 1.
    """
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.reproduction.measure import read_outcome
    from abaw_emi.reproduction.requirements import find_failures
    from abaw_emi.reproduction.rows import use_finished
    from abaw_emi.reproduction.table import render_table, table_to_json

    plans = _plan(table, only, seeds, changes, backbone, out, listed=listed)
    reporter = Reporter(quiet=quiet)
    if out == _FOLDER:
        plans, begun = use_finished(plans, options.DEFAULT_RUNS)
        reporter.warn(begun)
    folder = DataFolder(data, features)
    form = "json" if wants_json() else form
    if listed:
        _print_list(plans, folder, form)
        return
    assert table is not None, "refused above"
    failures: dict[str, Failure] = {}
    if not no_run:
        folder.read_labels("train", "valid")
        _refuse_torchrun()
        require_training()
        failures = find_failures(plans, folder, reporter, skip_bad=on_bad_clip == "skip")
        ready = [plan for plan in plans if plan.row.name not in failures]
        if any(plan.runs for plan in ready):
            check_installation()
            from abaw_emi.reproduction.train import train_rows

            failures |= train_rows(
                ready, folder, reporter, on_bad_clip=on_bad_clip, device=device, precision=precision
            )
    outcomes = [read_outcome(plan, folder, submissions, failures.get(plan.row.name)) for plan in plans]
    problems = _report(plans, outcomes, failures, reporter)
    if form == "json":
        print_json({**table_to_json(table, outcomes), "problems": [*texts(reporter.warnings), *problems]})
    else:
        print_line(render_table(table, outcomes, form))
        if form == "table" and no_run and any(outcome.state == "not run" for outcome in outcomes):
            print_next(*retype("--no-run"))
        elif form == "table":
            print_next(*retype("--format"), "--format", "latex", note="for a paper")
    if any(outcome.state in _BAD for outcome in outcomes):
        raise typer.Exit(1)


def _plan(
    table: TableName | None,
    only: Sequence[str] | None,
    seeds: Sequence[int] | None,
    changes: Sequence[str] | None,
    backbones: Sequence[str] | None,
    out: Path,
    *,
    listed: bool,
) -> list[RowPlan]:
    """The rows that are asked for, with their runs."""
    from abaw_emi.reproduction.published import TABLES, find_rows
    from abaw_emi.reproduction.rows import parse_backbones, plan_rows

    if table is None and (only or not listed):
        raise UsageError(Problem("tables", "no --table", f"one of {', '.join(TABLES)}, or --list"))
    chosen = TABLES if table is None else (table,)
    return plan_rows(
        [row for name in chosen for row in find_rows(name, only or ())],
        out,
        seeds=seeds or (),
        changes=changes or (),
        backbones=parse_backbones(backbones or ()),
    )


def _refuse_torchrun() -> None:
    """Raises a UsageError where several processes were started."""
    from abaw_emi.data.shard import Shard

    if not Shard.read(None).is_whole:
        step = "train the rows' presets with torchrun first"
        raise UsageError(Problem("tables", "under torchrun", "one process", step))


def _report(
    plans: Sequence[RowPlan],
    outcomes: Sequence[RowOutcome],
    failures: Mapping[str, Failure],
    reporter: Reporter,
) -> list[str]:
    """Reports what was not reported yet; returns the problems of rows without numbers, for JSON."""
    from abaw_emi.reproduction.rows import name_problems

    problems: list[Problem] = []
    for plan, outcome in zip(plans, outcomes, strict=True):
        named = name_problems(plan, outcome.problems)
        if outcome.state not in _BAD:
            reporter.warn(named)
            continue
        problems += named
        if plan.row.name not in failures:
            reporter.fail(named)
    bad = [outcome.row.name for outcome in outcomes if outcome.state in _BAD]
    if bad:
        found = f"{len(bad)} of {len(outcomes)} rows have no number: {', '.join(bad)}"
        reporter.fail([Problem("tables", found, next_step="the reasons are above, a line each")])
    return texts(problems)


def _print_list(plans: Sequence[RowPlan], folder: DataFolder, form: Format) -> None:
    from abaw_emi.config.presets import PRESETS
    from abaw_emi.reproduction.published import ROWS
    from abaw_emi.reproduction.requirements import list_row

    listed = [list_row(plan, folder) for plan in plans]
    of_rows = {row.preset for row in ROWS}
    beside = [name for name in PRESETS if name not in of_rows]
    rows_of: dict[str, dict[str, None]] = {}  # each problem, with the names of its rows, each once
    for row in listed:
        for text in row["problems"]:
            rows_of.setdefault(text, {})[row["name"]] = None
    if form == "json":
        print_json({"rows": listed, "presets_of_no_row": beside, "problems": list(rows_of)})
        return
    tables: dict[TableName, list[Mapping[str, Any]]] = {}
    for row in listed:
        tables.setdefault(row["table"], []).append(row)
    for name, rows in tables.items():
        print_line(render(_tabulate(name, rows), form))
        if form != "csv":
            print_line()
    if form == "table":
        for text, names in rows_of.items():
            print_text(f"{text} ({', '.join(names)})")
        print_text(f"presets of no row: {', '.join(beside)}")
        print_next(*retype("--list"), *(() if len(tables) == 1 else ("--table", "2")))


def _tabulate(table: TableName, listed: Sequence[Mapping[str, Any]]) -> TextTable:
    from abaw_emi.reproduction.published import TITLES
    from abaw_emi.reproduction.rows import BACKBONES

    short = {hub_id: name for name, hub_id in BACKBONES.items()}
    cells = [
        [
            row["name"],
            f"{row['preset'] or '-'}{' --train-plus-val' if row['train_plus_val'] else ''}",
            *(", ".join(short.get(name, name) for name in row[key]) or "-" for key in ("reads", "missing")),
            row["state"],
        ]
        for row in listed
    ]
    return TextTable(["Row", "Preset", "Reads", "Missing", "Runs"], cells, TITLES[table])
