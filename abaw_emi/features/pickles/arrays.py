"""Step 3: arrays and tensors out of the notes that they leave."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abaw_emi.features.pickles.notes import TORCH_TYPES, Note, Storage, describe, load
from abaw_emi.features.pickles.refusal import RefusedError, quote, refuse_damaged

Numbers = npt.NDArray[Any]

_MAX_AXES = 64  # of NumPy's arrays
_MAX_RATIO = 8  # of the bytes that arrays are made of to those of the file

_ONE_ARRAY = "save one array a clip with numpy.save"

_PANDAS = b"pandas.core."
"""In the bytes of whatever pandas pickles."""

_NUMPY_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def widen_bfloat16(halves: Numbers) -> Numbers:
    """The float32 numbers of which these are the upper halves, as uint16.

    >>> widen_bfloat16(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    return (halves.astype("<u4") << 16).view("<f4")


def parse_pickle(content: bytes) -> Numbers:
    """The array in the bytes of a pickle, of the shape and type that it has there; bfloat16 as float32.

    Arrays of numbers and torch tensors of any device are read, as `pickle.dump` and `torch.save` write them;
    lists of one-dimensional arrays, or of lists of numbers, all of one length, which are the rows; and a dict
    of one of these.

    Raises:
        RefusedError: the bytes are damaged, or hold or ask for anything else.
    """
    if not content:
        raise RefusedError("is empty")
    try:
        return _build_array(load(io.BytesIO(content)), _Builder(len(content)))
    except RefusedError as error:
        if _PANDAS in content:
            raise RefusedError("is a pickle of a pandas frame", "save frame.to_numpy() as .npy") from error
        raise


def _build_array(value: object, builder: _Builder) -> Numbers:
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if not isinstance(value, list | tuple) or not value:
        return builder.build(value)
    if all(isinstance(row, list | tuple) for row in value):
        return builder.build_table(value)
    rows = builder.build_all(value, value)
    if len({row.shape for row in rows}) > 1 or rows[0].ndim != 1:
        raise RefusedError(f"holds {describe(value)} that are not rows of one width", _ONE_ARRAY)
    return np.stack(rows)


def read_state_dict(path: Path) -> dict[str, Numbers]:
    """The tensors of a state dict that `torch.save` wrote, by name; bfloat16 as float32.

    Raises:
        OSError: the file cannot be read.
        RefusedError: it is damaged, or holds or asks for anything else.
    """
    with path.open("rb") as file:
        value = load(file)
        builder = _Builder(file.seek(0, io.SEEK_END))
    if not isinstance(value, dict):
        raise RefusedError(f"holds {describe(value)}")
    return dict(zip(value, builder.build_all(value, value.values()), strict=True))


class _Builder:
    """Builds arrays from the notes in a file of `size` bytes, few of which can name one array many times."""

    def __init__(self, size: int) -> None:
        self._left = _MAX_RATIO * size

    def build_all(self, value: object, notes: Collection[object]) -> list[Numbers]:
        """The arrays in `value`, which holds nothing else."""
        for note in notes:
            if not isinstance(note, Note):
                raise RefusedError(f"holds {describe(value)} with {describe(note)} in it", _ONE_ARRAY)
        return [self.build(note) for note in notes]

    def build_table(self, rows: Sequence[Sequence[object]]) -> Numbers:
        """The float64 array (T, D) of rows of numbers."""
        if len({len(row) for row in rows}) > 1:
            raise RefusedError(f"holds {describe(rows)} that are not rows of one width", _ONE_ARRAY)
        self._spend(len(rows) * len(rows[0]) * np.dtype(np.float64).itemsize)  # rows can be one and the same
        for cell in itertools.chain.from_iterable(rows):
            if type(cell) not in {int, float}:
                raise RefusedError(
                    f"holds {describe(rows)} of lists with {describe(cell)} in them", _ONE_ARRAY
                )
        return np.array(rows, np.float64)

    def build(self, note: object) -> Numbers:
        """The array or tensor of a note."""
        with refuse_damaged("holds a damaged array"):
            match note:
                case Note("numpy._core.multiarray._reconstruct", tuple(), (_, shape, dtype, fortran, data)):
                    return self._view_bytes(data, dtype, shape, "F" if fortran == 1 else "C")
                case Note("numpy._core.multiarray.scalar", (dtype, data)):
                    return self._view_bytes(data, dtype, (), "C")
                case Note("numpy._core.numeric._frombuffer", (data, dtype, shape, order)):
                    return self._view_bytes(data, dtype, shape, "F" if order == "F" else "C")
                case Note("torch._utils._rebuild_parameter", (tensor, _, _)):
                    return self.build(tensor)
                case Note(
                    "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                    (storage, offset, shape, strides, *_),
                ):
                    return self._view_storage(self._find_storage(storage), offset, shape, strides)
        raise RefusedError(f"holds {describe(note)}", _ONE_ARRAY)

    def _view_bytes(self, data: object, dtype: object, shape: object, order: Any) -> Numbers:
        kind, content, sizes = _find_dtype(dtype), self._find_bytes(data), _check_sizes(shape)
        if math.prod(sizes) * kind.itemsize != len(content):
            found = " x ".join(map(str, sizes)) or "one"
            raise RefusedError(f"holds a damaged array: {found} numbers of {kind} in {len(content):,} bytes")
        self._spend(len(content))
        return np.ndarray(sizes, kind, content, order=order)

    def _view_storage(self, storage: Storage, offset: object, shape: object, strides: object) -> Numbers:
        (start,), sizes, steps = map(_check_sizes, ((offset,), shape, strides))
        kind = np.dtype(TORCH_TYPES[storage.kind])
        count = math.prod(sizes)
        last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        if len(storage.data) != storage.size:
            raise RefusedError("holds a tensor whose numbers are missing")
        # Not left to NumPy, whose own check of strides overflows.
        if count and max(count, last + 1) * kind.itemsize > len(storage.data):
            raise RefusedError("holds a tensor that is larger than its numbers")
        self._spend(count * kind.itemsize)
        first, *strides = (step * kind.itemsize for step in (start, *steps))
        array: Numbers = np.ndarray(sizes, kind, storage.data, first, strides)
        return widen_bfloat16(array) if storage.kind == "torch.BFloat16Storage" else array

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise RefusedError("asks for more memory than there are bytes in the file")

    def _find_bytes(self, data: object) -> bytes | bytearray:
        match data:
            case bytes() | bytearray():
                return data
            # Python 2 pickled bytes as text, and finds those of Python 3 in such a call.
            case str(text) | Note("_codecs.encode", (str(text), "latin1")):
                self._spend(len(text))
                return text.encode("latin-1")
        raise RefusedError(f"holds an array of something else than numbers ({describe(data)})")

    def _find_storage(self, note: object) -> Storage:
        match note:
            case Storage():
                return note
            case Note("torch.storage._load_from_bytes", (content,)):
                file = self._find_bytes(content)
                self._spend(len(file))
                found = load(io.BytesIO(file), in_torch=True)
                if isinstance(found, Storage):
                    return found
        raise RefusedError(f"makes a tensor of {describe(note)}")


def _check_sizes(sizes: object) -> tuple[int, ...]:
    if (
        not isinstance(sizes, tuple)
        or len(sizes) > _MAX_AXES  # the product of a million sizes takes hours
        or not all(type(size) is int and 0 <= size < 2**63 for size in sizes)
    ):
        raise RefusedError("holds a damaged array: its shape is no tuple of sizes")
    return sizes


def _find_dtype(note: object) -> np.dtype[Any]:
    found = describe(note)
    match note:
        case Note("numpy.dtype", (str(name), _, _), (_, "<" | ">" | "|" as order, None, None, None, _, _, _)):
            if name in _NUMPY_TYPES:
                return np.dtype(f"{order}{name}")
            found = f"numpy type {quote(name)}"
    raise RefusedError(f"holds an array of something else than numbers ({found})")
