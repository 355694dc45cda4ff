from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.csv_tables import to_table

TEST_IDS = [f"{number:05}" for number in range(12660, 12680)]


@pytest.fixture
def test_ids() -> list[str]:
    return list(TEST_IDS)


@pytest.fixture
def predictions() -> pl.DataFrame:
    """Raw output for the test clips: some of it outside [0, 1], rows in no order."""
    rng = np.random.default_rng(1)
    values = rng.uniform(0.1, 0.9, (len(TEST_IDS), 6)).astype(np.float32).astype(float)
    values[2, 0], values[5, 0], values[7, 3] = -0.25, 1.5, 1.25
    rows = {name: row.tolist() for name, row in zip(TEST_IDS, values, strict=True)}
    order = rng.permutation(len(TEST_IDS)).tolist()
    table: pl.DataFrame = to_table(rows)[order]
    return table


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "submissions"
