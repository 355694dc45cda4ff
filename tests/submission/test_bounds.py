"""Values outside the range: clipped, or rescaled in a way that r does not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import SubmissionError
from abaw_emi.submission.bounds import bring_into_range, find_map
from abaw_emi.submission.check import check_path
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat
from abaw_emi.submission.write import write_submission

RANGES = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.25, 0.5)])
VALUES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=40)


@given(values=VALUES, limits=RANGES)
@example(values=[1.0, 1.0, 3.0], limits=(0.25, 0.5))  # all of it lies above, and is wider
def test_a_rescaled_column_lies_within_the_range_and_keeps_its_order_and_its_r(
    values: list[float], limits: tuple[float, float]
) -> None:
    column = np.array(values)
    factor, offset = find_map(column, *limits)
    mapped = factor * column + offset
    low, high = limits
    assert low - 1e-9 <= mapped.min()
    assert mapped.max() <= high + 1e-9
    assert 0 < factor <= 1
    if column.std() > 1e-3 * max(1, np.abs(column).max()):
        truth = np.arange(len(column)) % 3 + np.linspace(0, 1, len(column))
        before, after = (scipy.stats.pearsonr(truth, each).statistic for each in (column, mapped))
        assert after == pytest.approx(before, abs=1e-12)


def make_table(**columns: list[float]) -> pl.DataFrame:
    rows = {emotion: [0.1, 0.5, 0.9] for emotion in EMOTIONS} | columns
    return pl.DataFrame({"Filename": ["00001", "00002", "00003"], **rows})


def test_auto_clips_unless_that_flattens_or_is_known_to_harm() -> None:
    table = make_table(Joy=[-0.3, -0.2, -0.1], Amusement=[0.5, 1.2, 0.1], Excitement=[-0.1, 0.4, 0.2])
    found = bring_into_range(table, "x", DEFAULT_PROFILE, "auto", harmed=["Excitement"])
    assert found.rescaled.keys() == {"Joy", "Excitement"}
    assert found.clipped == {emotion: int(emotion == "Amusement") for emotion in EMOTIONS}
    np.testing.assert_allclose(found.table["Joy"], [0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(found.table["Excitement"], [0, 0.5, 0.3], atol=1e-6)
    np.testing.assert_allclose(found.table["Amusement"], [0.5, 1, 0.1], atol=1e-6)
    whole = bring_into_range(table, "x", DEFAULT_PROFILE, "rescale")
    assert whole.rescaled.keys() == {"Joy", "Amusement", "Excitement"}
    assert set(whole.clipped.values()) == {0}
    clipped = bring_into_range(table, "x", DEFAULT_PROFILE, "clip")
    assert clipped.clipped["Joy"] == 3
    assert clipped.rescaled == {}


def test_a_system_whose_values_are_all_negative_can_be_sent(tmp_path: Path) -> None:
    table, ids = make_table(Joy=[-0.3, -0.2, -0.1]), ["00001", "00002", "00003"]
    with pytest.raises(SubmissionError, match=r"Joy: every clip has the same value.*bounds auto rescales"):
        write_submission(table, ids, tmp_path / "out", bounds="clip")
    made = write_submission(table, ids, tmp_path / "out")
    assert check_path(made.archive, ids).problems == ()
    assert made.manifest["rescaled"] == {"Joy": [1.0, pytest.approx(0.3)]}
    assert "clip:auto" in made.manifest["signature"]


def test_the_range_of_the_profile_is_what_counts() -> None:
    profile = SubmissionFormat(range=(0.25, 0.75))
    found = bring_into_range(make_table(), "x", profile, "rescale").table.select(EMOTIONS).to_numpy()
    assert found.min() >= 0.25
    assert found.max() <= 0.75
