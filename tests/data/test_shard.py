"""Shares of a job: every item in one of them, as `--shard` or torchrun names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw_emi.core.errors import UsageError
from abaw_emi.data.shard import Shard


@given(st.lists(st.integers()), st.integers(1, 9))
def test_every_item_is_in_one_share(items: list[int], count: int) -> None:
    shares = [Shard.read(f"{number}/{count}").take(items) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "text", ["", "2", "0/2", "3/2", "1/0", "1/2/3", "-1/2", "1 / 2", "one/two", "\u0661/2"]
)
def test_what_names_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard: .* expected k/K with k from 1 to K"):
        Shard.read(text)


def test_without_a_text_it_is_that_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Shard.read(None).is_whole
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Shard.read(None) == Shard(3, 4)
