"""Arrays of numbers and torch tensors out of pickles; nothing that a pickle names is imported or called.

A pickle can call any function, and can ask for gigabytes in a few bytes. So it is read in three steps:

1. `_check_opcodes` looks at every opcode before any is carried out.
2. `pickle.Unpickler` carries them out, with a `find_class` that imports nothing: the few names of classes and
   functions that arrays need become a `_Note`, and so do calls of them.
3. `_Builder` knows the notes that arrays and tensors leave, and builds views of the file's bytes from them.
   NumPy's and torch's functions are not handed what a pickle says: they reserve what memory it asks for, and
   can return it unwritten. torch is not imported.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

MAX_OPCODES = 1_000_000  # of a pickle; an array takes about 30
_MAX_BITS = 128  # of an integer; torch's magic number has 77
_MAX_ARGUMENTS = 7  # of torch's _rebuild_tensor_v2
_MAX_AXES = 64  # of NumPy's arrays
_MAX_RATIO = 8  # of the bytes that arrays are made of to those of the file
_MAX_SHOWN = 100  # characters of a foreign text in a message

_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"),
    *("GET", "BINGET", "LONG_BINGET"),
}

# The first pickle of a file that torch saved before it saved zip files, and still saves within a pickle.
_MAGIC = 0x1950A86A20F9469CFC6C

_NUMPY_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_TORCH_TYPES = {
    "torch.BoolStorage": "b1",
    "torch.ByteStorage": "u1",
    "torch.CharStorage": "i1",
    "torch.ShortStorage": "<i2",
    "torch.IntStorage": "<i4",
    "torch.LongStorage": "<i8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",  # the upper half of a float32, which is no type of NumPy's
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
}

_NAMES = {
    *("numpy.ndarray", "numpy.dtype", "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar"),
    *("numpy._core.numeric._frombuffer", "_codecs.encode", "collections.OrderedDict"),
    *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"),
    *("torch.storage._load_from_bytes", *_TORCH_TYPES),
}


class RefusedError(ValueError):
    """A file is damaged, or holds or asks for what arrays of numbers do not need; the text says what."""


@contextmanager
def refuse_damaged(what: str) -> Iterator[None]:
    """Turns whatever a parser raises on damaged bytes into a `RefusedError` that begins with `what`."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:  # parsers do not document all that they raise
        raise RefusedError(f"{what} ({shorten(str(error)) or type(error).__name__})") from error


def shorten(text: str) -> str:
    r"""A foreign text, safe to print.

    >>> shorten("a\x1b[31m")
    'a\\x1b[31m'
    """
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def widen_bfloat16(halves: Numbers) -> Numbers:
    """The float32 numbers of which these are the upper halves, as uint16.

    >>> widen_bfloat16(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    return (halves.astype("<u4") << 16).view("<f4")


def parse_pickle(content: bytes) -> Numbers:
    """The array in the bytes of a pickle, of the shape and type that it has there; bfloat16 as float32.

    Arrays of numbers and torch tensors of any device are read, as `pickle.dump` and `torch.save` write them,
    and lists of one-dimensional arrays of one length, which are the rows.

    Raises:
        RefusedError: the bytes are damaged, or hold or ask for anything else.
    """
    if not content:
        raise RefusedError("is empty")
    value, builder = _load(io.BytesIO(content)), _Builder(len(content))
    if not isinstance(value, list | tuple) or not value:
        return builder.build(value)
    rows = builder.build_all(value, value)
    if len({row.shape for row in rows}) > 1 or rows[0].ndim != 1:
        raise RefusedError(f"holds {_describe(value)} that are not rows of one width")
    return np.stack(rows)


def read_state_dict(path: Path) -> dict[str, Numbers]:
    """The tensors of a state dict that `torch.save` wrote, by name; bfloat16 as float32.

    Raises:
        OSError: the file cannot be read.
        RefusedError: it is damaged, or holds or asks for anything else.
    """
    with path.open("rb") as file:
        value = _load(file)
        builder = _Builder(file.seek(0, io.SEEK_END))
    if not isinstance(value, dict):
        raise RefusedError(f"holds {_describe(value)}")
    return dict(zip(value, builder.build_all(value, value.values()), strict=True))


def _describe(value: object) -> str:
    """What kind of value it is, in a few words that are safe to print."""
    if isinstance(value, dict):
        keys = [shorten(str(key)) for key in list(value)[:3]] + ["..."] * (len(value) > 3)
        return f"a dict of {len(value):,} entries ({', '.join(keys)})"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value):,} entries"
    if isinstance(value, _Note):
        return value.name if value.arguments is None else f"a call of {value.name}"
    return "None" if value is None else type(value).__name__.strip("_").lower()


# Step 1: opcodes.


def _check_opcodes(stream: BinaryIO) -> None:
    """Reads one pickle, and makes nothing of it.

    Raises:
        RefusedError: it has an opcode, an integer or a key that arrays do not need.
        Exception: it is damaged.
    """
    stack: list[bool] = []  # of each value above the last mark: whether it is text
    below: list[list[bool]] = []  # the same below each mark
    memo: dict[int, bool] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name, popped, keys = opcode.name, opcode.stack_before, stack[-2:-1]
        if name not in _OPCODES:
            raise RefusedError(f"uses the opcode {name}")
        if number == MAX_OPCODES:
            raise RefusedError(f"has more than {MAX_OPCODES:,} opcodes")
        if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
            raise RefusedError(f"holds an integer of more than {_MAX_BITS} bits")
        if name == "MARK":
            below.append(stack)
            stack = []
            continue
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = len(memo) if argument is None else argument
            if index > number:  # the unpickler reserves memory for all numbers up to it
                raise RefusedError("has a damaged memo")
            memo[index] = stack[-1]
            continue
        if pickletools.markobject in popped:
            keys, stack = stack[::2], below.pop()
            popped = popped[: popped.index(pickletools.markobject)]
        # To hash tuples within tuples can take forever, or overflow the stack.
        if name in {"SETITEM", "SETITEMS"} and not all(keys):
            raise RefusedError("holds a dict with a key that is no text")
        if len(popped) > len(stack):
            raise ValueError("its stack is too short")
        del stack[len(stack) - len(popped) :]
        if name.endswith("GET"):
            stack.append(memo[argument or 0])
        elif opcode.stack_after:
            stack.append(opcode.stack_after[0].name in {"str", "bytes_or_str"})


# Step 2: notes.


@dataclass(slots=True, eq=False)
class _Note:
    """The name of a class or function; with `arguments`, a call of it, and the state that is set after it."""

    name: str
    arguments: tuple[object, ...] | None = None
    state: object = None

    def __call__(self, *arguments: object) -> object:
        if self.name == "collections.OrderedDict" and not arguments:
            return _Dict()
        if len(arguments) > _MAX_ARGUMENTS:  # which many calls could share, and each would copy
            raise RefusedError(f"calls {self.name} with {len(arguments):,} arguments")
        return _Note(self.name if self.arguments is None else "a result", arguments)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dict(dict[str, object]):
    """An ordered dictionary."""

    def __setstate__(self, state: object) -> None:
        """Sets nothing: torch adds the versions of a model's modules."""


