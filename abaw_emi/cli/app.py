"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from abaw_emi.cli import demo
from abaw_emi.cli.data import audit, extract
from abaw_emi.cli.evaluation import report, score
from abaw_emi.cli.options import Command
from abaw_emi.cli.output import is_given
from abaw_emi.cli.prediction import ensemble, predict
from abaw_emi.cli.submission import ledger, submit
from abaw_emi.cli.training import reproduce, runs, train
from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import EmiError, UsageError
from abaw_emi.core.signals import Interrupted, raise_on_signals

app = typer.Typer(
    name="abaw-emi",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? [bold]abaw-emi demo[/bold] shows everything end to end in minutes, offline.",
)


_MANY = 20
"""With more problems than this, their number is printed too: the first ones have scrolled away."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)  # noqa: T201
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version)
    ] = False,
) -> None:
    """From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission."""


for _function, _examples in (
    (demo.demo, demo.EXAMPLES),
    (audit.audit, audit.EXAMPLES),
    (train.train, train.EXAMPLES),
    (runs.runs, runs.RUNS_EXAMPLES),
    (reproduce.tables, reproduce.EXAMPLES),
    (extract.extract, extract.EXTRACT_EXAMPLES),
    (extract.transcribe, extract.TRANSCRIBE_EXAMPLES),
    (predict.predict, predict.EXAMPLES),
    (runs.import_weights, runs.IMPORT_EXAMPLES),
    (ensemble.ensemble, ensemble.EXAMPLES),
    (score.score, score.SCORE_EXAMPLES),
    (score.compare, score.COMPARE_EXAMPLES),
    (submit.submit, submit.SUBMIT_EXAMPLES),
    (submit.check, submit.CHECK_EXAMPLES),
):
    app.command(cls=Command, epilog=_examples)(_function)
app.add_typer(ledger.ledger_app, name="ledger")
app.command(cls=Command, epilog=report.EXAMPLES)(report.report)


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    raise_on_signals()
    try:
        app()
    except Interrupted as stop:
        _end([_say_how_to_go_on(str(stop) or "stopped", sys.argv[1:])], stop.exit_code)
    except Exception as error:
        if is_given("--debug"):
            raise
        _end(_describe_error(error), 2 if isinstance(error, UsageError) else 1)
    except SystemExit as end:
        if end.code == 2:
            _print_as_json(["wrong usage, see stderr"])
        raise
    finally:
        _flush()


def _describe_error(error: Exception) -> list[str]:
    """What is wrong, a line for each problem."""
    if isinstance(error, EmiError):
        return list(map(str, error.problems))
    if isinstance(error, OSError):
        return [f"{error.filename or 'abaw-emi'}: {error.strerror or error}"]
    found = f"{type(error).__name__}: {error}"
    return [f"abaw-emi: {found}; this is a fault of abaw-emi, --debug shows where"]


def _flush() -> None:
    """Writes out what was printed; whoever read it (`| head -1`) may have gone, and has what they wanted."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python says so as it ends


def _end(problems: list[str], code: int) -> NoReturn:
    """Prints the problems, a line each, and ends the process."""
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    if len(problems) > _MANY:
        print(f"{len(problems):,} problems", file=sys.stderr)  # noqa: T201
    _print_as_json(problems)
    sys.exit(code)


def _print_as_json(problems: list[str]) -> None:
    if is_given("--json"):
        with suppress(BrokenPipeError):
            print(json.dumps({"problems": problems}))  # noqa: T201


def _say_how_to_go_on(stopped: str, arguments: list[str]) -> str:
    if arguments[:1] in (["tables"], ["extract"], ["transcribe"]):
        again = [word for word in arguments if word != "--overwrite"]
        return f"{stopped}; go on with: abaw-emi {shlex.join(again)}"
    trial = any(word == "--verify-resume" or word.startswith("--limit") for word in arguments)
    fresh = "--overwrite" in arguments and not stopped.startswith("saved")  # nothing of the new run is there
    if arguments[:1] == ["train"] and not trial and not fresh:
        again = [word for word in arguments if word not in ("--overwrite", "--resume")]
        several = os.environ.get("LOCAL_WORLD_SIZE")  # torchrun's
        command = f"torchrun --nproc-per-node {several} -m abaw_emi" if several else "abaw-emi"
        return f"{stopped}; go on with: {command} {shlex.join(again)} --resume"
    return f"{stopped}; nothing half-written is left; start again with: abaw-emi {shlex.join(arguments)}"
