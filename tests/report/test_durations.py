from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abaw_emi.core.constants import Split
from abaw_emi.data.layout import find_clips
from abaw_emi.report.history import Durations, find_durations
from tests.report.conftest import make_wav

LENGTHS = {"00000": 0.5, "00001": 2.25, "00002": 13.0}
IDS: dict[Split, list[str]] = {"train": ["00000", "00001"], "valid": ["00002", "00003"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for clip, seconds in LENGTHS.items():
        make_wav(tmp_path / "data" / "audio" / f"{clip}.wav", seconds)
    return tmp_path / "data"


def find(data: Path) -> Durations | None:
    return find_durations(IDS, find_clips(data), None)


def test_headers_tell_the_lengths_and_a_clip_without_a_file_is_counted(data: Path) -> None:
    pytest.importorskip("av")
    found = find(data)
    assert found is not None
    assert found.seconds["train"].tolist() == [0.5, 2.25]
    assert found.seconds["valid"].tolist() == [13.0]
    assert found.unknown == 1


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "wav"])
def test_headers_tell_what_decoding_tells(tmp_path: Path, suffix: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    from abaw_emi.audio.decode import decode

    path = tmp_path / "data" / "audio" / f"00000.{suffix}"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.sin(np.arange(40_000) * 0.1) * 0.3, 16_000)
    found = find(tmp_path / "data")
    assert found is not None
    decoded = decode(path, 60.0)
    assert found.seconds["train"][0] == pytest.approx(decoded.waveform.size / decoded.sample_rate, abs=0.08)


def test_a_file_that_cannot_be_opened_has_no_length(data: Path) -> None:
    pytest.importorskip("av")
    (data / "audio" / "00000.wav").write_bytes(b"")
    (data / "audio" / "00001.wav").write_bytes(b"<html>sign in</html>")
    found = find(data)
    assert found is not None
    assert found.seconds["train"].size == 0
    assert found.unknown == 3


def test_without_a_file_there_are_no_durations(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert find(tmp_path / "data") is None


def test_an_audit_of_the_folder_as_it_is_comes_first(data: Path) -> None:
    found = find_durations(IDS, find_clips(data), {"00000": 4.0, "00001": None, "00003": 8.0})
    assert found is not None
    assert found.seconds["train"].tolist() == [4.0]
    assert found.seconds["valid"].tolist() == [8.0]
    assert found.unknown == 2
    assert "audit" in found.source
