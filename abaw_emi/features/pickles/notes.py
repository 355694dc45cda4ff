"""Step 2: a pickle's names and calls as notes; and the files that hold such pickles."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sized
from dataclasses import dataclass
from typing import BinaryIO

from abaw_emi.features.pickles.opcodes import check_opcodes
from abaw_emi.features.pickles.refusal import RefusedError, quote, refuse_damaged

_MAX_ARGUMENTS = 7  # of torch's _rebuild_tensor_v2

# The first pickle of a file that torch saved before it saved zip files, and still saves within a pickle.
_MAGIC = 0x1950A86A20F9469CFC6C

TORCH_TYPES = {
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
    *("torch.storage._load_from_bytes", *TORCH_TYPES),
}


@dataclass(slots=True, eq=False)
class Note:
    """The name of a class or function; with `arguments`, a call of it, and the state that is set after it."""

    name: str
    arguments: tuple[object, ...] | None = None
    state: object = None

    def __call__(self, *arguments: object) -> object:
        """A note of the call, which is not made."""
        if self.name == "collections.OrderedDict" and not arguments:
            return _Dict()
        if len(arguments) > _MAX_ARGUMENTS:  # which many calls could share, and each would copy
            raise RefusedError(f"calls {self.name} with {len(arguments):,} arguments")
        return Note(self.name if self.arguments is None else "a result", arguments)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dict(dict[str, object]):
    """An ordered dictionary."""

    def __setstate__(self, state: object) -> None:
        """Sets nothing: torch adds the versions of a model's modules."""


@dataclass(slots=True, eq=False)
class Storage:
    """The numbers of tensors, which torch's files hold outside the pickle; `data` is read after it."""

    kind: str
    size: int  # in bytes
    data: bytes = b""

    def __setstate__(self, state: object) -> None:
        raise RefusedError("sets the state of a storage")


class _Unpickler(pickle.Unpickler):
    """Makes notes of a pickle whose opcodes were checked; `storages` is None where it is not torch's."""

    def __init__(self, stream: BinaryIO, storages: dict[str, Storage] | None) -> None:
        super().__init__(stream, encoding="latin-1")  # of Python 2's bytes
        self._storages = storages

    def find_class(self, module: str, name: str) -> Note:
        """The name, if arrays need it."""
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.", 1)  # as NumPy 2 calls it
        if full not in _NAMES:
            raise RefusedError(f"names {quote(full)}, which is neither imported nor called")
        return Note(full)

    def persistent_load(self, reference: object) -> Storage:
        """The storage that the opcode BINPERSID refers to."""
        match reference:
            case ("storage", Note(kind), str(key), str(), int(count), *rest) if (
                self._storages is not None and kind in TORCH_TYPES and count >= 0 and rest in ([], [None])
            ):
                return self._storages.setdefault(key, Storage(kind, count * int(TORCH_TYPES[kind][-1])))
        raise RefusedError("refers to something else than the numbers of a tensor")


def load(stream: BinaryIO, *, in_torch: bool = False) -> object:
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


def _load_pickle(stream: BinaryIO, storages: dict[str, Storage] | None) -> object:
    start = stream.tell()
    check_opcodes(stream)
    end = stream.tell()
    stream.seek(start)
    value = _Unpickler(stream, storages).load()
    stream.seek(end)
    return value


def _load_legacy(stream: BinaryIO) -> object:
    """What follows the magic number: version, system, value, keys of storages, and each one's numbers."""
    storages: dict[str, Storage] = {}
    _, system, value, keys = (_load_pickle(stream, storages) for _ in range(4))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedError("holds big-endian tensors, or does not say")
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise RefusedError("is damaged: it does not say where its tensors' numbers are")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        storage.data = stream.read(storage.size)
        if count * int(TORCH_TYPES[storage.kind][-1]) != storage.size:
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
        storages: dict[str, Storage] = {}
        value = _load_pickle(io.BytesIO(archive.read(pickles[0])), storages)
        for key, storage in storages.items():
            storage.data = archive.read(f"{root}data/{key}")
    return value


def describe(value: object) -> str:
    """What kind of value it is, in a few words that are safe to print."""
    if isinstance(value, dict):
        keys = [quote(str(key)) for key in list(value)[:3]] + ["..."] * (len(value) > 3)
        return f"a dict of {_count_entries(value)} ({', '.join(keys)})"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {_count_entries(value)}"
    if isinstance(value, Note):
        return value.name if value.arguments is None else f"a call of {value.name}"
    return "None" if value is None else type(value).__name__.strip("_").lower()


def _count_entries(value: Sized) -> str:
    return "1 entry" if len(value) == 1 else f"{len(value):,} entries"
