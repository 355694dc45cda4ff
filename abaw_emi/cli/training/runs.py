"""Commands of run folders: list them, and make one of a checkpoint of public code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from abaw_emi.cli.next_step import print_next
from abaw_emi.cli.output import print_line, print_result, print_text
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.installation import check_installation, require_training
from abaw_emi.core.progress import Reporter
from abaw_emi.evaluation.text_tables import TextTable, format_clipped, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abaw_emi.runs.summary import Summary

RUNS_EXAMPLES = """Examples:
  abaw-emi runs                  what lies in runs/
  abaw-emi runs --json | jq -r '.runs[] | select(.finished) | .run'
"""


IMPORT_EXAMPLES = (
    "Example: abaw-emi import-weights best.pth --out runs/theirs --backbone "
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim --preset winner-2025"
)


def runs(folder: Annotated[Path, typer.Argument(help="The folder of run folders.")] = Path("runs")) -> None:
    """List the runs: preset, seed, best epoch, validation per emotion, and whether finished or in use."""
    from abaw_emi.runs.summary import find_leftovers, summarise_runs

    found, damaged = summarise_runs(folder)
    leftovers = find_leftovers(folder)
    reporter = Reporter()
    reporter.warn(leftovers)
    inside = folder / "runs"
    step = f"did you mean {inside}?" if inside.is_dir() else "make one with abaw-emi train"
    none = f"{folder}: no run that can be read" if damaged else f"{folder}: no runs yet; {step}"
    print_result(
        {"runs": [_to_json(summary) for summary in found]},
        partial(_print_runs, found) if found else none,
        [*leftovers, *damaged],
    )
    if damaged:
        reporter.fail(damaged)
        raise typer.Exit(1)


def import_weights(
    file: Annotated[Path, typer.Argument(help="A .pth checkpoint of the public code.")],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone", metavar="ID_OR_DIR", help="The backbone it was trained from: a hub id or a folder."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder to make.")],
    revision: Annotated[
        str, typer.Option("--revision", metavar="REVISION", help="Of the backbone on the hub.")
    ] = "main",
    preset: Annotated[
        Literal["released", "winner-2025", "winner-2026"],
        typer.Option("--preset", help="Whose code: the paper's, or of a winner."),
    ] = "released",
    text: Annotated[
        str,
        typer.Option(
            "--text",
            metavar="ID_OR_DIR",
            help="The text encoder it was trained from.",
            show_default="that of the preset",
        ),
    ] = "",
) -> None:
    """Turn a checkpoint of the public code of the paper, or of a winner, into a run folder."""
    from abaw_emi.config.pretrained import BACKBONE, check_pretrained
    from abaw_emi.core.errors import EmiError, Problem, attempt
    from abaw_emi.runs.run import Run, check_absent

    require_training()
    problems: list[Problem] = []
    if not file.is_file():
        problems.append(Problem(str(file), "no such file", "a .pth checkpoint"))
    attempt(problems, check_absent, Run(out))
    attempt(problems, check_pretrained, backbone, revision, BACKBONE)
    if problems:
        raise EmiError(problems)
    check_installation()

    from abaw_emi.training.import_weights import import_run

    reporter = Reporter()
    run = import_run(file, backbone, revision, out, preset=preset, text=text, reporter=reporter)

    def show() -> None:
        print_line(f"{run.folder}: imported; which clips it was trained on is not known")
        print_next("predict", "--ckpt", run.folder, "--split", "valid")

    print_result({"run": str(run.folder)}, show, reporter.warnings)


def _to_json(summary: Summary) -> dict[str, object]:
    from dataclasses import asdict

    from abaw_emi.runs.lock import find_holder

    return {
        **asdict(summary),
        "run": str(summary.run.folder),
        "pearson": dict(summary.pearson),
        "in_use_by": find_holder(summary.run) or None,
    }


def _print_runs(found: Sequence[Summary]) -> None:

    clipped = [_clipped(summary) for summary in found]
    header = ["run", "seed", "epochs", "best", "valid", *(["clipped"] if any(clipped) else [])]
    header += [emotion[:3] for emotion in EMOTIONS]
    rows = []
    for summary, of_clipped in zip(found, clipped, strict=True):
        values = [summary.pearson.get(emotion) for emotion in EMOTIONS]
        rows.append(
            [
                summary.run.name,
                "" if summary.seed is None else str(summary.seed),
                f"{summary.epochs}/{summary.of}",
                "" if summary.best_epoch is None else str(summary.best_epoch),
                _show(summary.mean_pearson),
                *([of_clipped] if any(clipped) else []),
                *map(_show, values),
                _trained_on(summary),
                _state(summary),
            ]
        )
    print_line(render(TextTable([*header, "trained on", "state"], rows), "table"))
    if any(summary.mean_pearson is not None for summary in found):
        print_text("valid: Pearson of the best epoch, which was selected on it; fold: on held-out clips")
    if any(clipped):
        print_text("clipped: of the same predictions clipped to [0, 1], as submit sends them")
    alike: dict[tuple[bool, str], list[Path]] = {}
    for summary in found:
        if summary.finished and not summary.fold:
            alike.setdefault((summary.train_plus_val, summary.preset), []).append(summary.run.folder)
    if alike:
        print_next("ensemble", "--ckpts", *max(alike.items(), key=lambda each: (each[0][0], len(each[1])))[1])


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _clipped(summary: Summary) -> str:
    """The score of the clipped predictions, where it differs in the third decimal; else ""."""
    raw, clipped = summary.mean_pearson, summary.clipped_mean_pearson
    return _show(clipped) if raw is not None and format_clipped(raw, clipped) else ""


def _state(summary: Summary) -> str:
    from abaw_emi.runs.lock import find_holder

    if holder := find_holder(summary.run):
        return f"in use by {holder}"
    return "finished" if summary.finished else "not finished"


def _trained_on(summary: Summary) -> str:
    splits = "train+valid" if summary.train_plus_val else "train"
    return f"{splits}, but fold {summary.fold}" if summary.fold else splits
