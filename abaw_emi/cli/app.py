"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from abaw_emi.cli import demo
from abaw_emi.cli.command import Command, Group
from abaw_emi.cli.data import audit, extract, faces
from abaw_emi.cli.evaluation import report, score
from abaw_emi.cli.failures import describe_error, suggest
from abaw_emi.cli.output import is_given, wants_json
from abaw_emi.cli.prediction import ensemble, predict
from abaw_emi.cli.streams import guard_streams, lost_output
from abaw_emi.cli.submission import ledger, submit
from abaw_emi.cli.training import describe, pipeline, reproduce, runs, search, sweep, train
from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import UsageError
from abaw_emi.core.signals import Interrupted, ignore_signals, raise_on_signals
from abaw_emi.core.terminal import escape_controls

app = typer.Typer(
    name="abaw-emi",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? abaw-emi demo shows everything end to end in minutes, offline.",
)


_MANY = 20
"""With more problems than this, their number is printed too: the first ones have scrolled away."""

_PRINTED = (["score"], ["compare"], ["check"], ["runs"], ["presets"], ["options"])
"""Commands that do nothing but print: where that is lost, they have failed."""


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


for _panel, _commands in {
    "Start": ((demo.demo, demo.EXAMPLES), (pipeline.pipeline, pipeline.PIPELINE_EXAMPLES)),
    "Data": (
        (audit.audit, audit.EXAMPLES),
        (pipeline.prepare, pipeline.PREPARE_EXAMPLES),
        (faces.faces, faces.EXAMPLES),
        (extract.extract, extract.EXTRACT_EXAMPLES),
        (extract.transcribe, extract.TRANSCRIBE_EXAMPLES),
    ),
    "Train": (
        (describe.presets, describe.PRESETS_EXAMPLES),
        (describe.options, describe.OPTIONS_EXAMPLES),
        (train.train, train.EXAMPLES),
        (sweep.sweep, sweep.EXAMPLES),
        (search.search, search.EXAMPLES),
        (reproduce.tables, reproduce.EXAMPLES),
        (runs.runs, runs.RUNS_EXAMPLES),
        (runs.import_weights, runs.IMPORT_EXAMPLES),
    ),
    "Predict and combine": ((predict.predict, predict.EXAMPLES), (ensemble.ensemble, ensemble.EXAMPLES)),
    "Score": (
        (score.score, score.SCORE_EXAMPLES),
        (score.compare, score.COMPARE_EXAMPLES),
        (report.report, report.EXAMPLES),
    ),
    "Submit": ((submit.submit, submit.SUBMIT_EXAMPLES), (submit.check, submit.CHECK_EXAMPLES)),
}.items():
    for _function, _examples in _commands:
        app.command(cls=Command, epilog=_examples, rich_help_panel=_panel)(_function)
app.add_typer(ledger.ledger_app, name="ledger", rich_help_panel="Submit")


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    guard_streams()
    raise_on_signals()
    code = _run(sys.argv[1:])
    ignore_signals()  # also while Python ends, where a handler would only print a traceback
    if lost := lost_output():
        print(f"stdout: {lost}; what was printed there is lost, what was done is not", file=sys.stderr)  # noqa: T201
        code = code or int(sys.argv[1:2] in _PRINTED)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of a command."""
    try:
        app()
    except Interrupted as stop:
        ignore_signals()  # a second one would cut off the line that says how to go on
        done = str(stop) or "stopped"
        again = suggest(arguments, saved=done.startswith("saved"))
        left = "" if again.startswith("go on") else "nothing half-written is left; "
        return _report([f"{done}; {left}{again}"], stop.exit_code)
    except Exception as error:
        ignore_signals()
        if is_given("--debug"):
            raise
        return _report(describe_error(error, arguments), 2 if isinstance(error, UsageError) else 1)
    except SystemExit as end:
        if end.code == 2:
            _print_as_json(["wrong usage, see stderr"])
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _report(problems: list[str], code: int) -> int:
    """Prints the problems, a line each; returns the code."""
    for problem in problems:
        print(escape_controls(problem, line=True), file=sys.stderr)  # noqa: T201
    if len(problems) > _MANY:
        print(f"{len(problems):,} problems", file=sys.stderr)  # noqa: T201
    _print_as_json(problems)
    return code


def _print_as_json(problems: list[str]) -> None:
    if wants_json():
        print(json.dumps({"problems": problems}))  # noqa: T201
