"""Arrays out of pickles, of which nothing is ever run.

Arrays of numbers and torch tensors of any device are read, pickled by `pickle.dump` or saved by `torch.save`,
and lists of rows; everything else is refused by its name. torch is not imported.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np

from abaw_emi.core.errors import FeatureError, Problem
from abaw_emi.features.pickle_machine import Budget, Global, Machine, Pairs, RefusedError, describe, shorten
from abaw_emi.features.pickled_arrays import NOTATIONS, STORAGES, ArrayRecipe, Numbers, Storage

EXPECTED = "a pickled numpy array or torch tensor of numbers"

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that torch saved before it saved zip files, and still saves within a pickle."""

_COPIES = 3
"""How often an honest file's bytes are copied: text to bytes, a tensor's own file, and its numbers."""

_ZIP = b"PK\x03\x04"


def read_pickle(path: Path) -> Numbers:
    """The array in a pickle, of the shape and the type that it has there; bfloat16 as float32.

    A list of one-dimensional arrays of the same length is an array of rows.

    Raises:
        FeatureError: the file cannot be read, is damaged, or holds or asks for anything else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FeatureError(Problem(str(path), f"cannot be read ({error.strerror})", EXPECTED)) from error
    try:
        return parse_pickle(content)
    except RefusedError as error:
        raise FeatureError(Problem(str(path), str(error), EXPECTED)) from error


def parse_pickle(content: bytes) -> Numbers:
    """The array in the bytes of a pickle, as `read_pickle`.

    Raises:
        RefusedError: says what is wrong.
    """
    if not content:
        raise RefusedError("is empty")
    value = _load(content, Budget(_COPIES * len(content)), in_torch=False)
    try:
        return _make(value, len(content))
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError(f"holds a damaged array ({shorten(str(error))})") from error


def _make(value: object, limit: int) -> Numbers:
    """The array of what a pickle holds; at most `limit` numbers."""
    if isinstance(value, ArrayRecipe):
        return value.make()
    if isinstance(value, Pairs):
        keys = [shorten(key) if isinstance(key, str) else describe(key) for key, _ in value.pairs[:3]]
        more = ", ..." if len(value.pairs) > len(keys) else ""
        raise RefusedError(f"holds a dict of {len(value.pairs):,} entries ({', '.join(keys)}{more})")
    if not isinstance(value, list | tuple):
        raise RefusedError(f"holds {describe(value)}")
    rows = [row for row in value if isinstance(row, ArrayRecipe)]
    if len(rows) < len(value) or not rows:
        other = next((describe(row) for row in value if not isinstance(row, ArrayRecipe)), "nothing")
        raise RefusedError(f"holds a {describe(value)} of {len(value):,} entries with {other} in it")
    if sum(row.count() for row in rows) > limit:  # the same array a thousand times
        raise RefusedError("asks for more memory than there are bytes in the file")
    arrays = [row.make() for row in rows]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1:
        raise RefusedError(f"holds a {describe(value)} of {len(value):,} arrays, not rows of one width")
    return np.stack(arrays)


def _load(content: bytes, budget: Budget, *, in_torch: bool) -> object:
    """What the bytes hold: a zip file or a pickle of torch's, or (not `in_torch`) a plain pickle."""
    if content.startswith(_ZIP):
        return _load_zip(content, budget)
    stream = BytesIO(content)
    value = _new_machine(budget, in_torch=in_torch).run(stream)
    if type(value) is int and value == _MAGIC:
        value = _load_legacy(stream, budget)
    elif in_torch:
        raise RefusedError("holds a tensor whose numbers are not torch's")
    if stream.tell() < len(content):
        raise RefusedError(f"goes on after its end, for {len(content) - stream.tell():,} bytes")
    return value


def _new_machine(budget: Budget, storages: _Storages | None = None, *, in_torch: bool) -> Machine:
    def encode(text: str, encoding: str) -> bytes:
        """As Python 2 was told to find bytes in a pickle of Python 3."""
        if encoding != "latin1":
            raise RefusedError(f"calls _codecs.encode with {describe(encoding)}")
        budget.spend(len(text))
        return text.encode("latin-1")

    def load_from_bytes(content: bytes) -> object:
        if in_torch or not isinstance(content, bytes):
            raise RefusedError("calls torch.storage._load_from_bytes where there is no tensor")
        budget.spend(len(content))
        return _load(content, budget, in_torch=True)

    loaders: dict[str, Callable[..., object] | None] = {
        "_codecs.encode": encode,
        "torch.storage._load_from_bytes": load_from_bytes,
    }
    return Machine(NOTATIONS | loaders, None if storages is None else storages.get)


class _Storages:
    """The storages that a file of torch's refers to, by their keys."""

    def __init__(self) -> None:
        self.by_key: dict[str, Storage] = {}

    def get(self, reference: object) -> Storage:
        match reference:
            case ("storage", Global(kind), str() as key, str(), int() as numbers, *rest):
                if kind in STORAGES and numbers >= 0 and not any(rest):
                    return self.by_key.setdefault(key, Storage(STORAGES[kind], numbers))
        raise RefusedError("refers to something else than the numbers of a tensor")


def _load_legacy(stream: BytesIO, budget: Budget) -> object:
    """What follows the magic number: version, system, value, keys of storages, and each one's numbers."""
    storages = _Storages()
    machine = _new_machine(budget, storages, in_torch=True)
    machine.run(stream)
    system = machine.run(stream)
    if not isinstance(system, Pairs) or ("little_endian", True) not in system.pairs:
        _refuse_order()
    value, keys = machine.run(stream), machine.run(stream)
    if not isinstance(keys, list):
        raise RefusedError("is damaged: it does not say where its tensors' numbers are")
    for key in keys:
        storage = storages.by_key.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(stream.read(8), "little") != storage.numbers:
            raise RefusedError("is damaged: it does not say where its tensors' numbers are")
        budget.spend(storage.size)
        storage.data = stream.read(storage.size)
    return value


_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,  # NotImplementedError among them
    ValueError,
    LookupError,
    ArithmeticError,
    OSError,
    EOFError,
)
"""Whatever zipfile raises of damaged or encrypted files."""


def _load_zip(content: bytes, budget: Budget) -> object:
    """What `torch.save` writes: `data.pkl`, and the numbers of each storage in `data/`, uncompressed."""
    storages = _Storages()
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise RefusedError("is a zip file, but none that torch.save wrote")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}byteorder" in names and _read(archive, f"{root}byteorder", budget) != b"little":
                _refuse_order()
            stream = BytesIO(_read(archive, pickles[0], budget))
            value = _new_machine(budget, storages, in_torch=True).run(stream)
            for key, storage in storages.by_key.items():
                storage.data = _read(archive, f"{root}data/{key}", budget)
    except RefusedError:
        raise
    except _ZIP_ERRORS as error:
        raise RefusedError(f"is a damaged zip file ({shorten(str(error))})") from error
    return value


def _read(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        raise RefusedError("is a compressed zip file, which torch.save never writes")
    budget.spend(member.file_size)
    return archive.read(member)


def _refuse_order() -> NoReturn:
    raise RefusedError("holds big-endian tensors, or does not say")
