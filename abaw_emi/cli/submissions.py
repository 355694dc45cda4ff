"""Commands that pack and check submissions, without torch: submit, check."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from abaw_emi.cli.options import DEFAULT_DATA, Data, Debug, Json

DEFAULT_PREDS = Path("predictions/ensemble-test.csv")


class KindName(StrEnum):
    """What a checked file is."""

    submission = "submission"
    predictions = "predictions"


class Fill(StrEnum):
    """What stands in for a missing prediction."""

    train_mean = "train-mean"


def register(app: typer.Typer) -> None:
    """Adds this room's commands to `app`."""
    app.command(epilog="Example: abaw-emi submit --out submissions/ --name first-try")(submit)
    app.command(epilog="Example: abaw-emi check submissions/first-try/first-try.zip")(check)


def submit(
    preds: Annotated[Path, typer.Option("--preds", help="The prediction CSV to submit.")] = DEFAULT_PREDS,
    out: Annotated[Path, typer.Option("--out", help="Folder of the submissions.")] = Path("submissions"),
    name: Annotated[
        str, typer.Option("--name", help="Of the submission.", show_default="submission-<k>")
    ] = "",
    no_clip: Annotated[
        bool, typer.Option("--no-clip", help="Refuse values outside [0, 1] instead of clipping them.")
    ] = False,
    fill: Annotated[
        Fill | None, typer.Option("--fill", help="What stands in for clips without a prediction.")
    ] = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write, pack, re-read and check a submission."""
    from abaw_emi.challenge.provenance import read_provenance, sha256
    from abaw_emi.challenge.submission import write_submission
    from abaw_emi.challenge.tables import read_predictions
    from abaw_emi.cli.output import print_json, print_line, texts
    from abaw_emi.corpus.data_folder import DataFolder
    from abaw_emi.errors import Problem, SubmissionError, gather
    from abaw_emi.progress import Reporter

    if preds == DEFAULT_PREDS and not preds.exists():
        step = "make it with abaw-emi ensemble --ckpts RUN..., or name another with --preds"
        raise SubmissionError(Problem(str(preds), "no such file", next_step=step))
    folder = DataFolder(data)
    reporter = Reporter()
    problems: list[Problem] = []
    test_ids: list[str] = []
    with gather(problems):
        test_ids = folder.ids("test")
    with gather(problems):
        table = read_predictions(preds)
        record, found = read_provenance(preds)
        problems += found
    if problems:
        raise SubmissionError(problems)
    reporter.warn(folder.check_counts("test"))
    source: dict[str, Any] = {"file": preds.name, "sha256": sha256(preds.read_bytes())}
    submission = write_submission(
        table,
        test_ids,
        out,
        name=name,
        clip=not no_clip,
        fill=folder.read_labels("train") if fill else None,
        source=source,
        provenance=record,
        where=str(preds),
    )
    clipped = {emotion: count for emotion, count in submission.clipped.items() if count}
    if as_json:
        print_json(
            {
                "folder": str(submission.folder),
                "archive": str(submission.archive),
                "sha256": submission.manifest["sha256"],
                "clipped": submission.clipped,
                "filled": list(submission.filled),
                "problems": texts(reporter.warnings),
            }
        )
        return
    if clipped:
        print_line("clipped to [0, 1]: " + ", ".join(f"{e} {count:,}" for e, count in clipped.items()))
    if submission.filled:
        filled = submission.filled
        more = ", ..." if len(filled) > 10 else ""
        print_line(f"filled with the train mean: {len(filled):,} clips: {', '.join(filled[:10])}{more}")
    print_line(f"{submission.archive}: {len(test_ids):,} clips; written, read back and checked")
    print_line("the format is assumed: see submissions/README.md")


def check(
    path: Annotated[Path, typer.Argument(help="A CSV, a submission folder or a zip.")],
    kind: Annotated[
        KindName, typer.Option("--kind", help="Raw predictions may lie outside [0, 1].")
    ] = KindName.submission,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a CSV, folder or zip, of any origin, against the test ids."""
    from abaw_emi.challenge.checking import check_path
    from abaw_emi.cli.output import print_json, print_line, texts
    from abaw_emi.corpus.data_folder import DataFolder
    from abaw_emi.progress import Reporter

    folder = DataFolder(data)
    finding = check_path(path, folder.ids("test"), kind.value)
    reporter = Reporter()
    reporter.warn([*folder.check_counts("test"), *finding.warnings])
    if as_json:
        print_json(
            {
                "ok": not finding.problems,
                "rows": finding.rows,
                "problems": texts(finding.problems),
                "warnings": texts(reporter.warnings),
            }
        )
    if finding.problems:
        reporter.fail(finding.problems)
        raise typer.Exit(1)
    if not as_json:
        verdict = "fit to be sent" if kind == "submission" else "sound"
        print_line(f"{path}: {verdict}, {finding.rows:,} clips")
