"""Feature folders: one file a clip in any form, checked, cached by its bytes, matched by id."""

from __future__ import annotations

import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from abaw_emi.core.errors import FeatureError
from abaw_emi.core.progress import Reporter
from abaw_emi.features.files import MAX_UNPACKED, find_features, find_unread, read_array
from abaw_emi.features.reader import FeatureCache, FrameLimits
from abaw_emi.features.transcripts import find_transcripts

FORMS: dict[str, Callable[[Path, Any], object]] = {
    ".pkl": lambda path, array: path.write_bytes(pickle.dumps(array)),
    ".npy": np.save,
    ".npz": lambda path, array: np.savez(path, features=array),
    ".safetensors": lambda path, array: save_file({"features": np.ascontiguousarray(array)}, path),
    ".pt": lambda path, array: torch.save(torch.tensor(array), path),
    ".pickle": lambda path, array: path.write_bytes(pickle.dumps({"features": array})),
}


def draw(number: int, frames: int = 5, width: int = 4) -> Any:
    return np.random.default_rng(number).normal(size=(frames, width)).astype(np.float32)


def write(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMS[path.suffix](path, array)
    return path


def read(data: Path, names: list[str], folders: tuple[str, ...] = ("vit",), **options: Any) -> Any:
    files = {name: find_features(data, data / "own", name) for name in folders}
    return FeatureCache(folder=data.parent / "cache").read(names, files, **options)


@pytest.mark.parametrize("suffix", FORMS)
@given(
    frames=st.integers(1, 6),
    width=st.integers(1, 5),
    dtype=st.sampled_from(["f2", "f4", "f8", "i4", "u1"]),
    axes=st.sampled_from(["two", "one", "three"]),
)
def test_every_form_gives_the_same_frames(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, frames: int, width: int, dtype: str, axes: str
) -> None:
    expected = (10 * np.abs(draw(1, frames, width))).astype(dtype)
    array = {"two": expected, "one": expected[0], "three": expected[None]}[axes]
    found = read_array(write(tmp_path_factory.mktemp("form") / f"00001{suffix}", array))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected[:1] if axes == "one" else expected)


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.ones((0, 4), np.float32), "empty|no frame|0"),
        (np.array([[1, 2], [np.nan, 3]], np.float32), "NaN|not numbers|finite"),
        (np.array([[1, np.inf]], np.float32), "inf|finite"),
        (np.ones((2, 3, 4), np.float32), "axes|3 x 4|dimension|shape"),
    ],
)
def test_what_is_no_array_of_frames_is_refused_by_name(
    tmp_path: Path, suffix: str, array: Any, told: str
) -> None:
    path = write(tmp_path / f"00001{suffix}", array)
    with pytest.raises(FeatureError, match=told) as caught:
        read_array(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", FORMS)
def test_a_truncated_or_foreign_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"00001{suffix}", draw(1, 50, 8))
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no array at all"):
        path.write_bytes(content)
        with pytest.raises(FeatureError, match=r"00001"):
            read_array(path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n"


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (LFS, "is a Git LFS pointer, not the file itself; .*; run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>", "is a saved web page; .*; download it again, signed in"),
    ],
)
def test_what_a_failed_download_left_is_called_what_it_is(
    tmp_path: Path, suffix: str, content: bytes, told: str
) -> None:
    (tmp_path / f"00001{suffix}").write_bytes(content)
    with pytest.raises(FeatureError, match=told):
        read_array(tmp_path / f"00001{suffix}")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            {"features": [1.0], "fps": 6},
            "holds a dict of 2 entries .*; save one array a clip with numpy.save",
        ),
        (pd.DataFrame([[1.0, 2.0]]), r"is a pickle of a pandas frame; .*; save frame\.to_numpy\(\) as \.npy"),
    ],
)
def test_a_pickle_of_another_kind_is_told_what_to_save(tmp_path: Path, value: object, told: str) -> None:
    (tmp_path / "00001.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(FeatureError, match=told):
        read_array(tmp_path / "00001.pkl")


def test_npy_and_npz_run_no_pickles(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "00001.npy", objects)
    np.savez(tmp_path / "00002.npz", objects)
    for name in ("00001.npy", "00002.npz"):
        with pytest.raises(FeatureError, match=name):
            read_array(tmp_path / name)


def test_a_file_of_several_arrays_is_refused_with_their_names(tmp_path: Path) -> None:
    arrays = {"mean": draw(1), "frames": draw(2)}
    np.savez(tmp_path / "00001.npz", **arrays)
    save_file(arrays, tmp_path / "00002.safetensors")
    for name in ("00001.npz", "00002.safetensors"):
        with pytest.raises(FeatureError, match=rf"{name}: holds 2 arrays \(frames(\.npy)?, mean(\.npy)?\)"):
            read_array(tmp_path / name)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00001.npz"
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as archive, archive.open("a.npy", "w") as member:
        for _ in range(MAX_UNPACKED // 2**24 + 1):
            member.write(bytes(2**24))
    with pytest.raises(FeatureError, match=r"00001\.npz: would unpack to 0\.5 GiB"):
        read_array(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_could_unpack_to_any_size_is_refused(tmp_path: Path, method: int) -> None:
    np.savez(tmp_path / "honest.npz", draw(1))
    with (
        zipfile.ZipFile(tmp_path / "honest.npz") as honest,
        zipfile.ZipFile(tmp_path / "00001.npz", "w", method) as archive,
    ):
        archive.writestr("a.npy", honest.read("arr_0.npy"))
    with pytest.raises(FeatureError, match=r"00001\.npz: is not compressed by NumPy"):
        read_array(tmp_path / "00001.npz")


def test_files_are_found_by_id_wherever_they_lie(tmp_path: Path) -> None:
    data = tmp_path / "data"
    placed = {
        "00003": write(data / "vit" / "00003.pkl", draw(3)),
        "12660": write(data / "test_data" / "vit" / "12660.npy", draw(4)),
        "00001": write(data / "own" / "vit" / "00001.npz", draw(5)),
    }
    for litter in ("Thumbs.db", ".00002.npy", "notes.txt", "123456.npy"):
        (data / "vit" / litter).write_bytes(b"x")
    (data / "vit" / "00009.npy").mkdir()
    found = find_features(data, data / "own", "vit")
    assert found == placed
    assert list(found) == sorted(placed)
    assert find_features(data, data / "own", "gte") == {}


@pytest.mark.parametrize(
    "name",
    [
        "00001.h5",
        "00001.mp4.npy",
        "1_feat.npy",
        "features.npz",
        "all.pkl",
        "00001/features.npy",
        "train/00001.npy",
    ],
)
def test_files_that_are_not_read_are_named_with_what_is(tmp_path: Path, name: str) -> None:
    write(tmp_path / "own" / "vit" / "00000.npy", draw(1))
    for note in ("extraction.json", "README.md", "Thumbs.db", ".00002.npy", ".cache/00002.npy"):
        (tmp_path / "own" / "vit" / note).parent.mkdir(exist_ok=True)
        (tmp_path / "own" / "vit" / note).write_bytes(b"x")
    assert find_unread(tmp_path, tmp_path / "own", "vit") == []
    (tmp_path / "own" / "vit" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "own" / "vit" / name).write_bytes(b"x")
    (problem,) = find_unread(tmp_path, tmp_path / "own", "vit")
    assert str(problem) == (
        f"{tmp_path / 'own' / 'vit'}: holds 1 file not read, such as {name};"
        " expected NNNNN.pkl, .npy, .npz, .safetensors, .pt, .pth or .pickle"
    )


def test_two_different_files_of_one_clip_are_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "vit" / "00003.npy", draw(3))
    write(data / "own" / "vit" / "00003.npy", draw(3))
    assert list(find_features(data, data / "own", "vit")) == ["00003"]
    write(data / "own" / "vit" / "00003.npy", draw(4))
    with pytest.raises(FeatureError, match=r"clip 00003 \(.*00003\.npy\): has several vit files that differ"):
        find_features(data, data / "own", "vit")


def test_copies_that_differ_of_a_whole_folder_are_one_problem(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / "vit" / f"{number:05}.npy", draw(number))
        write(tmp_path / "vit" / f"{number:05}.pkl", draw(number))
    with pytest.raises(FeatureError, match=r"^30 clips, as clip 00000 \(.*\): .*: 00000-00029; ") as caught:
        find_features(tmp_path, tmp_path / "own", "vit")
    assert len(caught.value.problems) == 1


def test_two_different_transcripts_of_one_clip_are_told(tmp_path: Path) -> None:
    paths = [tmp_path / place / "text" / "00000.txt" for place in ("data", "data/test_data", "own")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("one")
    assert find_transcripts(tmp_path / "data", tmp_path / "own") == {"00000": paths[0]}
    paths[2].write_text("two")
    with pytest.raises(
        FeatureError, match=r"^clip 00000 .*: has several text files that differ; .*remove the"
    ):
        find_transcripts(tmp_path / "data", tmp_path / "own")


def test_arrays_come_in_the_order_asked_for_and_cut(tmp_path: Path) -> None:
    data = tmp_path / "data"
    arrays = {f"{number:05}": draw(number, 3 + number) for number in range(6)}
    for name, array in arrays.items():
        write(data / "vit" / f"{name}.npy", array)
    names = ["00004", "00000", "00005"]
    found = read(data, names, limits={"vit": FrameLimits(most=6)})
    assert [clip.filename for clip in found.clips] == names
    for clip in found.clips:
        np.testing.assert_array_equal(clip.arrays["vit"].read(), arrays[clip.filename][:6])
    assert found.widths == {"vit": 4}


def test_each_folder_has_limits_of_its_own_and_frames_are_interpolated(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number, frames in enumerate((3, 7, 12, 1)):
        for folder in ("vit", "gte"):
            write(data / folder / f"{number:05}.npy", draw(number, frames))
    limits = {"vit": FrameLimits(most=10, resample=7), "gte": FrameLimits(most=2)}
    for _ in range(2):  # the second time from the cache
        found = read(data, [f"{number:05}" for number in range(4)], ("vit", "gte"), limits=limits)
        for number, clip in enumerate(found.clips):
            whole = draw(number, (3, 7, 12, 1)[number])
            cut = whole[:10]
            places = np.linspace(0, len(cut) - 1, 7)
            expected = [np.interp(places, np.arange(len(cut)), column) for column in cut.T]
            np.testing.assert_allclose(clip.arrays["vit"].read(), np.stack(expected, 1), rtol=0, atol=1e-6)
            np.testing.assert_array_equal(clip.arrays["gte"].read(), whole[:2])
    assert found.clips[2].arrays["vit"].record["frames"] == 12


def test_a_file_is_read_once_and_again_when_its_bytes_change(tmp_path: Path) -> None:
    data = tmp_path / "data"
    path = write(data / "vit" / "00000.npy", draw(1))
    files = {"vit": find_features(data, data / "own", "vit")}

    def parsed() -> tuple[int, Any]:
        cache = FeatureCache(folder=tmp_path / "cache")
        (clip,) = cache.read(["00000"], files).clips
        return cache.parsed, clip.arrays["vit"].read()

    assert parsed()[0] == 1
    assert parsed()[0] == 0
    write(path, draw(2))  # of the same size
    count, frames = parsed()
    assert count == 1
    np.testing.assert_array_equal(frames, draw(2))
    assert parsed()[0] == 0


def test_a_change_that_leaves_size_and_time_as_they_were_is_seen(tmp_path: Path) -> None:
    data = tmp_path / "data"
    path = write(data / "vit" / "00000.npy", draw(1))
    old = time.time() - 60
    os.utime(path, (old, old))
    for number in (1, 2, 3):
        write(path, draw(number))
        os.utime(path, (old, old))
        (clip,) = read(data, ["00000"]).clips
        np.testing.assert_array_equal(clip.arrays["vit"].read(), draw(number))


def test_a_clip_is_the_same_wherever_its_files_lie_and_another_with_other_bytes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "vit" / "00000.npy", draw(1))
    write(data / "gte" / "00000.npy", draw(2))
    (clip,) = read(data, ["00000"], ("vit", "gte")).clips
    data = data.rename(tmp_path / "moved")
    (moved,) = read(data, ["00000"], ("gte", "vit")).clips
    assert moved.source_hash == clip.source_hash
    (alone,) = read(data, ["00000"]).clips
    write(data / "gte" / "00000.npy", draw(3))
    (other,) = read(data, ["00000"], ("vit", "gte")).clips
    assert len({clip.source_hash, alone.source_hash, other.source_hash}) == 3


def test_a_cache_that_cannot_be_written_is_told_and_no_error(tmp_path: Path) -> None:
    write(tmp_path / "vit" / "00000.npy", draw(1))
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    files = {"vit": find_features(tmp_path, tmp_path / "own", "vit")}
    reporter = Reporter(quiet=True)
    found = FeatureCache(reporter, tmp_path / "cache").read(
        ["00000"], files, limits={"vit": FrameLimits(most=3)}
    )
    np.testing.assert_array_equal(found.clips[0].arrays["vit"].read(), draw(1)[:3])
    (warning,) = reporter.warnings
    assert "cannot be written" in str(warning)


def test_what_a_clip_lacks_is_told_and_what_lacks_all_is_bad(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "vit" / "00000.npy", draw(1))
    write(data / "vit" / "00001.npy", draw(2))
    write(data / "gte" / "00001.npy", draw(3, width=7))
    names = ["00000", "00001"]
    found = read(data, [*names, "00002"], ("vit", "gte"))
    assert [list(clip.arrays) for clip in found.clips] == [["vit"], ["vit", "gte"]]
    assert [clip.samples for clip in found.clips] == [5, 5]
    ((problem,),) = found.skipped.values()
    assert str(problem) == "clip 00002: has no features; expected vit or gte"


def test_another_width_is_refused_with_the_file_that_has_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(4):
        write(data / "vit" / f"{number:05}.npy", draw(number, width=5 if number == 2 else 4))
    found = read(data, [f"{number:05}" for number in range(4)])
    assert [clip.filename for clip in found.clips] == ["00000", "00001", "00003"]
    ((problem,),) = found.skipped.values()
    assert "00002.npy: holds 5 numbers a frame; expected 4, as 3 of 4 files of vit hold" in str(problem)


@pytest.mark.parametrize("resample", [0, 3])
def test_features_that_lie_across_are_called_so(tmp_path: Path, resample: int) -> None:
    for number in range(4):
        write(tmp_path / "vit" / f"{number:05}.npy", draw(number, frames=16, width=5 + number // 2))
    limits = {"vit": FrameLimits(most=10, resample=resample)}
    found = read(tmp_path, [f"{number:05}" for number in range(4)], limits=limits)
    assert (list(found.clips), found.widths) == ([], {})
    told = [str(problem) for (problem,) in found.skipped.values()]
    assert told[2] == (
        f"{tmp_path / 'vit' / '00002.npy'}: holds 6 numbers a frame; expected one width;"
        " all have 16 rows: features x frames? save them transposed"
    )
    assert len(told) == 4


@pytest.mark.parametrize("number", [0, -1.5])
def test_files_of_one_number_throughout_are_warned_of(tmp_path: Path, number: float) -> None:
    for place in range(4):
        array = np.full((5, 4), number) if place % 2 else draw(place)
        write(tmp_path / "gte" / f"{place:05}.npy", array)
    for _ in range(2):  # the second time from the cache
        warnings = read(tmp_path, [f"{place:05}" for place in range(4)], ("gte",)).warnings
        assert list(map(str, warnings)) == [
            f"feature folder gte: 2 of 4 files hold one number throughout, such as 00001.npy ({number});"
            " leave such clips without a file: the model then knows that it is missing"
        ]


def test_features_of_another_length_than_the_clip_are_warned_of(tmp_path: Path) -> None:
    data = tmp_path / "data"
    names = [f"{number:05}" for number in range(9)]
    for number, name in enumerate(names):
        write(data / "vit" / f"{name}.npy", draw(number, 300 if number == 4 else 20 + number))
    seconds = {name: (20 + number) / 6.4 for number, name in enumerate(names)}
    warnings = read(data, names, seconds=seconds).warnings
    told = [str(warning) for warning in warnings if "another clip" in str(warning)]
    assert len(told) == 1
    assert "00004.npy" in told[0]
    assert "has 300 frames" in told[0]
    assert any("384, as the organisers' vit features have" in str(warning) for warning in warnings)


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [2**40, 0, 2**40], [0]])
def test_a_tensor_of_an_impossible_shape_is_damaged(shape: list[int], tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "00001.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(FeatureError, match=r"00001\.safetensors: "):
        read_array(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_that_numpy_does_not_write_is_refused_unread(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "00001.npz", "w", method) as archive:
        archive.writestr("x.npy", bytes(10_000_000))
    with pytest.raises(FeatureError, match="is not compressed by NumPy"):
        read_array(tmp_path / "00001.npz")
