"""Feature folders: one array (T, D) a clip, in whatever form it was saved.

The organisers deliver `vit/NNNNN.pkl` and `wav2vec2/NNNNN.pkl`; others save `.npy`, `.npz`, `.safetensors` or
`.pt`.
No file is believed: pickles are not run (`pickles`), and whatever is no array of finite numbers is an
error that names the file. Nothing is repaired.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from abaw_emi.core.arrays import Float32
from abaw_emi.core.errors import FeatureError, Problem, show_first
from abaw_emi.core.foreign import recognise_foreign
from abaw_emi.core.ids import summarise
from abaw_emi.data.layout import PACKAGES, find_files, parse_stem
from abaw_emi.features.pickles.arrays import Numbers, parse_pickle, widen_bfloat16
from abaw_emi.features.pickles.refusal import RefusedError, quote, refuse_damaged

MAX_UNPACKED = 2**29
"""Bytes that a compressed file may become; the longest official clip's wav2vec2 features have 192 MB."""

_NOTES = frozenset({".db", ".ini", ".json", ".lock", ".log", ".md", ".toml", ".txt", ".yaml", ".yml"})
"""Suffixes of files about a folder, unless their names begin with a number, and of file managers' files."""

CONSTANT_STEP = "leave such clips without a file: the model then knows that it is missing"
"""What to do about files of which `find_constant` finds one."""

_EXPECTED = "one array of numbers, frames x features"

_SAFETENSORS_TYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "<u2",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "<u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
}


def find_features(data: Path, features: Path, name: str) -> dict[str, Path]:
    """The feature file of each clip that has one in a folder `name`, by id, in the order of the ids.

    Args, order and errors are those of `find_in_folders`.
    """
    return find_in_folders(data, features, name, SUFFIXES)


