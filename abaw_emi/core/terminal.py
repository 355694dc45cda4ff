"""Text on a terminal: names and messages of others are shown, and never act on it."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from typing import Any

import rich.console
from rich.text import Text

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""C0 and C1 controls (an escape sequence begins with one of them), characters that turn the direction of text
or break lines, and the halves of characters that stand for bytes of undecodable file names."""

_ACTIVE = re.compile(f"[{_CONTROLS}]")
_ACTIVE_OR_BREAK = re.compile(f"[{_CONTROLS}\n]")


def escape_controls(text: str, *, line: bool = False) -> str:
    r"""The text with what would act on a terminal spelt out; tabs stay, and line breaks if it is no `line`.

    >>> print(escape_controls("\x1b[2Ka.csv\n"), escape_controls("a\nb", line=True))
    \x1b[2Ka.csv
     a\nb
    """
    return (_ACTIVE_OR_BREAK if line else _ACTIVE).sub(_spell, text)


def _spell(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def find_width() -> float:
    """Columns of the terminal that stdout is ($COLUMNS may say how many); infinite for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf


def fit_line(text: str, width: float) -> str:
    r"""The line in lines of at most `width`, broken at spaces alone; those that follow stand further in.

    >>> print(fit_line("  one two three", 11))
      one two
          three
    """
    if len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()))
    return "\n".join(
        textwrap.wrap(
            text.strip(),
            int(width),
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def fit_command(text: str, width: float) -> str:
    r"""A command line in lines of at most `width` that a shell joins again, so that it can be copied.

    >>> print(fit_command("abaw-emi train --limit 64", 20))
    abaw-emi train \
        --limit 64
    """
    return text if len(text) <= width else fit_line(text, width - 2).replace("\n", " \\\n")


class Console(rich.console.Console):
    """A console of `rich` that prints text as it is: escaped, without markup, emoji and highlighting.

    Args:
        piped_width: columns of tables where no terminal limits them.
        settings: of `rich.console.Console`.
    """

    def __init__(self, *, piped_width: int = 80, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)
        if not self.is_terminal:
            self.width = piped_width

    def render_str(self, text: str, **settings: Any) -> Text:
        """The text to print; every string that is printed, or stands in a table, comes by here."""
        return super().render_str(escape_controls(text), **settings)