@dataclass(slots=True, eq=False)
class _Storage:
    """The numbers of tensors, which torch's files hold outside the pickle; `data` is read after it."""

    kind: str
    size: int  # in bytes
    data: bytes = b""

    def __setstate__(self, state: object) -> None:
        raise RefusedError("sets the state of a storage")


class _Unpickler(pickle.Unpickler):
    """Makes notes of a pickle whose opcodes were checked; `storages` is None where it is not torch's."""

    def __init__(self, stream: BinaryIO, storages: dict[str, _Storage] | None) -> None:
        super().__init__(stream, encoding="latin-1")  # of Python 2's bytes
        self._storages = storages

    def find_class(self, module: str, name: str) -> _Note:
        """The name, if arrays need it."""
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.", 1)  # as NumPy 2 calls it
        if full not in _NAMES:
            raise RefusedError(f"names {shorten(full)}, which is neither imported nor called")
        return _Note(full)

    def persistent_load(self, reference: object) -> _Storage:
        """The storage that the opcode BINPERSID refers to."""
        match reference:
            case ("storage", _Note(kind), str(key), str(), int(count), *rest) if (
                self._storages is not None and kind in _TORCH_TYPES and count >= 0 and rest in ([], [None])
            ):
                return self._storages.setdefault(key, _Storage(kind, count * int(_TORCH_TYPES[kind][-1])))
        raise RefusedError("refers to something else than the numbers of a tensor")


# Step 3: arrays.


