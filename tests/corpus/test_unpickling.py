"""Pickles: arrays are read as pickle itself reads them, and nothing that a pickle asks for is ever done."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from abaw_emi.corpus.unpickling import read_pickle
from abaw_emi.errors import FeatureError


class Call:
    """Pickles into a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def write(folder: Path, content: bytes) -> Path:
    path = folder / "00042.pkl"
    path.write_bytes(content)
    return path


def hide_in_array(value: object) -> Any:
    array = np.empty(1, object)
    array[0] = value
    return array


HOSTILE: dict[str, Callable[[str], Any]] = {
    "posix.system": lambda mark: Call(os.system, f"touch {mark}"),
    ".eval": lambda mark: Call(eval, f"open({mark!r}, 'w')"),
    ".exec": lambda mark: [np.ones(3), Call(exec, f"open({mark!r}, 'w')")],
    "io.open": lambda mark: [np.ones(3), Call(open, mark, "w")],
    "something else than numbers (numpy type O8)": lambda mark: hide_in_array(
        Call(os.system, f"touch {mark}")
    ),
    "shutil.rmtree": lambda mark: (np.ones(3), Call(shutil.rmtree, mark)),
    "numpy.load": lambda mark: Call(np.load, mark),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing_and_is_named(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(HOSTILE[name](str(mark)), protocol)
    path = write(tmp_path, content)
    with pytest.raises(FeatureError) as caught:
        read_pickle(path)
    assert str(path) in str(caught.value)
    assert name in str(caught.value)
    assert not mark.exists()


def test_what_hides_in_a_torch_storage_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = pickle.dumps(Call(os.system, f"touch {mark}"))
    path = write(tmp_path, pickle.dumps(Call(torch.storage._load_from_bytes, inner)))
    with pytest.raises(FeatureError, match=r"posix\.system"):
        read_pickle(path)
    assert not mark.exists()


def test_a_few_bytes_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    honest = pickle.dumps(np.zeros((2, 3)), 4)
    assert honest.count(b"K\x02K\x03\x86") == 1
    bomb = honest.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    with pytest.raises(FeatureError, match="damaged array"):
        read_pickle(write(tmp_path, bomb))
    with pytest.raises(FeatureError):
        read_pickle(write(tmp_path, b"\x80\x04\x96" + (2**40).to_bytes(8, "little") + b"."))


@given(
    array=npst.arrays(
        st.sampled_from(["<f4", "<f8", ">f4", "<f2", "<i4", "|u1", "|b1"]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=5),
    ),
    protocol=st.integers(0, 5),
    fortran=st.booleans(),
)
def test_arrays_are_read_as_pickle_reads_them(
    tmp_path_factory: pytest.TempPathFactory, array: Any, protocol: int, fortran: bool
) -> None:
    array = np.asfortranarray(array) if fortran and array.ndim else array
    path = write(tmp_path_factory.mktemp("pickles"), pickle.dumps(array, protocol))
    found = read_pickle(path)
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_1_and_2_are_read_alike(tmp_path: Path, protocol: int) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    new = pickle.dumps(array, protocol)
    names = {argument for _, argument, _ in pickletools.genops(new) if isinstance(argument, str)}
    assert any("numpy._core" in name for name in names)
    # Names are as long as they say in front of them; protocol 4 says it in a byte, and frames the whole.
    old = new.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    old = old.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
    old = old.replace(b"cnumpy._core.", b"cnumpy.core.")
    assert old != new
    if protocol >= 4:
        size = int.from_bytes(old[3:11], "little")
        old = old[:3] + (size - 1).to_bytes(8, "little") + old[11:]
    np.testing.assert_array_equal(read_pickle(write(tmp_path, old)), array)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("how", ["pickled", "saved", "saved as of old"])
def test_tensors_are_read_without_torch(tmp_path: Path, dtype: torch.dtype, how: str) -> None:
    tensor = (torch.arange(24).reshape(4, 6) / 3).to(dtype)[:, ::2].t()  # a view: offset and strides
    stream = io.BytesIO()
    if how == "pickled":
        pickle.dump(tensor, stream)
    else:
        torch.save(tensor, stream, _use_new_zipfile_serialization=how == "saved")
    found = read_pickle(write(tmp_path, stream.getvalue()))
    np.testing.assert_array_equal(found.astype(np.float64), tensor.double().numpy())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": np.ones(3)}, "holds a dict of 1 entries"),
        ("text", "holds str"),
        ([np.ones(3), np.ones(4)], "not rows of one width"),
        ([], "holds a list of 0 entries"),
        (np.array(["a"]), "something else than numbers"),
        (np.ones(3, complex), "something else than numbers"),
        (OrderedDict(a=1), "holds a dict"),
    ],
)
def test_what_is_no_array_of_numbers_is_told(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(FeatureError, match=told):
        read_pickle(write(tmp_path, pickle.dumps(value)))


def test_rows_of_one_width_are_one_array(tmp_path: Path) -> None:
    rows = [np.arange(3.0) + number for number in range(4)]
    np.testing.assert_array_equal(read_pickle(write(tmp_path, pickle.dumps(rows))), np.stack(rows))


@given(data=st.data())
def test_a_damaged_pickle_is_an_error_or_an_array_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = bytearray(pickle.dumps(array, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = write(tmp_path_factory.mktemp("damaged"), bytes(content))
    with suppress(FeatureError):
        assert isinstance(read_pickle(path), np.ndarray)
