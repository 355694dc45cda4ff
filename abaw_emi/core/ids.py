"""Ids of clips: five digits as text, read in any spelling, and written as ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from abaw_emi.core.constants import ID_WIDTH
from abaw_emi.core.errors import Problem, show_first

_ID = re.compile(rf"0*(\d{{1,{ID_WIDTH}}})(?:\.0*)?", re.ASCII)
_ID_RANGE = re.compile(rf"(\d{{{ID_WIDTH}}})(?:-(\d{{{ID_WIDTH}}}))?", re.ASCII)

_NUMBER = re.compile(r"\d[\d,.]*(?: x \d+)*")

_SHOWN_ALIKE = 20
"""Clips with the same problem that are named one by one: what is wrong with a folder is wrong with each.
As many ranges of ids are named."""


def parse_id(text: str) -> str | None:
    """The five-digit id that `text` spells, or None if it is not an id.

    >>> parse_id("12"), parse_id("00012"), parse_id("12.0"), parse_id("00012.mp3")
    ('00012', '00012', '00012', None)
    """
    match = _ID.fullmatch(text.strip(" \t"))  # strip() takes more than these two
    return match[1].zfill(ID_WIDTH) if match else None


def as_id(value: object) -> str:
    """The id that a number or text spells, as text of five digits; other text, such as a path, as it is.

    >>> as_id(12), as_id("00012"), as_id("a.wav")
    ('00012', '00012', 'a.wav')
    """
    return parse_id(str(value)) or str(value)


def pack_ids(ids: Iterable[str]) -> list[str]:
    """Ids as sorted ranges, short enough for the record beside a prediction file.

    >>> pack_ids(["00002", "00000", "00001", "00007"])
    ['00000-00002', '00007']
    """
    ranges: list[list[int]] = []
    for number in sorted({int(filename) for filename in ids}):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return [
        f"{low:0{ID_WIDTH}}" if low == high else f"{low:0{ID_WIDTH}}-{high:0{ID_WIDTH}}"
        for low, high in ranges
    ]


def unpack_ids(ranges: Iterable[str]) -> set[str]:
    """The ids of the ranges that `pack_ids` returned.

    Raises:
        ValueError: a text is not such a range.

    >>> sorted(unpack_ids(["00000-00002", "00007"]))
    ['00000', '00001', '00002', '00007']
    """
    ids: set[str] = set()
    for text in ranges:
        match = _ID_RANGE.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a range of ids")
        low, high = match[1], match[2] or match[1]
        ids.update(f"{number:0{ID_WIDTH}}" for number in range(int(low), int(high) + 1))
    return ids


def summarise(problems: Mapping[str, Sequence[Problem]]) -> list[Problem]:
    """The problems of clips, by id; one for all clips that have the same, where there are many of them.

    Problems are the same where only numbers in them differ; those of the first clip are shown.

    >>> lost = {f"{i:05}": [Problem(f"clip {i:05}", "has no file")] for i in range(8072)}
    >>> print(*summarise(lost))
    8,072 clips, as clip 00000: has no file: 00000-08071
    """
    alike: dict[str, list[tuple[str, Problem]]] = {}
    for clip, own in problems.items():
        for problem in own:
            kind = _NUMBER.sub("0", f"{problem.found}\n{problem.expected}\n{problem.next_step}")
            alike.setdefault(kind, []).append((clip, problem))
    summary: list[Problem] = []
    for members in alike.values():
        if len(members) <= _SHOWN_ALIKE:
            summary += [problem for _, problem in members]
            continue
        _, first = members[0]
        found = f"{first.found}: {show_first(pack_ids(clip for clip, _ in members), _SHOWN_ALIKE)}"
        where = f"{len(members):,} clips, as {first.where}"
        summary.append(Problem(where, found, first.expected, first.next_step))
    return summary
