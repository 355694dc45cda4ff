"""A model's weights in a file that several processes map, and so hold in memory once.

/dev/shm would do it too, but has 64 MiB in a container.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from abaw_emi.learning.model import EmiConfig, EmiModel

_ALIGNMENT = 64
"""Bytes: where weights begin decides how vectors are cut, and so the last bit of sums."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedWeights:
    """A model on the CPU, in a file; travels to other processes by its path.

    Attributes:
        path: of the file; once every process has called `read`, it may be removed.
        size: of the file, in bytes.
        config: of the model.
        places: where each tensor begins in the file, by its name in the state dict.
    """

    path: Path
    size: int
    config: EmiConfig
    places: dict[str, tuple[int, torch.dtype, torch.Size]]

    @classmethod
    def write(cls, model: EmiModel, path: Path) -> SharedWeights:
        """Writes the file.

        Raises:
            OSError: it cannot be written.
        """
        places = {}
        with path.open("wb") as file:
            for name, tensor in model.state_dict().items():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places[name] = (file.tell(), tensor.dtype, tensor.shape)
                file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            size = file.tell()
        return cls(path, size, cast("EmiConfig", model.config), places)

    def read(self) -> EmiModel:
        """The model on the file's memory, in evaluation mode; nothing may be written to its weights."""
        content = torch.from_file(str(self.path), shared=True, size=self.size, dtype=torch.uint8)
        state: dict[str, Tensor] = {}
        for name, (start, dtype, shape) in self.places.items():
            end = start + math.prod(shape) * dtype.itemsize
            state[name] = content[start:end].view(dtype).view(shape)
        with torch.device("meta"):
            model = EmiModel(self.config)
        model.load_state_dict(state, assign=True)
        model.train(False)
        return model
