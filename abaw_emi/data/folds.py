"""Folds inside a split: which clips one of K runs holds out.

Speaker ids are not delivered, so a fold shares its speakers with the clips that are trained on: a score
on folds is optimistic beside one on the official splits, whose speakers differ (PAPER, section 3).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from abaw_emi.core.constants import Split


def parse_fold(text: str) -> tuple[int, int]:
    """The fold and the number of folds of `text`.

    >>> parse_fold("2/5")
    (2, 5)

    Raises:
        ValueError: `text` is not k/K with 1 <= k <= K and K >= 2.
    """
    fold, slash, folds = text.partition("/")
    if slash and fold.isdecimal() and folds.isdecimal() and 1 <= int(fold) <= int(folds) >= 2:
        return int(fold), int(folds)
    raise ValueError(f"fold {text!r}; expected k/K, such as 1/5")


def name_held_out(fold: str, *, train_plus_val: bool) -> str:
    """What a run validates on, as a provenance record names its split.

    >>> name_held_out("1/5", train_plus_val=True), name_held_out("", train_plus_val=False)
    ('fold 1/5 of train+valid', 'valid')
    """
    return f"fold {fold} of train{'+valid' if train_plus_val else ''}" if fold else "valid"


def parse_held_out(text: str) -> tuple[tuple[Split, ...], str]:
    """The splits with labels that a record's split names, and the fold "k/K" of them that it is; "" for all.

    >>> parse_held_out("fold 1/5 of train+valid"), parse_held_out("valid"), parse_held_out("test")
    ((('train', 'valid'), '1/5'), (('valid',), ''), ((), ''))
    """
    named: dict[str, tuple[Split, ...]] = {"train": ("train",), "valid": ("valid",)}
    if text in named:
        return named[text], ""
    found = re.fullmatch(r"fold (\S+) of (train(?:\+valid)?)", text)
    if found is None:
        return (), ""
    try:
        parse_fold(found[1])
    except ValueError:
        return (), ""
    return (("train", "valid") if "+" in found[2] else ("train",)), found[1]


def hold_out(ids: Iterable[str], text: str) -> frozenset[str]:
    """The ids of fold `text`; the folds of one K are disjoint, differ by one clip at most, and are all ids.

    Ids are dealt in the order of their hashes: a pure function of the set of ids, near no other order.

    >>> sorted(hold_out(["00000", "00001", "00002", "00003"], "1/2"))
    ['00001', '00002']
    """
    fold, folds = parse_fold(text)
    shuffled = sorted(ids, key=lambda filename: hashlib.sha256(filename.encode()).digest())
    return frozenset(shuffled[fold - 1 :: folds])
