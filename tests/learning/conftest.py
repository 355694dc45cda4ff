from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.foreign_data import write_data


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder that no test may change."""
    root = write_data(tmp_path_factory.mktemp("official") / "data")
    before = sorted(path for path in root.rglob("*"))
    yield root
    assert sorted(path for path in root.rglob("*")) == before, "something was written into the data folder"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: on models this small, several spend most of their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
