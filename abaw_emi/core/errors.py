"""What can go wrong, described so that a user can fix it.

A `Problem` is one line: WHERE: WHAT was found; WHAT was expected; the next step if there is one.
A `Diagnostic` is a problem that a check of data or predictions found, with its severity and its clips.
An `EmiError` carries every problem of its cause at once. The library raises; only `cli` exits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar, get_args

from abaw_emi.core.constants import Split

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first. An error keeps a run, or a submission, from being complete: commands refuse the data, or
leave clips out. A warning makes results worse, or less trustworthy, than they look. A note only informs."""

_SHOWN_RANGES = 8


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic(Problem):
    """One thing that a check found in data or predictions: evidence for a person to judge.

    Attributes:
        code: a short name of what was found, the same every time, such as "shifted" or "no file".
        severity: how bad it is, see `SEVERITIES`.
        means: what it means for training, scoring or submitting.
        splits: whose clips it is about; none where it is about no split's.
        ids: of the clips that it is about, as `ids.pack_ids` packs them.
        count: how many clips, files or lines.
        examples: some of them, with file names.
        modality: the input that it is about, "sound" or the name of a feature folder; "" for none alone.

    >>> print(Diagnostic("train", "2 clips are silent", code="silent", ids=("00003", "00007")))
    train: 2 clips are silent: 00003, 00007
    """

    code: str
    severity: Severity = "warning"
    means: str = ""
    splits: tuple[Split, ...] = ()
    ids: tuple[str, ...] = ()
    count: int = 0
    examples: tuple[str, ...] = ()
    modality: str = ""

    def __str__(self) -> str:
        return str(Problem(self.where, self.found + self.shown_ids, self.expected, self.next_step))

    @property
    def shown_ids(self) -> str:
        """The first ranges of its ids, after a colon; "" without ids."""
        return f": {show_first(self.ids, _SHOWN_RANGES)}" if self.ids else ""


class DiagnosticWarning(UserWarning):
    """What a function of the Python API warns of, where the command of the same name prints a warning."""


class EmiError(Exception):
    """Base of every error that a user can cause or fix; `problems` lists all of them."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@contextmanager
def collect_errors(problems: list[Problem]) -> Iterator[None]:
    """Collects the problems of an `EmiError` in the block instead of raising it: all are reported together.

    >>> problems: list[Problem] = []
    >>> for name in ("a.csv", "b.csv"):
    ...     with collect_errors(problems):
    ...         raise EmiError(Problem(name, "no such file"))
    >>> [problem.where for problem in problems]
    ['a.csv', 'b.csv']
    """
    try:
        yield
    except EmiError as error:
        problems += error.problems


P = ParamSpec("P")
T = TypeVar("T")


def attempt(problems: list[Problem], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What the function returns; None where it raises an `EmiError`, whose problems go to `problems`."""
    with collect_errors(problems):
        return function(*args, **kwargs)
    return None


def show_first(names: Sequence[str], most: int = 10, more: str = "...") -> str:
    """The first names with commas between; `more` says that there are others.

    >>> show_first(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join([*names[:most], more] if len(names) > most else names)


def shorten_error(error: Exception) -> str:
    """The first line of what an error of another library says, or else its kind."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


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
