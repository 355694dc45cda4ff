"""Faces: found by id, in numeric order; litter and empty folders are no faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw_emi.core.errors import CorpusError, FeatureError
from abaw_emi.demo.modalities import encode_jpeg
from abaw_emi.features.faces import find_faces, find_gaps, read_face


def make(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@given(numbers=st.sets(st.integers(0, 5_000), max_size=30))
def test_faces_come_in_the_order_of_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int]
) -> None:
    data = tmp_path_factory.mktemp("data")
    make(data / "face_images" / "00007", [*(f"{number}.jpg" for number in numbers), "Thumbs.db", ".hidden"])
    found = find_faces(data)
    assert [path.name for path in found["00007"]] == [f"{number}.jpg" for number in sorted(numbers)]
    gaps = find_gaps(found)
    assert bool(gaps) == (sorted(numbers) != list(range(len(numbers))))


def test_clips_are_found_by_id_in_the_test_package_too(tmp_path: Path) -> None:
    make(tmp_path / "face_images" / "00001", ["0.jpg"])
    make(tmp_path / "face_images" / "0", [])  # ids are read in any form
    make(tmp_path / "face_images" / "elsewhere", ["0.jpg"])
    make(tmp_path / "test_data" / "face_images" / "12660", ["0.jpg", "1.JPG"])
    found = find_faces(tmp_path)
    assert list(found) == ["00000", "00001", "12660"]
    assert [len(faces) for faces in found.values()] == [0, 1, 2]


def test_faces_of_one_clip_in_two_packages_are_told_unless_one_is_empty(tmp_path: Path) -> None:
    make(tmp_path / "face_images" / "00001", [])
    make(tmp_path / "test_data" / "face_images" / "00001", ["0.jpg"])
    assert [len(faces) for faces in find_faces(tmp_path).values()] == [1]
    make(tmp_path / "test" / "face_images" / "00001", ["0.jpg"])
    with pytest.raises(CorpusError, match="clip 00001: has faces in two folders"):
        find_faces(tmp_path)


def test_what_is_no_face_is_told_all_at_once(tmp_path: Path) -> None:
    make(tmp_path / "face_images" / "00001", ["0.jpg", "first.jpg", "1.png"])
    make(tmp_path / "face_images" / "00002", ["1.jpg", "01.jpg"])
    with pytest.raises(CorpusError) as caught:
        find_faces(tmp_path)
    told = str(caught.value)
    assert "first.jpg: is no face" in told
    assert "1.png: is no face" in told
    assert "has the same number as" in told


def test_a_picture_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    picture = np.zeros((64, 48, 3), np.uint8)
    picture[:, 24:] = (200, 40, 40)
    content = encode_jpeg(picture)
    path = tmp_path / "0.jpg"
    path.write_bytes(content)
    found = read_face(path)
    assert found.shape == (64, 48, 3)
    assert np.abs(found[:, 40:].astype(int) - (200, 40, 40)).mean() < 12
    for damaged in (content[: len(content) // 2], b"", b"no picture"):
        path.write_bytes(damaged)
        with pytest.raises(FeatureError, match=r"0\.jpg"):
            read_face(path)
