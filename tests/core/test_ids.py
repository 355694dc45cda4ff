"""Problems of clips, put together."""

from __future__ import annotations

from abaw_emi.core.errors import Problem
from abaw_emi.core.ids import summarise


def test_problems_that_differ_in_numbers_alone_are_one() -> None:
    wide = {
        f"{clip:05}": [Problem(f"{clip:05}.npy", f"holds {clip:,} numbers ({clip} x 2)", f"{clip + 1}")]
        for clip in range(990, 1020)
    }
    other = {"00001": [Problem("00001.npy", "is empty")]}
    assert list(map(str, summarise({**wide, **other}))) == [
        "30 clips, as 00990.npy: holds 990 numbers (990 x 2): 00990-01019; expected 991",
        "00001.npy: is empty",
    ]
