"""The line that a command ends with: what to type next."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from abaw_emi.cli.output import is_given, print_command, print_text
from abaw_emi.core.constants import Split

PLACES = ("--data", "--features", "--runs")
"""Options that the next command needs, too, where they were given."""


def print_next(*words: str | Path, note: str = "") -> None:
    """Prints the command to type next, unless the command that is run is to be quiet.

    Args:
        words: of the command, less the program's name.
        note: when or what for, in a few words.
    """
    if not is_quiet():
        shown = f"next{', ' if note else ''}{note}"
        print_command(f"{shown}: {shlex.join(['abaw-emi', *map(str, words)])}")


def print_words(text: str) -> None:
    """Prints what to do next where that is no command, unless the command that is run is to be quiet."""
    if not is_quiet():
        print_text(f"next: {text}")


def is_quiet() -> bool:
    """Whether the command line has `--quiet`."""
    return is_given("--quiet") or is_given("-q")


def keep(*names: str) -> list[str]:
    """The words of these options, each with its value, as far as the command line has them."""
    return _split(names)[0]


def retype(*names: str) -> list[str]:
    """The words of the command line, less these options with their values."""
    return _split(names)[1]


def print_next_of_predictions(path: Path, split: Split) -> None:
    """Prints what to do with predictions of a split: score them, or submit those of test."""
    if split != "test":
        print_next("score", path, *keep("--data"))
    else:
        print_next("submit", "--preds", path, *keep("--data"))


def _split(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The words of the command line that belong to these options, and the others."""
    parts: tuple[list[str], list[str]] = ([], [])
    value_follows = False
    for word in sys.argv[1:]:
        name, equals, _ = word.partition("=")
        taken = name in names or (value_follows and not word.startswith("--"))
        parts[not taken].append(word)
        value_follows = name in names and not equals
    return parts
