"""What a mistyped name was meant to be, and names that are known without torch."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from abaw_emi.core.constants import RUN_FILE
from abaw_emi.core.errors import Problem, UsageError

_SLIP = 0.85
"""How much of a name is as it should be where a letter or two are not."""

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


def suggest_path(path: Path) -> str:
    """A question that names the file or folder beside a missing one whose name differs by a slip; else "".

    Names that differ by a word, such as those of two splits, are not taken for each other.
    """
    try:
        beside = [each.name for each in path.parent.iterdir() if each.suffix == path.suffix]
    except OSError:
        return ""
    close = get_close_matches(path.name, beside, n=1, cutoff=_SLIP)
    return f"did you mean {path.with_name(close[0])}?" if close else ""


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Passes if the value of the argument `name` is one of its choices.

    Raises:
        UsageError: it is not.
    """
    known = list(choices)
    if value not in known:
        step = suggest_name(str(value), known)
        raise UsageError(Problem(name, repr(value), f"one of {', '.join(known)}", step))


def suggest_table(folder: Path) -> str:
    """What to type where a run folder stands in the place of a table; "" for any other folder."""
    if not (folder / RUN_FILE).is_file():
        return ""
    return f"it is a run: abaw-emi predict --ckpt {folder} --split SPLIT writes its predictions as a CSV"


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
    raise UsageError(Problem("device", f"{name!r} is no device", "auto, cpu, cuda, cuda:1 or mps", step))
