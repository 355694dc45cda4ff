from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw_emi.data.folds import hold_out, parse_fold

IDS = st.sets(st.integers(0, 99_999).map(lambda number: f"{number:05}"), min_size=2, max_size=200)


@given(IDS, st.integers(2, 12))
def test_folds_are_disjoint_even_and_all_of_the_ids_in_whatever_order_they_come(
    ids: set[str], folds: int
) -> None:
    parts = [hold_out(sorted(ids), f"{fold}/{folds}") for fold in range(1, folds + 1)]
    assert sorted(filename for part in parts for filename in part) == sorted(ids)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts[0] == hold_out(sorted(ids, reverse=True), f"1/{folds}")


def test_a_fold_is_spread_over_the_ids() -> None:
    held_out = sorted(int(filename) for filename in hold_out([f"{i:05}" for i in range(8_072)], "2/5"))
    assert 0.4 < sum(number < 4_036 for number in held_out) / len(held_out) < 0.6


@pytest.mark.parametrize("text", ["", "1", "0/5", "6/5", "1/1", "-1/5", "1/5/2", "a/b", "1.0/5"])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected k/K"):
        parse_fold(text)
