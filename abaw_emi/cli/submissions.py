"""Commands that pack and check submissions and keep their ledger, without torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_RUNS, Data, Debug, FormatName, Json, Runs, TableFormat

if TYPE_CHECKING:
    from abaw_emi.challenge.ledger import Entry
    from abaw_emi.challenge.profiles import Profile
    from abaw_emi.challenge.submission import Submission

DEFAULT_PREDS = Path("predictions/ensemble-test.csv")
DEFAULT_OUT = Path("submissions")


class KindName(StrEnum):
    """What a checked file is."""

    submission = "submission"
    predictions = "predictions"


class Fill(StrEnum):
    """What stands in for a missing prediction."""

    train_mean = "train-mean"


Out = Annotated[Path, typer.Option("--out", help="Folder of the submissions.")]
ProfileFile = Annotated[
    Path | None,
    typer.Option("--profile", help="A TOML file with the organisers' format.", show_default="assumed"),
]

ledger_app = typer.Typer(
    help="List what was submitted, and enter what became known of it.",
    invoke_without_command=True,
    epilog="Example: abaw-emi ledger set submission-1 --test-score .554",
)


def register(app: typer.Typer) -> None:
    """Adds this room's commands to `app`."""
    app.command(epilog="Example: abaw-emi submit --out submissions/ --name first-try")(submit)
    app.command(epilog="Example: abaw-emi check submissions/first-try/first-try.zip")(check)
    ledger_app.callback()(ledger)
    ledger_app.command("set")(set_entry)
    app.add_typer(ledger_app, name="ledger")


