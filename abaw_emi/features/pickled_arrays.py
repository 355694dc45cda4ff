"""The notations of numpy's arrays and torch's tensors in a pickle, as recipes.

A recipe is what a pickle says about an array: notes, checked against the bytes that it brings before an array
is made of these. Neither numpy's nor torch's own code is handed what a pickle says: both have been made to do
what they should not by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abaw_emi.features.pickle_machine import Global, Pairs, Recipe, RefusedError, describe, shorten

Numbers = npt.NDArray[Any]

_BFLOAT16 = "bf2"
"""Not a type of numpy's: the upper half of a float32."""

_MAX_AXES = 64
"""Of numpy's arrays."""

_NUMPY_TYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

STORAGES = {
    "torch.BoolStorage": "b1",
    "torch.ByteStorage": "u1",
    "torch.CharStorage": "i1",
    "torch.ShortStorage": "i2",
    "torch.IntStorage": "i4",
    "torch.LongStorage": "i8",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": _BFLOAT16,
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
}


class ArrayRecipe(Recipe):
    """A recipe of an array."""

    __slots__ = ()

    def count(self) -> int:
        """How many numbers it has, at most as many as there are in the file."""
        raise NotImplementedError

    def make(self) -> Numbers:
        """The array, which may be a view of the pickle's bytes.

        Raises:
            RefusedError: the bytes are not as many as its shape says.
        """
        raise NotImplementedError


@dataclass(slots=True)
class _Dtype(Recipe):
    """`numpy.dtype(name)`, with the byte order that its state tells."""

    name: str
    order: str = "|"

    def set_state(self, state: object) -> None:
        match state:
            case (int(), "<" | ">" | "|" as order, None, None, None, int(), int(), int(), *_):
                self.order = order
            case _:
                raise RefusedError(f"holds an array whose type is no plain number ({shorten(self.name)})")

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


@dataclass(slots=True)
class _Array(ArrayRecipe):
    """A numpy array, or a scalar of numpy's."""

    shape: tuple[int, ...] = ()
    dtype: _Dtype | None = None
    fortran: bool = False
    data: bytes | bytearray | str = b""

    def set_state(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype() as dtype, int() as fortran, data):
                self._fill(shape, dtype, bool(fortran), data)
            case _:
                raise RefusedError("holds a damaged array")

    def _fill(self, shape: object, dtype: object, fortran: bool, data: object) -> None:
        # Text is bytes as Python 2 pickled them; `make` encodes it, since many arrays may name the same text.
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray | str):
            raise RefusedError("holds an array of something else than numbers")
        self.shape, self.dtype, self.fortran, self.data = _check_sizes(shape), dtype, fortran, data

    def count(self) -> int:
        return math.prod(self.shape)

    def make(self) -> Numbers:
        if self.dtype is None:
            raise RefusedError("holds an array without numbers")
        dtype = self.dtype.resolve()
        if self.count() * dtype.itemsize != len(self.data):
            shape = " x ".join(map(str, self.shape)) or "one"
            raise RefusedError(f"holds a damaged array: {shape} numbers of {dtype} in {len(self.data)} bytes")
        if not self.data:
            return np.empty(self.shape, dtype)
        data = self.data.encode("latin-1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


@dataclass(slots=True)
class Storage(Recipe):
    """The numbers of one or more tensors, once they were found."""

    dtype: str
    numbers: int
    data: bytes | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return self.numbers * int(self.dtype[-1])


@dataclass(slots=True)
class _Tensor(ArrayRecipe):
    """A tensor: a view of a storage; offset and strides are in numbers."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def count(self) -> int:
        return math.prod(self.size)

    def make(self) -> Numbers:
        kind, data = self.storage.dtype, self.storage.data
        if data is None or len(data) != self.storage.size:
            raise RefusedError("holds a tensor whose numbers are missing")
        if not self.count():
            return np.empty(self.size, np.float32)
        flat = np.frombuffer(data, "<u2" if kind == _BFLOAT16 else f"<{kind}")
        steps = sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        if self.offset + steps >= len(flat) or self.count() > len(flat):
            raise RefusedError("holds a tensor that is larger than its numbers")
        strides = tuple(stride * flat.itemsize for stride in self.stride)
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides, writeable=False)
        return widen_bfloat16(view) if kind == _BFLOAT16 else view


def widen_bfloat16(halves: Numbers) -> Numbers:
    """The float32 numbers of which these are the upper halves, as uint16.

    >>> widen_bfloat16(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    return (halves.astype("<u4") << 16).view("<f4")


def _check_sizes(sizes: object) -> tuple[int, ...]:
    # Their number first: the product of a million sizes takes hours.
    if (
        not isinstance(sizes, tuple)
        or len(sizes) > _MAX_AXES
        or not all(type(size) is int and 0 <= size < 2**63 for size in sizes)
    ):
        raise RefusedError("holds a damaged array: its shape is no tuple of sizes")
    return sizes


def _note_dtype(name: object, align: object = False, copy: object = True) -> _Dtype:
    if not isinstance(name, str):  # and never hashed: tuples within tuples within tuples
        raise RefusedError(f"makes a numpy type of {describe(name)}")
    if name not in _NUMPY_TYPES:
        raise RefusedError(f"holds an array of something else than numbers (numpy type {shorten(name)})")
    return _Dtype(name)


def _note_dict() -> Pairs:
    """`OrderedDict()`, which torch sets beside every tensor."""
    return Pairs()


def _note_array(kind: object, shape: object, typecode: object) -> _Array:
    """`_reconstruct`: an empty array, whose state comes with the next opcode."""
    if kind != Global("numpy.ndarray"):
        raise RefusedError(f"makes an array of {describe(kind)}")
    return _Array()


def _note_scalar(dtype: object, data: object) -> _Array:
    array = _Array()
    array._fill((), dtype, False, data)
    return array


def _note_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array._fill(shape, dtype, order == "F", data)
    return array


def _note_tensor(storage: object, offset: int, size: object, stride: object, *more: object) -> _Tensor:
    if not isinstance(storage, Storage):
        raise RefusedError(f"makes a tensor of {describe(storage)}")
    sizes, strides = _check_sizes(size), _check_sizes(stride)
    if len(sizes) != len(strides):
        raise RefusedError("holds a damaged tensor")
    return _Tensor(storage, _check_sizes((offset,))[0], sizes, strides)


NOTATIONS: dict[str, Callable[..., object] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _note_dtype,
    "numpy._core.multiarray._reconstruct": _note_array,
    "numpy._core.multiarray.scalar": _note_scalar,
    "numpy._core.numeric._frombuffer": _note_buffer,
    "collections.OrderedDict": _note_dict,
    "torch._utils._rebuild_tensor": _note_tensor,
    "torch._utils._rebuild_tensor_v2": _note_tensor,
    **dict.fromkeys(STORAGES),
}
"""What is noted where a pickle calls these, as NumPy 2 names them; None for those that it only names."""
