"""What commands print on stdout: tables for people, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from abaw_emi.core.errors import Diagnostic, Problem
from abaw_emi.core.terminal import escape_controls, find_width, fit_command, fit_line

if TYPE_CHECKING:
    from abaw_emi.evaluation.score import Score


def is_given(flag: str) -> bool:
    """Whether the command line has this flag: `--json` or `--debug`, which hold wherever they stand.

    Read from the arguments themselves and not by the parser: wrong usage is reported as JSON, too.
    """
    return flag in sys.argv[1:]


def wants_json() -> bool:
    """Whether the command line asks for JSON: `--json`, or `--format json` where tables have formats."""
    words = sys.argv[1:]
    return "--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words)


def print_result(
    values: Mapping[str, Any], show: str | Callable[[], object], problems: Iterable[Problem] = ()
) -> None:
    """Prints what a command found.

    Args:
        values: printed with `--json`, as one object, with `problems` in it.
        show: otherwise: the text, or what prints it.
        problems: warnings.
    """
    if wants_json():
        print_json({**values, "problems": texts(problems)})
    elif callable(show):
        show()
    else:
        print_line(show)


def print_json(values: dict[str, Any]) -> None:
    """Prints one JSON object."""
    print(json.dumps(values, indent=2, allow_nan=False))  # noqa: T201


def print_line(text: str = "") -> None:
    """Prints a text and a line break."""
    print(escape_controls(text))  # noqa: T201


def print_text(text: str) -> None:
    """Prints prose, with lines that fit the terminal."""
    width = find_width()
    print_line("\n".join(fit_line(line, width) for line in text.splitlines()))


def print_command(text: str) -> None:
    """Prints a command line that fits the terminal and can be copied from it."""
    print_line(fit_command(text, find_width()))


def texts(problems: Iterable[Problem]) -> list[str]:
    """Problems as JSON holds them."""
    return [str(problem) for problem in problems]


def score_to_json(
    score: Score, problems: Iterable[Problem] = (), diagnostics: Sequence[Diagnostic] = ()
) -> dict[str, Any]:
    """A score as the JSON object that `score --json` prints."""
    found = [
        {
            "severity": each.severity,
            "code": each.code,
            "kind": each.code,
            "where": each.where,
            "message": str(each),
        }
        for each in diagnostics
    ]
    return {
        **score.numbers,
        "n": score.n,
        "groups": score.groups,
        "signature": score.signature,
        "contaminated": score.seen > 0,
        "against": [difference.to_json() for difference in score.against.values()],
        "diagnostics": found,
        "smells": found,  # the key, and the "kind" of each, before there were diagnostics
        "problems": texts([*score.problems, *problems, *diagnostics]),
    }