def submit(
    preds: Annotated[Path, typer.Option("--preds", help="The prediction CSV to submit.")] = DEFAULT_PREDS,
    out: Out = DEFAULT_OUT,
    name: Annotated[
        str, typer.Option("--name", help="Of the submission.", show_default="submission-<k>")
    ] = "",
    no_clip: Annotated[
        bool, typer.Option("--no-clip", help="Refuse values outside [0, 1] instead of clipping them.")
    ] = False,
    fill: Annotated[
        Fill | None, typer.Option("--fill", help="What stands in for clips without a prediction.")
    ] = None,
    valid_preds: Annotated[
        Path | None, typer.Option("--valid-preds", help="The system's predictions of valid, for the ledger.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    profile: ProfileFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Though no try is left, or the file is an earlier one again.")
    ] = False,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write, pack, re-read and check a submission, and enter it into the ledger."""
    from abaw_emi.challenge.ledger import read_ledger
    from abaw_emi.challenge.provenance import read_provenance, sha256
    from abaw_emi.challenge.submission import write_submission
    from abaw_emi.challenge.tables import read_predictions
    from abaw_emi.cli.output import print_json, texts
    from abaw_emi.cli.standing import find_val
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
    val: dict[str, Any] | None = None
    with gather(problems):
        test_ids = folder.ids("test")
    with gather(problems):
        form = _read_profile(profile)
    with gather(problems):
        table = read_predictions(preds)
        record, found = read_provenance(preds)
        problems += found
        val, warnings = find_val(record, valid_preds, runs, data)
    if problems:
        raise SubmissionError(problems)
    reporter.warn([*folder.check_counts("test"), *warnings])
    if record is None:
        found_none = "no provenance record: whether its runs have seen test clips is not known"
        reporter.warn([Problem(str(preds), found_none)])
    submission = write_submission(
        table,
        test_ids,
        out,
        name=name,
        clip=not no_clip,
        fill=folder.read_labels("train") if fill else None,
        source={"file": preds.name, "sha256": sha256(preds.read_bytes())},
        provenance=record,
        where=str(preds),
        profile=form,
        val=val,
        force=force,
        dry_run=dry_run,
    )
    reporter.warn(submission.warnings)
    used = read_ledger(out).used
    if as_json:
        print_json(
            {
                "folder": str(submission.folder),
                "archive": str(submission.archive),
                "sha256": submission.manifest["sha256"],
                "clipped": submission.clipped,
                "filled": list(submission.filled),
                "val": val,
                "dry_run": dry_run,
                "tries": {"used": used, "of": form.tries, "assumed": "tries" in form.assumed},
                "assumed": list(form.assumed),
                "problems": texts(reporter.warnings),
            }
        )
        return
    _print_submission(submission, form, used, dry_run=dry_run)


def _print_submission(submission: Submission, form: Profile, used: int, *, dry_run: bool) -> None:
    from abaw_emi.cli.output import print_line

    low, high = form.range
    clipped = {emotion: count for emotion, count in submission.clipped.items() if count}
    if clipped:
        told = ", ".join(f"{emotion} {count:,}" for emotion, count in clipped.items())
        print_line(f"clipped to [{low:g}, {high:g}]: {told}")
    if submission.filled:
        filled = submission.filled
        more = ", ..." if len(filled) > 10 else ""
        print_line(f"filled with the train mean: {len(filled):,} clips: {', '.join(filled[:10])}{more}")
    val = submission.manifest["val"]
    print_line(f"validation score: {_describe_val(val)}{'; ' + val['kind'] if val else ''}")
    done = "nothing is written (dry run)" if dry_run else "written, read back and checked"
    print_line(f"{submission.archive}: {submission.manifest['rows']:,} clips; {done}")
    print_line(f"tries: {used} of {form.tries}{form.mark('tries')} used")
    print_line(form.describe)


def check(
    path: Annotated[Path, typer.Argument(help="A CSV, a submission folder or a zip.")],
    kind: Annotated[
        KindName, typer.Option("--kind", help="Raw predictions may lie outside [0, 1].")
    ] = KindName.submission,
    profile: ProfileFile = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a CSV, folder or zip, of any origin, against the test ids, and point out what smells."""
    from abaw_emi.challenge.checking import check_path
    from abaw_emi.challenge.preparing import check_origin
    from abaw_emi.challenge.provenance import read_provenance
    from abaw_emi.cli.output import print_json, print_line, texts
    from abaw_emi.corpus.data_folder import DataFolder
    from abaw_emi.progress import Reporter

    folder = DataFolder(data)
    form = _read_profile(profile)
    test_ids = folder.ids("test")
    finding = check_path(path, test_ids, kind.value, form)
    problems = list(finding.problems)
    if path.is_file() and path.suffix == ".csv":
        record, found = read_provenance(path)
        problems += [*found, *check_origin(record, test_ids, str(path))]
    reporter = Reporter()
    reporter.warn([*folder.check_counts("test"), *finding.warnings])
    if as_json:
        print_json(
            {
                "ok": not problems,
                "rows": finding.rows,
                "problems": texts(problems),
                "warnings": texts(reporter.warnings),
            }
        )
    if problems:
        reporter.fail(problems)
        raise typer.Exit(1)
    if not as_json:
        verdict = "fit to be sent" if kind == "submission" else "sound"
        print_line(f"{path}: {verdict}, {finding.rows:,} clips")
        if kind == "submission":
            print_line(form.describe)


def ledger(
    context: typer.Context,
    out: Out = DEFAULT_OUT,
    profile: ProfileFile = None,
    form: TableFormat = FormatName.table,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what was submitted: when, its validation score with interval, the test score once it is known."""
    if context.invoked_subcommand is not None:
        return
    from abaw_emi.challenge.ledger import read_ledger
    from abaw_emi.challenge.rendering import Sheet, format_r, render
    from abaw_emi.cli.output import print_json, print_line, texts
    from abaw_emi.progress import Reporter

    organisers = _read_profile(profile)
    found = read_ledger(out)
    if as_json or form is FormatName.json:
        print_json(
            {
                "submissions": [entry.to_json() for entry in found.entries],
                "tries": {
                    "used": found.used,
                    "of": organisers.tries,
                    "assumed": "tries" in organisers.assumed,
                },
                "problems": texts(found.problems),
            }
        )
    else:
        rows = [
            [
                entry.name,
                entry.created,
                _describe_val(entry.val),
                "" if entry.test_score is None else format_r(entry.test_score),
                "yes" if entry.sent else "no",
                str(entry.val["kind"]) if entry.val else "",
            ]
            for entry in found.entries
        ]
        header = ["Submission", "Created (UTC)", "Validation", "Test", "Sent", "The validation score is that"]
        print_line(render(Sheet(header, rows), form.value))
        if form is FormatName.table:
            mark = organisers.mark("tries")
            print_line(f"tries: {found.used} of {organisers.tries}{mark} used")
    Reporter().warn(found.problems)


def set_entry(
    name: Annotated[str, typer.Argument(help="Of the submission.")],
    test_score: Annotated[
        float | None, typer.Option("--test-score", help="The organisers' mean Pearson.", min=-1, max=1)
    ] = None,
    sent: Annotated[
        bool | None,
        typer.Option("--sent/--not-sent", help="Whether it counts as a try."),
    ] = None,
    out: Out = DEFAULT_OUT,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Enter what became known of a submission: its test score, or that it was never sent."""
    from abaw_emi.challenge.ledger import amend
    from abaw_emi.cli.output import print_json, print_line
    from abaw_emi.errors import Problem, UsageError

    given = {"test_score": test_score, "sent": sent}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise UsageError(Problem("ledger set", "nothing to enter", "--test-score, --sent or --not-sent"))
    entry = amend(out, name, **changes)
    if as_json:
        print_json({**entry.to_json(), "problems": []})
        return
    print_line(_describe_entry(entry))


def _describe_entry(entry: Entry) -> str:
    test = "not known" if entry.test_score is None else f"{entry.test_score:.4f}"
    sent = "" if entry.sent else ", not sent"
    return f"{entry.name}: validation {_describe_val(entry.val)}, test {test}{sent}"


def _describe_val(val: Any) -> str:
    from abaw_emi.challenge.rendering import format_interval, format_r

    if not val:
        return "not known"
    bounds = (val.get("interval") or {}).get("mean_pearson")
    return f"{format_r(val['mean_pearson'])} {format_interval(tuple(bounds) if bounds else None)}".rstrip()


def _read_profile(path: Path | None) -> Profile:
    from abaw_emi.challenge.profiles import DEFAULT_PROFILE, read_profile

    return DEFAULT_PROFILE if path is None else read_profile(path)
