"""Commands of the submissions' ledger, without torch: ledger, ledger set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abaw_emi.cli.command import Command, Group
from abaw_emi.cli.options import FILES
from abaw_emi.evaluation.text_tables import Format

if TYPE_CHECKING:
    from abaw_emi.submission.format import SubmissionFormat
    from abaw_emi.submission.ledger import Entry

DEFAULT_OUT = Path("submissions")

Submissions = Annotated[
    Path,
    typer.Option(
        "--submissions",
        "--out",
        metavar="DIR",
        rich_help_panel=FILES,
        help="Folder of the submissions; also --out.",
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile", metavar="FILE", help="A TOML file with the organisers' format.", show_default="assumed"
    ),
]
TableFormat = Annotated[Format, typer.Option("--format", help="How the list is printed.")]

ledger_app = typer.Typer(
    cls=Group,
    help="List what was submitted, and enter what became known of it.",
    invoke_without_command=True,
    epilog="Example: abaw-emi ledger set submission-1 --test-score .554",
)


@ledger_app.callback()
def ledger(
    context: typer.Context,
    out: Submissions = DEFAULT_OUT,
    profile: ProfileFile = None,
    form: TableFormat = "table",
) -> None:
    """List what was submitted: when, its validation score with interval, the test score once it is known."""
    if context.invoked_subcommand is not None:
        return
    from abaw_emi.cli.next_step import keep, print_next
    from abaw_emi.cli.output import print_json, print_line, texts, wants_json
    from abaw_emi.core.errors import Problem
    from abaw_emi.core.progress import Reporter
    from abaw_emi.evaluation.text_tables import TextTable, format_r, render
    from abaw_emi.submission.ledger import LEDGER, read_ledger

    organisers = read_form(profile)
    found = read_ledger(out)
    problems = list(found.problems)
    if not (out / LEDGER).exists():
        step = "--submissions names another folder"
        problems.append(Problem(str(out / LEDGER), "not there; nothing is submitted yet", next_step=step))
    if wants_json():
        print_json(
            {
                "submissions": [entry.to_json() for entry in found.entries],
                "tries": {
                    "used": found.used,
                    "of": organisers.tries,
                    "assumed": "tries" in organisers.assumed,
                },
                "problems": texts(problems),
            }
        )
    else:
        rows = [
            [
                entry.name,
                entry.created,
                describe_val(entry.val),
                "" if entry.test_score is None else format_r(entry.test_score),
                "yes" if entry.sent else "no",
                str(entry.val.get("kind", "")) if entry.val else "",
                entry.system,
            ]
            for entry in found.entries
        ]
        header = ["Submission", "Created (UTC)", "Validation", "Test", "Sent"]
        header += ["The validation score is that", "Made of"]
        print_line(render(TextTable(header, rows), form))
        if form == "table":
            mark = organisers.mark("tries")
            print_line(f"tries: {found.used} of {organisers.tries}{mark} used")
            open_ones = [entry.name for entry in found.entries if entry.sent and entry.test_score is None]
            place = keep("--submissions", "--out")
            if open_ones:
                print_next("ledger", "set", open_ones[-1], "--test-score", "R", *place)
            elif not found.entries:
                print_next("submit", *place)
            else:
                print_next("report", *place, note="puts them on a page")
    Reporter().warn(problems)


@ledger_app.command("set", cls=Command)
def set_entry(
    name: Annotated[str, typer.Argument(help="Of the submission.")],
    test_score: Annotated[
        float | None, typer.Option("--test-score", help="The organisers' mean Pearson.", min=-1, max=1)
    ] = None,
    sent: Annotated[
        bool | None, typer.Option("--sent/--not-sent", help="Whether it counts as a try.")
    ] = None,
    out: Submissions = DEFAULT_OUT,
) -> None:
    """Enter what became known of a submission: its test score, or that it was never sent."""
    from abaw_emi.cli.next_step import keep, print_next
    from abaw_emi.cli.output import print_json, print_text, wants_json
    from abaw_emi.core.errors import Problem, UsageError
    from abaw_emi.submission.ledger import amend

    given = {"test_score": test_score, "sent": sent}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise UsageError(Problem("ledger set", "nothing to enter", "--test-score, --sent or --not-sent"))
    entry = amend(out, name, **changes)
    if wants_json():
        print_json({**entry.to_json(), "problems": []})
        return
    print_text(_describe_entry(entry))
    print_next("ledger", *keep("--submissions", "--out"))


def _describe_entry(entry: Entry) -> str:
    test = "not known" if entry.test_score is None else f"{entry.test_score:.4f}"
    sent = "" if entry.sent else ", not sent"
    return f"{entry.name}: validation {describe_val(entry.val)}, test {test}{sent}"


def describe_val(val: Any) -> str:
    """What is known of a validation score, with its interval, and of clipped predictions where it differs."""
    from abaw_emi.evaluation.text_tables import format_clipped, format_interval, format_r

    if not val:
        return "not known"
    bounds = (val.get("interval") or {}).get("mean_pearson")
    raw = val["mean_pearson"]
    clipped = format_clipped(raw, val.get("clipped_mean_pearson"))
    shown = f"{format_r(raw)} {format_interval(tuple(bounds) if bounds else None)}".rstrip()
    return f"{shown}, clipped {clipped}" if clipped else shown


def read_form(path: Path | None) -> SubmissionFormat:
    """The organisers' format: that of a file, or the assumed one."""
    from abaw_emi.submission.format import DEFAULT_PROFILE, read_profile

    return DEFAULT_PROFILE if path is None else read_profile(path)
