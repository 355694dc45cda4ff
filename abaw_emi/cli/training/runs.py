"""The command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import Debug, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abaw_emi.runs.summary import Summary

_PIPED_WIDTH = 160
"""Columns of a table that no terminal limits."""

_EXAMPLES = """Examples:

  abaw-emi runs                  what lies in runs/

  abaw-emi runs --json | jq -r '.runs[] | select(.finished) | .run'
"""


def register(app: typer.Typer) -> None:
    """Adds this room's command to `app`."""
    app.command(epilog=_EXAMPLES)(runs)


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder of run folders.")] = Path("runs"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs: preset, seed, best epoch, validation per emotion, finished or not."""
    from abaw_emi.cli.output import print_json, print_line
    from abaw_emi.runs.summary import summarise_runs

    found = summarise_runs(folder)
    if as_json:
        print_json({"runs": [_to_json(summary) for summary in found], "problems": []})
    elif not found:
        print_line(f"{folder}: no runs yet; make one with abaw-emi train")
    else:
        _print_runs(found)


def _to_json(summary: Summary) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(summary), "run": str(summary.run.folder), "pearson": dict(summary.pearson)}


def _print_runs(found: Sequence[Summary]) -> None:
    from rich.console import Console
    from rich.table import Table

    from abaw_emi.core.constants import EMOTIONS

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    for name in ("seed", "epochs", "best", "valid", *(emotion[:3] for emotion in EMOTIONS)):
        table.add_column(name, justify="right", no_wrap=True, min_width=4)
    table.add_column("trained on")
    table.add_column("state")
    for summary in found:
        values = [summary.mean_pearson, *(summary.pearson.get(emotion) for emotion in EMOTIONS)]
        table.add_row(
            summary.run.name,
            "" if summary.seed is None else str(summary.seed),
            f"{summary.epochs}/{summary.of}",
            "" if summary.best_epoch is None else str(summary.best_epoch),
            *("" if value is None else f"{value:.3f}" for value in values),
            _trained_on(summary),
            "finished" if summary.finished else "not finished",
        )
    piped = Console(highlight=False, width=_PIPED_WIDTH)
    console = Console(highlight=False) if Console().is_terminal else piped
    console.print(table)
    if any(summary.mean_pearson is not None for summary in found):
        console.print("valid: Pearson of the best epoch, which was selected on it; fold: on held-out clips")


def _trained_on(summary: Summary) -> str:
    splits = "train+valid" if summary.train_plus_val else "train"
    return f"{splits}, but fold {summary.fold}" if summary.fold else splits
