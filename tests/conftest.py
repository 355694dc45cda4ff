from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from tests.csv_tables import to_table

# Other work on the machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests, and the processes that they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABAW_EMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder that no test may change."""
    from tests.foreign_data import write_data

    root = write_data(tmp_path_factory.mktemp("official") / "data")
    before = sorted(path for path in root.rglob("*"))
    yield root
    assert sorted(path for path in root.rglob("*")) == before, "something was written into the data folder"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: on models this small, several spend most of their time waiting for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def good_mp3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3 s of `tones` at 16 kHz."""
    from tests.media import tones, write_mp3

    return write_mp3(tmp_path_factory.mktemp("good") / "00000.mp3", tones(3)).read_bytes()


@pytest.fixture(scope="session")
def good_mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3 s of `tones` at 48 kHz, under a video."""
    from tests.media import tones, write_container

    return write_container(tmp_path_factory.mktemp("good") / "00000.mp4", tones(3, 48_000)).read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data folder."""
    for folder in ("audio", "raw"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    return tmp_path / "data"


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
