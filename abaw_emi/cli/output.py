"""What commands print on stdout: tables for people, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from abaw_emi.challenge.facts import EMOTIONS

if TYPE_CHECKING:
    from abaw_emi.challenge.scoring import Score
    from abaw_emi.errors import Problem


def print_json(values: dict[str, Any]) -> None:
    """Prints one JSON object."""
    print(json.dumps(values, indent=2, allow_nan=False))  # noqa: T201


def print_line(text: str = "") -> None:
    """Prints a line as it is."""
    print(text)  # noqa: T201


def texts(problems: Iterable[Problem]) -> list[str]:
    """Problems as JSON holds them."""
    return [str(problem) for problem in problems]


def print_score(score: Score) -> None:
    """Prints a score as a table, with intervals if it has them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("Pearson", justify="right")
    if score.interval:
        table.add_column("95 % interval", justify="center")
    rows: list[tuple[str, float | None]] = [(emotion, score.pearson[emotion]) for emotion in EMOTIONS]
    for name, value in [*rows, ("mean_pearson", score.mean_pearson)]:
        interval = score.interval.get(name)
        cells = ["Mean" if name == "mean_pearson" else name]
        cells.append("undefined" if value is None else f"{value:.4f}")
        cells.append(f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")
        table.add_row(*cells[: len(table.columns)], style="bold" if name == "mean_pearson" else "")
    Console(highlight=False).print(table)


def score_to_json(score: Score, problems: Iterable[Problem] = ()) -> dict[str, Any]:
    """A score as the JSON object that `score --json` prints."""
    return {
        "mean_pearson": score.mean_pearson,
        "pearson": score.pearson,
        "interval": score.interval,
        "n": score.n,
        "signature": score.signature,
        "contaminated": score.seen > 0,
        "problems": texts([*score.problems, *problems]),
    }
