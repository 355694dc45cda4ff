"""Commands that pack and check submissions, without torch: submit, check."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_RUNS, Data, FillOption, Quiet, RunsOfFolds
from abaw_emi.cli.submission.ledger import DEFAULT_OUT, ProfileFile, Submissions, describe_val, read_form

if TYPE_CHECKING:
    from abaw_emi.submission.format import SubmissionFormat
    from abaw_emi.submission.write import Submission

DEFAULT_PREDS = Path("predictions/ensemble-test.csv")


SUBMIT_EXAMPLES = "Example: abaw-emi submit --name first-try"
CHECK_EXAMPLES = "Example: abaw-emi check submissions/first-try/first-try.zip"


def submit(
    preds: Annotated[
        Path, typer.Option("--preds", metavar="FILE", help="The prediction CSV to submit.")
    ] = DEFAULT_PREDS,
    out: Submissions = DEFAULT_OUT,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of the submission.", show_default="submission-<k>")
    ] = "",
    bounds: Annotated[
        Literal["clip", "rescale", "auto"],
        typer.Option(
            "--bounds",
            help="Values outside [0, 1]: clipped, or the column rescaled, which leaves r as it is; auto "
            "clips, and rescales where that would flatten a column or is known to lower its r on valid.",
        ),
    ] = "auto",
    no_clip: Annotated[bool, typer.Option("--no-clip", help="Refuse values outside [0, 1] instead.")] = False,
    fill: FillOption = None,
    valid_preds: Annotated[
        Path | None,
        typer.Option(
            "--valid-preds", metavar="FILE", help="The system's predictions of valid, for the ledger."
        ),
    ] = None,
    runs: RunsOfFolds = DEFAULT_RUNS,
    profile: ProfileFile = None,
    show_format: Annotated[
        bool, typer.Option("--show-format", help="Print the format, as a profile to start from, and end.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Submit although no try is left, the file was sent before, or it looks like labels.",
        ),
    ] = False,
    data: Data = DEFAULT_DATA,
    quiet: Quiet = False,
) -> None:
    """Write, pack, re-read and check a submission, and enter it into the ledger."""
    from abaw_emi.audit.record import recall_audit
    from abaw_emi.cli.output import print_json, texts, wants_json
    from abaw_emi.config.parts import SOUND
    from abaw_emi.core.errors import Problem, SubmissionError, collect_errors
    from abaw_emi.core.progress import Reporter
    from abaw_emi.core.signals import deferred_signals
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.provenance import read_prediction_file
    from abaw_emi.submission.format import DEFAULT_PROFILE
    from abaw_emi.submission.ledger import read_ledger
    from abaw_emi.submission.validation_score import find_validation
    from abaw_emi.submission.write import write_submission

    if show_format:
        from abaw_emi.cli.output import print_result

        form = read_form(profile)
        print_result({"profile": form.to_json()}, form.to_toml())
        return
    if preds == DEFAULT_PREDS and not preds.exists():
        step = "make it with abaw-emi ensemble --ckpts RUN..., or name another with --preds"
        raise SubmissionError(Problem(str(preds), "no such file", next_step=step))
    folder = DataFolder(data)
    reporter = Reporter()
    problems: list[Problem] = []
    test_ids: list[str] = []
    form = DEFAULT_PROFILE
    with collect_errors(problems):
        test_ids = folder.ids("test")
    with collect_errors(problems):
        form = read_form(profile)
    with collect_errors(problems):
        file, found = read_prediction_file(preds)
        problems += found
        known = find_validation(file.record, valid_preds, runs, folder, form.range)
    if problems:
        raise SubmissionError(problems)
    reporter.warn([*folder.check_counts("test"), *recall_audit(folder, "test", reads=[SOUND])])
    reporter.warn([*file.warnings, *known.warnings])
    if file.record is None:
        found_none = "no provenance record: whether its runs have seen test clips is not known"
        reporter.warn([Problem(str(preds), found_none)])
    with ExitStack() as until_told:
        submission = write_submission(
            file.table,
            test_ids,
            out,
            name=name,
            bounds="refuse" if no_clip else bounds,
            harmed=known.harmed,
            fill=folder.read_labels("train") if fill else None,
            source={"file": preds.name, "sha256": file.sha256},
            provenance=file.record,
            where=str(preds),
            profile=form,
            val=known.score,
            force=force,
            dry_run=dry_run,
            before_commit=lambda: until_told.enter_context(deferred_signals()),
        )
        reporter.warn(submission.warnings)
        used = read_ledger(out).used
        if not wants_json():
            if not quiet:
                _print_submission(preds, submission, form, used, dry_run=dry_run)
            return
        print_json(
            {
                "predictions": str(preds),
                "system": submission.manifest["system"],
                "folder": str(submission.folder),
                "archive": str(submission.archive),
                "sha256": submission.manifest["sha256"],
                "clipped": submission.clipped,
                "rescaled": submission.manifest["rescaled"],
                "filled": list(submission.filled),
                "harmed": known.harmed,
                "val": known.score,
                "dry_run": dry_run,
                "tries": {"used": used, "of": form.tries, "assumed": "tries" in form.assumed},
                "assumed": list(form.assumed),
                "problems": texts(reporter.warnings),
            }
        )


def _print_submission(
    preds: Path, submission: Submission, form: SubmissionFormat, used: int, *, dry_run: bool
) -> None:
    from abaw_emi.cli.next_step import keep, print_next, retype
    from abaw_emi.cli.output import print_text

    print_text(f"{preds}: {submission.manifest['system'] or 'what it is made of is not recorded'}")
    for line in submission.describe_changes():
        print_text(line)
    val = submission.manifest["val"]
    kind = f"; {val['kind']}" if val else "; --valid-preds names the same system's predictions of valid"
    print_text(f"validation score: {describe_val(val)}{kind}")
    done = "nothing is written (dry run)" if dry_run else "written, read back and checked"
    print_text(f"{submission.archive}: {submission.manifest['rows']:,} clips; {done}")
    print_text(f"tries: {used} of {form.tries}{form.mark('tries')} used")
    print_text(form.describe)
    if dry_run:
        print_next(*retype("--dry-run"))
    else:
        entry = (
            "ledger",
            "set",
            submission.folder.name,
            "--test-score",
            "R",
            *keep("--submissions", "--out"),
        )
        print_next(*entry, note="once its score is known")


def check(
    path: Annotated[Path, typer.Argument(help="A CSV, a submission folder or a zip.")],
    kind: Annotated[
        Literal["submission", "predictions"],
        typer.Option("--kind", help="Raw predictions may lie outside [0, 1]."),
    ] = "submission",
    profile: ProfileFile = None,
    data: Data = DEFAULT_DATA,
    quiet: Quiet = False,
) -> None:
    """Check a CSV, folder or zip, of any origin, against the test ids, and warn of likely mistakes."""
    from abaw_emi.cli.next_step import keep, print_next
    from abaw_emi.cli.output import print_json, print_text, texts, wants_json
    from abaw_emi.core.progress import Reporter
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.provenance import read_provenance
    from abaw_emi.submission.check import MANIFEST, check_path
    from abaw_emi.submission.prepare import check_origin

    folder = DataFolder(data)
    form = read_form(profile)
    test_ids = folder.ids("test")
    checked = check_path(path, test_ids, kind, form)
    problems = list(checked.problems)
    if path.is_file() and path.suffix == ".csv":
        record, found = read_provenance(path)
        problems += [*found, *check_origin(record, test_ids, str(path))]
    reporter = Reporter()
    reporter.warn([*folder.check_counts("test"), *checked.warnings])
    if wants_json():
        print_json(
            {
                "ok": not problems,
                "rows": checked.rows,
                "problems": texts(problems),
                "warnings": texts(reporter.warnings),
            }
        )
    if problems:
        reporter.fail(problems)
        raise typer.Exit(1)
    if not wants_json() and not quiet:
        verdict = "fit to be sent" if kind == "submission" else "sound"
        print_text(f"{path}: {verdict}, {checked.rows:,} clips")
        if kind == "submission":
            print_text(form.describe)
        if kind == "submission" and (path.is_dir() or path.suffix != ".csv"):
            _print_next_of_archive(path)
        elif path.suffix == ".csv" and not checked.warnings and not (path.parent / MANIFEST).is_file():
            print_next("submit", "--preds", path, *keep("--data", "--profile"))


def _print_next_of_archive(path: Path) -> None:
    """Prints what to do with a submission that is fit to be sent: send it, and enter its score."""
    from abaw_emi.cli.next_step import print_next, print_words
    from abaw_emi.submission.check import MANIFEST

    folder = path if path.is_dir() else path.parent
    if (folder / MANIFEST).is_file():
        place = () if folder.parent == DEFAULT_OUT else ("--submissions", folder.parent)
        entry = ("ledger", "set", folder.name, "--test-score", "R", *place)
        print_next(*entry, note="once it is sent and its score is known")
    else:
        print_words("send it to the organisers")