def find_in_folders(data: Path, features: Path, name: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The file of each clip that has one in a folder `name`, by id, in the order of the ids.

    Folders are `data/name`, the same in the test package, and `features/name`; none of them need exist. None
    is preferred: a clip with two files that differ is an error, since either may be the old one.

    Args:
        data: the data folder.
        features: the folder that `abaw-emi extract` and `transcribe` write to.
        name: such as "vit" or "text".
        suffixes: that are looked for, in lower case; of equal files in a folder, the first one's is taken.

    Raises:
        CorpusError: a folder cannot be listed.
        FeatureError: names the files of clips that have several which differ.
    """
    found: dict[str, list[Path]] = {}
    for folder in _list_places(data, features, name):
        for filename, paths in find_files(folder, suffixes).items():
            found.setdefault(filename, []).extend(paths)
    problems = {
        filename: [
            Problem(
                f"clip {filename} ({' and '.join(map(str, paths))})",
                f"has several {name} files that differ",
                "one file",
                "remove the others",
            )
        ]
        for filename, paths in sorted(found.items())
        if len(paths) > 1 and not _are_equal(paths)
    }
    if problems:
        raise FeatureError(summarise(problems))
    return {filename: paths[0] for filename, paths in sorted(found.items())}


def find_unread(
    data: Path, features: Path, name: str, suffixes: tuple[str, ...] | None = None
) -> list[Problem]:
    """What to say of each folder `name` that holds files which are not read, as their names do not fit.

    Files in folders within it count; hidden files and notes, such as `extraction.json`, do not.

    Args:
        data: the data folder.
        features: the folder that `abaw-emi extract` and `transcribe` write to.
        name: such as "vit" or "text".
        suffixes: that are read, in lower case; those of features if not given.
    """
    suffixes = suffixes or SUFFIXES
    *others, last = suffixes
    expected = f"NNNNN{' or '.join([', '.join(others), last] if others else [last])}"
    return [
        Problem(
            str(folder),
            f"holds {len(unread):,} file{'s' if len(unread) > 1 else ''} not read, such as {unread[0]}",
            expected,
        )
        for folder in _list_places(data, features, name)
        if (unread := _list_unread(folder, suffixes))
    ]


def _list_unread(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Names of files in a folder and in the folders within it, sorted; none if it is not there."""
    unread: list[str] = []
    for parent, inner, names in os.walk(folder):
        within = Path(parent).relative_to(folder)
        inner[:] = [] if within.parts else [name for name in inner if not name.startswith(".")]
        for name in names:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path per entry is slow
            is_note = name.startswith(".") or (suffix.lower() in _NOTES and not name[0].isdigit())
            is_read = not within.parts and suffix.lower() in suffixes and parse_stem(stem) is not None
            if not (is_note or is_read):
                unread.append(str(within / name))
    return sorted(unread)


def _list_places(data: Path, features: Path, name: str) -> tuple[Path, ...]:
    return (*(data / package / name for package in PACKAGES), features / name)


def _are_equal(paths: list[Path]) -> bool:
    try:
        if len({path.stat().st_size for path in paths}) > 1:
            return False
        return len({path.read_bytes() for path in paths}) == 1
    except OSError:  # who knows
        return False


def read_array(path: Path) -> Float32:
    """The features of a clip: float32 (T, D), T and D at least 1, all finite.

    An array (D,) is one frame; of (1, T, D) the first axis is left out.

    Raises:
        FeatureError: the file cannot be read, is damaged, or holds something else.
    """
    return parse_array(path, read_feature_file(path))


def find_constant(frames: Float32) -> float | None:
    """The number that the frames hold throughout; None where they hold several, or are but one number."""
    low, high = float(frames.min()), float(frames.max())
    return low if low == high and frames.size > 1 else None


def read_feature_file(path: Path) -> bytes:
    """The bytes of a feature file.

    Raises:
        FeatureError: it cannot be read.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FeatureError(Problem(str(path), "is no file" if path.exists() else "does not exist"))
        return path.read_bytes()
    except OSError as error:
        raise FeatureError(Problem(str(path), f"cannot be read ({error.strerror})")) from error


def parse_array(path: Path, content: bytes) -> Float32:
    """The array in the bytes of the file `path`, as `read_array`."""
    try:
        return _to_frames(_PARSERS[path.suffix.lower()](content))
    except RefusedError as error:
        found, step = recognise_foreign(content) or (str(error), error.next_step)
        raise FeatureError(Problem(str(path), found, _EXPECTED, step)) from error


def _to_frames(array: Numbers) -> Float32:
    if array.dtype.kind not in "fiu":
        raise RefusedError(f"holds {array.dtype}, no numbers")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 1:
        array = array[np.newaxis]
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.ndim != 2:
        raise RefusedError(f"holds an array of {array.ndim} dimensions ({shape})")
    if not array.size:
        raise RefusedError(f"is empty ({shape})")
    with np.errstate(over="ignore", invalid="ignore"):  # said below, with the frame
        frames = np.array(array, np.float32, order="C")  # (T, D)
    if not np.isfinite(frames).all():
        bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
        raise RefusedError(
            f"{bad.size:,} of {len(frames):,} frames hold numbers that are NaN or infinite, the first is"
            f" frame {bad[0]}"
        )
    return frames


def _parse_npy(content: bytes) -> Numbers:
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        raise RefusedError("is no .npy file" if content else "is empty")
    stream = BytesIO(content)
    with refuse_damaged("is damaged, or holds no numbers"):
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.tell() < len(content):
        raise RefusedError(f"goes on after its end, for {len(content) - stream.tell():,} bytes")
    return np.asarray(array)


def _parse_npz(content: bytes) -> Numbers:
    with refuse_damaged("is no whole .npz file"), zipfile.ZipFile(BytesIO(content)) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise RefusedError(_count_arrays([member.filename for member in members]))
        # Deflated bytes unpack to 1,032 times as many at most; bzip2 and LZMA know no such limit.
        if members[0].compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise RefusedError("is not compressed by NumPy")
        if members[0].file_size > MAX_UNPACKED:
            raise RefusedError(f"would unpack to {members[0].file_size / 2**30:.1f} GiB")
        content = archive.read(members[0])
    return _parse_npy(content)


def _parse_safetensors(content: bytes) -> Numbers:
    import safetensors  # of the extra: folders are listed without it

    with refuse_damaged("is no whole .safetensors file"):
        tensors: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    if len(tensors) != 1:
        raise RefusedError(_count_arrays([name for name, _ in tensors]))
    tensor = tensors[0][1]
    dtype = _SAFETENSORS_TYPES.get(tensor["dtype"])
    if dtype is None:
        raise RefusedError(f"holds {tensor['dtype']}, which is read nowhere here")
    flat = np.frombuffer(tensor["data"], dtype)
    if tensor["dtype"] == "BF16":
        flat = widen_bfloat16(flat)
    with refuse_damaged("holds a damaged array"):  # of shape [0, 2**62], say
        return flat.reshape(tensor["shape"])


def _count_arrays(names: list[str]) -> str:
    listed = f" ({show_first([quote(name) for name in sorted(names)], 3)})" if names else ""
    return f"holds {len(names)} arrays{listed}"


_PARSERS: dict[str, Callable[[bytes], Numbers]] = {
    ".pkl": parse_pickle,
    ".npy": _parse_npy,
    ".npz": _parse_npz,
    ".safetensors": _parse_safetensors,
    **dict.fromkeys((".pt", ".pth", ".pickle"), parse_pickle),
}

SUFFIXES = tuple(_PARSERS)
"""Of feature files."""
