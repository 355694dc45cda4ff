"""What is said of a file that is damaged, or holds what arrays of numbers do not need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MAX_SHOWN = 100  # characters of a foreign text in a message


class RefusedError(ValueError):
    """A file is damaged, or holds or asks for what arrays of numbers do not need; the text says what.

    Attributes:
        next_step: what to do about it, if that is known.
    """

    def __init__(self, found: str, next_step: str = "") -> None:
        super().__init__(found)
        self.next_step = next_step


@contextmanager
def refuse_damaged(what: str) -> Iterator[None]:
    """Turns whatever a parser raises on damaged bytes into a `RefusedError` that begins with `what`."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:  # parsers do not document all that they raise
        raise RefusedError(f"{what} ({quote(str(error)) or type(error).__name__})") from error


def quote(text: str) -> str:
    r"""A foreign text, safe to print.

    >>> quote("a\x1b[31m")
    'a\\x1b[31m'
    """
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
