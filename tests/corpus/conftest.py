from pathlib import Path

import pytest

from .signals import tones, write_container, write_mp3


@pytest.fixture(scope="session")
def good_mp3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3 s of `tones` at 16 kHz."""
    return write_mp3(tmp_path_factory.mktemp("good") / "00000.mp3", tones(3)).read_bytes()


@pytest.fixture(scope="session")
def good_mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3 s of `tones` at 48 kHz, under a video."""
    return write_container(tmp_path_factory.mktemp("good") / "00000.mp4", tones(3, 48_000)).read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data folder."""
    for folder in ("audio", "raw"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    return tmp_path / "data"
