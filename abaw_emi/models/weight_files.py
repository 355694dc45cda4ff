"""The files that weights lie in: safetensors and what torch.save wrote, whole or in shards."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import TypedDict

from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.core.records import read_json
from abaw_emi.features.pickles.arrays import read_state_dict
from abaw_emi.features.pickles.refusal import RefusedError
from abaw_emi.models.load import count_weights

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

# The positional convolution's weight norm was renamed by torch; older files hold the left-hand names.
_RENAMED = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


class _Index(TypedDict):
    """`model.safetensors.index.json`, as transformers writes it: the file of each weight."""

    weight_map: dict[str, str]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict that lies in a model folder, whole or in shards; names as written.

    From safetensors if these are there, and from a whole file before its shards.

    Raises:
        WeightsError: there is none, or a file of it cannot be read.
    """
    for name in _WEIGHT_FILES:
        if (path := folder / name).is_file():
            return _read_file(path)
        if (path := folder / f"{name}.index.json").is_file():
            return _read_shards(path)
    raise WeightsError(Problem(str(folder), "no weights", " or ".join(_WEIGHT_FILES)))


def _read_shards(path: Path) -> dict[str, Tensor]:
    """The weights of an index's files, which lie beside it: each weight is in the file that it names."""
    index = read_json(path, _Index, "an index of shards")
    weights: dict[str, Tensor] = {}
    for name in sorted({*index["weight_map"].values()}):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise WeightsError(Problem(str(path), f"{name!r} is no file beside it", "all shards"))
        weights |= _read_file(path.parent / name)
    if missing := sorted({rename(key) for key in index["weight_map"]} - weights.keys()):
        raise WeightsError(Problem(str(path), count_weights("missing", missing), "those that it names"))
    return weights


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        weights = load_torch(path)
    else:
        try:
            weights = load_file(path)
        except (OSError, SafetensorError, ValueError, RuntimeError, OverflowError) as error:
            raise WeightsError(Problem(str(path), f"not readable as safetensors: {error}")) from error
    return {rename(key): value for key, value in weights.items()}


def load_torch(path: Path) -> dict[str, Tensor]:
    """The state dict of a file that torch.save wrote; nothing in it is run.

    Raises:
        WeightsError: it cannot be read.
    """
    # Not by torch.load, even with weights_only: a file of 1 kB makes it reserve gigabytes, or never return.
    try:
        arrays = read_state_dict(path)
    except OSError as error:
        raise WeightsError(Problem(str(path), f"cannot be read ({error.strerror})")) from error
    except RefusedError as error:
        raise WeightsError(
            Problem(str(path), str(error), "a state dict of tensors, from torch.save")
        ) from error
    return {
        key: torch.from_numpy((array := arrays.pop(key)).astype(array.dtype.newbyteorder("=")))
        for key in list(arrays)
    }


def rename(key: str) -> str:
    """The name that torch gives a weight by now."""
    parent, _, name = key.rpartition(".")
    return f"{parent}.{_RENAMED[name]}" if name in _RENAMED else key