class _Builder:
    """Builds arrays from the notes in a file of `size` bytes, few of which can name one array many times."""

    def __init__(self, size: int) -> None:
        self._left = _MAX_RATIO * size

    def build_all(self, value: object, notes: Collection[object]) -> list[Numbers]:
        """The arrays in `value`, which holds nothing else."""
        for note in notes:
            if not isinstance(note, _Note):
                raise RefusedError(f"holds {_describe(value)} with {_describe(note)} in it")
        return [self.build(note) for note in notes]

    def build(self, note: object) -> Numbers:
        """The array or tensor of a note."""
        with refuse_damaged("holds a damaged array"):
            match note:
                case _Note("numpy._core.multiarray._reconstruct", tuple(), (_, shape, dtype, fortran, data)):
                    return self._view_bytes(data, dtype, shape, "F" if fortran == 1 else "C")
                case _Note("numpy._core.multiarray.scalar", (dtype, data)):
                    return self._view_bytes(data, dtype, (), "C")
                case _Note("numpy._core.numeric._frombuffer", (data, dtype, shape, order)):
                    return self._view_bytes(data, dtype, shape, "F" if order == "F" else "C")
                case _Note("torch._utils._rebuild_parameter", (tensor, _, _)):
                    return self.build(tensor)
                case _Note(
                    "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                    (storage, offset, shape, strides, *_),
                ):
                    return self._view_storage(self._find_storage(storage), offset, shape, strides)
        raise RefusedError(f"holds {_describe(note)}")

    def _view_bytes(self, data: object, dtype: object, shape: object, order: Any) -> Numbers:
        kind, content, sizes = _find_dtype(dtype), self._find_bytes(data), _check_sizes(shape)
        if math.prod(sizes) * kind.itemsize != len(content):
            found = " x ".join(map(str, sizes)) or "one"
            raise RefusedError(f"holds a damaged array: {found} numbers of {kind} in {len(content):,} bytes")
        self._spend(len(content))
        return np.ndarray(sizes, kind, content, order=order)

    def _view_storage(self, storage: _Storage, offset: object, shape: object, strides: object) -> Numbers:
        (start,), sizes, steps = map(_check_sizes, ((offset,), shape, strides))
        kind = np.dtype(_TORCH_TYPES[storage.kind])
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
            case str(text) | _Note("_codecs.encode", (str(text), "latin1")):
                self._spend(len(text))
                return text.encode("latin-1")
        raise RefusedError(f"holds an array of something else than numbers ({_describe(data)})")

    def _find_storage(self, note: object) -> _Storage:
        match note:
            case _Storage():
                return note
            case _Note("torch.storage._load_from_bytes", (content,)):
                file = self._find_bytes(content)
                self._spend(len(file))
                found = _load(io.BytesIO(file), in_torch=True)
                if isinstance(found, _Storage):
                    return found
        raise RefusedError(f"makes a tensor of {_describe(note)}")


def _check_sizes(sizes: object) -> tuple[int, ...]:
    if (
        not isinstance(sizes, tuple)
        or len(sizes) > _MAX_AXES  # the product of a million sizes takes hours
        or not all(type(size) is int and 0 <= size < 2**63 for size in sizes)
    ):
        raise RefusedError("holds a damaged array: its shape is no tuple of sizes")
    return sizes


def _find_dtype(note: object) -> np.dtype[Any]:
    found = _describe(note)
    match note:
        case _Note(
            "numpy.dtype", (str(name), _, _), (_, "<" | ">" | "|" as order, None, None, None, _, _, _)
        ):
            if name in _NUMPY_TYPES:
                return np.dtype(f"{order}{name}")
            found = f"numpy type {shorten(name)}"
    raise RefusedError(f"holds an array of something else than numbers ({found})")


# Files.


def _load(stream: BinaryIO, *, in_torch: bool = False) -> object:
    """The notes of a whole file; `in_torch` of one that a tensor's pickle holds, which is torch's own."""
    if stream.read(4) == b"PK\x03\x04":
        with refuse_damaged("is no whole zip file"):
            return _load_zip(stream)
    stream.seek(0)
    stream = io.BytesIO(stream.read())  # a file would reserve what a pickle says, not what there is
    with refuse_damaged("is no whole pickle"):
        value = _load_pickle(stream, None)
        if type(value) is int and value == _MAGIC:
            value = _load_legacy(stream)
        elif in_torch:
            raise RefusedError("holds a tensor whose numbers are not torch's")
        if rest := len(stream.read()):
            raise RefusedError(f"goes on after its end, for {rest:,} bytes")
    return value


def _load_pickle(stream: BinaryIO, storages: dict[str, _Storage] | None) -> object:
    start = stream.tell()
    _check_opcodes(stream)
    end = stream.tell()
    stream.seek(start)
    value = _Unpickler(stream, storages).load()
    stream.seek(end)
    return value


def _load_legacy(stream: BinaryIO) -> object:
    """What follows the magic number: version, system, value, keys of storages, and each one's numbers."""
    storages: dict[str, _Storage] = {}
    _, system, value, keys = (_load_pickle(stream, storages) for _ in range(4))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedError("holds big-endian tensors, or does not say")
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise RefusedError("is damaged: it does not say where its tensors' numbers are")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        storage.data = stream.read(storage.size)
        if count * int(_TORCH_TYPES[storage.kind][-1]) != storage.size:
            raise RefusedError("is damaged: it does not say where its tensors' numbers are")
    return value


def _load_zip(stream: BinaryIO) -> object:
    """What `torch.save` writes: `data.pkl`, and the numbers of each storage in `data/`, uncompressed."""
    size = stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        pickles = [member.filename for member in members if member.filename.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise RefusedError("is a zip file, but none that torch.save wrote")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RefusedError("is a compressed zip file, which torch.save never writes")
        if sum(member.file_size for member in members) > size:  # members can share their bytes
            raise RefusedError("asks for more memory than there are bytes in the file")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise RefusedError("holds big-endian tensors")
        storages: dict[str, _Storage] = {}
        value = _load_pickle(io.BytesIO(archive.read(pickles[0])), storages)
        for key, storage in storages.items():
            storage.data = archive.read(f"{root}data/{key}")
    return value
