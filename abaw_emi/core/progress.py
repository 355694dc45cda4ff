"""Progress bars and messages for people, on stderr; stdout belongs to results.

A bar is shown on a terminal only; messages always, unless the reporter is quiet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from abaw_emi.core.terminal import Console, escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from abaw_emi.core.errors import Problem

T = TypeVar("T")


class Track(Protocol):
    """Items with a bar over them, its description and their number, as `Reporter.track`."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        """The same items."""
        ...


def track_nothing(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The same items, without a bar."""
    return items


@dataclass(frozen=True, slots=True)
class Bar:
    """One progress bar, with free text beside it (`note`)."""

    _progress: Progress
    _task: TaskID

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Advances the bar, and shows the note beside it."""
        self._progress.update(self._task, advance=steps, note=note)

    def set(self, done: float, total: float) -> None:
        """Moves the bar to `done` of `total`."""
        self._progress.update(self._task, completed=done, total=total)


class Reporter:
    """Prints progress, messages and warnings for people.

    Args:
        quiet: whether progress bars and messages are left out; warnings never are.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.warnings: list[Problem] = []
        self.console = Console(stderr=True, soft_wrap=True)

    def say(self, message: str) -> None:
        """Prints a line, unless quiet."""
        if not self.quiet:
            self.console.print(message)

    def warn(self, problems: Sequence[Problem], shown: int | None = None) -> None:
        """Prints the problems as warnings, quiet or not; at most `shown` of them and how many more.

        All of them are kept in `warnings`, for `--json`. None is said twice, though a file is read twice.
        """
        told = set(self.warnings)
        new = [problem for problem in dict.fromkeys(problems) if problem not in told]
        self.warnings += new
        for problem in new[:shown]:
            self._print_line(f"warning: {problem}")
        if shown is not None and len(new) > shown:
            more = len(new) - shown
            self.console.print(f"warning: and {more:,} more like these; --json has all of them")

    def fail(self, problems: Sequence[Problem]) -> None:
        """Prints the problems, a line each, quiet or not."""
        for problem in problems:
            self._print_line(str(problem))

    def _print_line(self, text: str) -> None:
        self.console.print(escape_controls(text, line=True))

    def track(self, items: Iterable[T], description: str, total: int, unit: str = "clips") -> Iterator[T]:
        """`items`, with a bar over them."""
        with self.bar(description, total, unit) as bar:
            for item in items:
                yield item
                bar.advance()

    @contextmanager
    def bar(self, description: str, total: float, unit: str = "clips", done: int = 0) -> Iterator[Bar]:
        """A bar with rate and time left."""
        from rich import progress
        from rich.text import Text

        class Rate(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:,.1f} {unit}/s" if speed else "", style="progress.data.speed")

        shown = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            Rate(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=self.quiet or not self.console.is_terminal,
            transient=True,
        )
        with shown:
            label = escape_controls(description, line=True)
            yield Bar(shown, shown.add_task(label, total=total, completed=done, note=""))
