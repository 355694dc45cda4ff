"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import json
import shlex
import sys

import typer

from abaw_emi.cli import demo, evidence, learn
from abaw_emi.errors import EmiError, UsageError
from abaw_emi.interruption import Interrupted, raise_on_sigterm

app = typer.Typer(
    name="abaw-emi",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? [bold]abaw-emi demo[/bold] shows the whole way in minutes, offline.",
)


@app.callback()
def _describe() -> None:
    """From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission."""


demo.register(app)
learn.register(app)
evidence.register(app)


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    arguments = sys.argv[1:]
    raise_on_sigterm()
    try:
        app()
    except EmiError as error:
        if "--debug" in arguments:
            raise
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        if "--json" in arguments:
            print(json.dumps({"problems": [str(problem) for problem in error.problems]}))  # noqa: T201
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except Interrupted as stop:
        message = str(stop) or "stopped"
        if "train" in arguments:
            go_on = [word for word in arguments if word not in ("--overwrite", "--resume")]
            message += f"; go on with: abaw-emi {shlex.join(go_on)} --resume"
        print(message, file=sys.stderr)  # noqa: T201
        sys.exit(stop.exit_code)
    except Exception as error:
        if "--debug" in arguments:
            raise
        found = f"{type(error).__name__}: {error}"
        print(f"abaw-emi: {found}; this is a fault of abaw-emi, --debug shows where", file=sys.stderr)  # noqa: T201
        sys.exit(1)
