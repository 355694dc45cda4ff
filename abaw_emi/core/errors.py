"""What can go wrong, said so that a user can mend it.

A `Problem` is one line: WHERE: WHAT was found; WHAT was expected; the next step if there is one.
An `EmiError` carries every problem of its cause at once. The library raises; only `cli` exits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    >>> print(Problem("valid_split.csv, line 4, Empathic Pain", "1.5 is outside [0, 1]"))
    valid_split.csv, line 4, Empathic Pain: 1.5 is outside [0, 1]
    >>> print(Problem("audio/00012.mp3", "truncated", "48000 frames", next_step="copy it again"))
    audio/00012.mp3: truncated; expected 48000 frames; copy it again
    """

    where: str
    found: str
    expected: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        parts = [self.found]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.next_step:
            parts.append(self.next_step)
        return f"{self.where}: {'; '.join(parts)}"


class EmiError(Exception):
    """Base of every error that a user can cause or mend; `problems` lists all of them."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@contextmanager
def gather(problems: list[Problem]) -> Iterator[None]:
    """Notes the problems of an `EmiError` in the block instead of raising it, so that all are told at once.

    >>> problems: list[Problem] = []
    >>> for name in ("a.csv", "b.csv"):
    ...     with gather(problems):
    ...         raise EmiError(Problem(name, "no such file"))
    >>> [problem.where for problem in problems]
    ['a.csv', 'b.csv']
    """
    try:
        yield
    except EmiError as error:
        problems += error.problems


class UsageError(EmiError, ValueError):
    """A command or a function was asked for something that cannot be meant (exit code 2)."""


class ConfigError(EmiError, ValueError):
    """A run's configuration holds an unknown key or an impossible value."""


class TableError(EmiError, ValueError):
    """A CSV file (labels, ids, predictions) is not what it should be."""


class CorpusError(EmiError, ValueError):
    """Files of the data folder are missing or do not fit the label files."""


class ClipError(EmiError, ValueError):
    """A clip cannot be read, or is not what it claims to be."""


class FeatureError(EmiError, ValueError):
    """A feature file or a face cannot be read, or is not what it claims to be."""


class ScoreError(EmiError, ValueError):
    """Predictions and labels cannot be compared."""


class RunError(EmiError, RuntimeError):
    """A run folder is missing, unfinished, already there, or not a run folder."""


class WeightsError(EmiError, ValueError):
    """Weights do not fit the model that they were to fill."""


class TrainingError(EmiError, RuntimeError):
    """Training cannot go on."""


class SubmissionError(EmiError, ValueError):
    """A submission would be, or is, rejected."""


class InstallationError(EmiError, ImportError):
    """Installed packages do not work together, or one is missing."""
