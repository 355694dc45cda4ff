"""What a mistyped name was meant to be, and names that are known without torch."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from abaw_emi.core.errors import Problem, UsageError

_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
"""Kinds of devices that torch computes on, as it calls them."""


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


def check_device(name: str) -> str:
    """The name of a device, which may be missing on this machine.

    Raises:
        UsageError: torch knows no such device.

    >>> check_device("cuda:1")
    'cuda:1'
    """
    kind, colon, number = name.partition(":")
    if kind in _DEVICES and (not colon or number.isdecimal()):
        return name
    step = "a GPU is called cuda" if "gpu" in name.lower() else suggest_name(kind, _DEVICES)
    raise UsageError(Problem("--device", f"{name!r} is no device", "auto, cpu, cuda, cuda:1 or mps", step))
