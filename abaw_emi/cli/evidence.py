"""Commands on prediction files that need no torch: score, submit, check."""

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
    app.command(epilog="Example: abaw-emi score predictions/ensemble-valid.csv data/valid_split.csv")(score)
    app.command(epilog="Example: abaw-emi submit --out submissions/ --name first-try")(submit)
    app.command(epilog="Example: abaw-emi check submissions/first-try/first-try.zip")(check)


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="A prediction CSV, of any origin.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="The label CSV of the same clips.")],
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", help="Resamples for the intervals; 0 for none.", min=0)
    ] = 1_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the resampling.", min=0)] = 1,
    allow_constant: Annotated[
        bool, typer.Option("--allow-constant", help="Exit 0 although an emotion's r is undefined.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score predictions: Pearson per emotion and its mean, matched by Filename, with intervals."""
    from abaw_emi.challenge.provenance import read_provenance
    from abaw_emi.challenge.scoring import score as score_tables
    from abaw_emi.challenge.tables import read_labels, read_predictions
    from abaw_emi.cli.output import print_json, print_line, print_score, score_to_json
    from abaw_emi.errors import EmiError, Problem, gather
    from abaw_emi.progress import Reporter

    problems: list[Problem] = []
    tables = []
    for read, path in ((read_labels, labels), (read_predictions, predictions)):
        with gather(problems):
            tables.append(read(path))
    if problems:
        raise EmiError(problems)
    record, warnings = read_provenance(predictions)
    if record is None or not record.trained_on_complete:
        found = "what the predictor was trained on is not known"
        if record:
            found = "not all of what the predictor was trained on is known"
        warnings.append(Problem(str(predictions), found, next_step="make sure it has not seen these clips"))
    result = score_tables(
        *tables,
        resamples=bootstrap,
        seed=seed,
        trained_on=record.trained_on if record else (),
        names=(str(labels), str(predictions)),
    )
    if as_json:
        print_json(score_to_json(result, warnings))
    else:
        if result.seen:
            print_line("SEEN IN TRAINING: not a validation score")
        print_score(result)
        print_line(f"{result.n:,} clips")
        print_line(result.signature)
    reporter = Reporter()
    reporter.warn(warnings)
    if result.undefined and not allow_constant:
        reporter.fail(result.problems)
        raise typer.Exit(1)
    reporter.warn(result.problems)


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
