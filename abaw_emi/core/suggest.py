"""What a mistyped name was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def find_close(word: str, known: Iterable[str]) -> str:
    """The known name that is close to `word`; "" where none is.

    >>> find_close("papr", ["paper", "tiny"])
    'paper'
    """
    names = list(known)
    if close := get_close_matches(word.lower(), names, n=1, cutoff=0.6):
        return close[0]
    inside = [name for name in names if word and word.lower() in name.split(".")]
    return inside[0] if len(inside) == 1 else ""


def suggest_name(word: str, known: Iterable[str]) -> str:
    """A question that names the known name that is close to `word`; "" where none is.

    >>> suggest_name("papr", ["paper", "tiny"])
    'did you mean paper?'
    >>> suggest_name("xyz", ["paper", "tiny"])
    ''
    """
    close = find_close(word, known)
    return f"did you mean {close}?" if close else ""
