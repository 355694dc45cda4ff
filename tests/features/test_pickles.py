"""Pickles: arrays are read as pickle itself reads them, and nothing that a pickle asks for is ever done."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import shutil
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from abaw_emi.core.errors import FeatureError
from abaw_emi.features.unpickling import read_pickle


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


def zip_pickle(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return stream.getvalue()


def save_as_of_old(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("save", [pickle.dumps, zip_pickle, save_as_of_old])
def test_what_hides_in_a_file_of_torch_runs_nothing(
    tmp_path: Path, save: Callable[[Any], bytes], nested: bool
) -> None:
    mark = tmp_path / "mark"
    hostile = Call(os.system, f"touch {mark}")
    inner = zip_pickle(pickle.dumps(hostile)) if save is zip_pickle else save(hostile)
    content = pickle.dumps(Call(torch.storage._load_from_bytes, inner)) if nested else inner
    with pytest.raises(FeatureError, match=r"posix\.system"):
        read_pickle(write(tmp_path, content))
    assert not mark.exists()


TRICKS = {
    "INST": (b"(S'touch MARK'\nios\nsystem\n.", r"names os\.system"),
    "NEWOBJ": (b"cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
    "OBJ": (b"(cnumpy\nndarray\no.", "opcode OBJ"),
    "EXT1": (b"\x82\x01.", "opcode EXT1"),
    "PERSID": (b"Pfile\n.", "opcode PERSID"),
    "BINPERSID": (b"NQ.", "outside the pickle"),
    "a module's attribute": (b"cnumpy\nf2py.os.system\n.", r"names numpy\.f2py\.os\.system"),
    "a name on the stack": (b"\x8c\x05posix\x8c\x06system\x93.", r"names posix\.system"),
    "no name on the stack": (b")\x8c\x06system\x93.", "something else than text"),
    "state of a name": (b"cnumpy\nndarray\n}S'__reduce__'\nNsb.", r"state of numpy\.ndarray"),
    "state of a dictionary": (b"ccollections\nOrderedDict\n)R}b.", "state of dict"),
    "call of a class": (b"cnumpy\nndarray\nI9\n\x85R.", r"calls numpy\.ndarray"),
    "call of a list": (b"])R.", "calls list"),
    "another encoding": (b"c_codecs\nencode\nS'x'\nS'rot13'\n\x86R.", r"calls _codecs\.encode"),
    "array of another class": (
        b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85S'b'\n\x87R.",
        r"array of numpy\.dtype",
    ),
    "objects by a type's state": (
        b"cnumpy\ndtype\nS'u1'\nI00\nI01\n\x87R(K\x03S'|'\nN(S'a'\nt}N" + b"K\x00" * 3 + b"tb.",
        "no plain number",
    ),
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_with_opcodes_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, told = TRICKS[name]
    mark = tmp_path / "mark"
    with pytest.raises(FeatureError, match=told):
        read_pickle(write(tmp_path, content.replace(b"MARK", str(mark).encode())))
    assert not mark.exists()


def test_a_tensor_is_no_larger_than_its_numbers(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(torch.ones(1).expand(10**6, 10**6), stream)
    with pytest.raises(FeatureError, match="larger than its numbers"):
        read_pickle(write(tmp_path, stream.getvalue()))


def test_a_zip_file_that_torch_did_not_save_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(torch.ones(50_000), stream)
    packed = io.BytesIO()
    with zipfile.ZipFile(stream) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for member in archive.namelist():
            other.writestr(member, archive.read(member))
    for content, told in (
        (packed.getvalue(), "compressed zip file"),
        (stream.getvalue()[:-100], "damaged zip file"),
        (zip_pickle(pickle.dumps(1))[:40], "damaged zip file"),
    ):
        with pytest.raises(FeatureError, match=told):
            read_pickle(write(tmp_path, content))


def call(name: str, arguments: bytes) -> bytes:
    """A call of what GLOBAL names, of these arguments: opcodes that leave a tuple."""
    return b"c" + name.replace(":", "\n").encode() + b"\n" + arguments + b"R"


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


def array(sizes: bytes, data: bytes) -> bytes:
    """An array of bytes whose shape and data are what these opcodes leave."""
    made = call("numpy._core.multiarray:_reconstruct", b"cnumpy\nndarray\nK\x00\x85C\x01b\x87")
    return (
        made + b"(K\x01" + sizes + call("numpy:dtype", text("u1") + b"\x89\x88\x87") + b"\x89" + data + b"tb"
    )


SIZE = 100_000
BLOCK = b"B" + SIZE.to_bytes(4, "little") + b"x" * SIZE + b"q\x02"
SIZES = b"J" + SIZE.to_bytes(4, "little") + b"\x85"
DEEP = b")" + b"\x85" * SIZE

BOMBS = {
    "a memo of 2**32": (b"K\x01r\xff\xff\xff\xff.", "damaged memo"),
    "bytes that are not there": (b"\x8e" + (2**40).to_bytes(8, "little") + b".", "damaged"),
    "text that is not there": (b"\x8d" + (2**40).to_bytes(8, "little") + b".", "damaged"),
    "many opcodes": (b"N" * 2_100_000 + b".", "2,000,000 opcodes"),
    "nested tuples": (DEEP + b".", "holds a tuple of 1 entries with tuple in it"),
    "nested tuples as a key": (b"}" + DEEP + b"Ns.", "holds a dict of 1 entries"),
    "nested tuples as a type": (
        call("numpy:dtype", DEEP + b"\x89\x88\x87") + b".",
        "makes a numpy type of tuple",
    ),
    "laughs as a key": (b"}" + b")" + b"q\x00h\x00\x86" * 100 + b"Ns.", "holds a dict of 1 entries"),
    "one text encoded often": (
        b"("
        + text("x" * SIZE)
        + b"q\x02"
        + call("_codecs:encode", b"h\x02" + text("latin1") + b"\x86") * 2_000
        + b"t.",
        "more memory",
    ),
    "one row many times": (b"(" + array(SIZES, BLOCK) + b"q\x03" + b"h\x03" * 2_000 + b"t.", "more memory"),
    "one text in many rows": (
        b"(" + text("x" * SIZE) + b"q\x02" + array(SIZES, b"h\x02") * 2_000 + b"t.",
        "with str in it",
    ),
    "many axes": (
        array(b"(" + b"\x8a\x08".join([b""] + [b"\xff" * 7 + b"\x7f"] * SIZE) + b"t", b"C\x00") + b".",
        "no tuple of sizes",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_pickle_costs_is_bounded_by_its_size(tmp_path: Path, name: str) -> None:
    content, told = BOMBS[name]
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(FeatureError, match=told):
            read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * len(content) + 2**20
    finally:
        tracemalloc.stop()


def test_the_notations_that_bombs_are_made_of_are_read_where_they_are_honest(tmp_path: Path) -> None:
    rows = b"(" + array(SIZES, BLOCK) + array(SIZES, BLOCK) + b"t."
    found = read_pickle(write(tmp_path, rows))
    assert found.shape == (2, SIZE)
    assert (found == ord("x")).all()


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


FORMS: dict[str, Callable[[Any], bytes]] = {
    **{f"protocol {number}": partial(pickle.dumps, protocol=number) for number in range(6)},
    "tensor": lambda array: pickle.dumps(torch.tensor(array)),
    "saved tensor": lambda array: zip_tensor(torch.tensor(array)),
    "tensor saved as of old": lambda array: save_as_of_old(torch.tensor(array)),
}


def zip_tensor(tensor: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor, stream)
    return stream.getvalue()


@given(data=st.data())
def test_a_damaged_pickle_is_an_error_or_an_array_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = bytearray(FORMS[data.draw(st.sampled_from(sorted(FORMS)))](array))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = write(tmp_path_factory.mktemp("damaged"), bytes(content))
    with suppress(FeatureError):
        assert isinstance(read_pickle(path), np.ndarray)
