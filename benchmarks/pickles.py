"""Feature files as pickles: this package's reader beside `pickle.load`, in one run.

    python benchmarks/pickles.py

500 files of 100 to 590 frames x 1024, float32, as `pickle.dump` and `torch.save` write them. Ratios count;
seconds belong to the machine.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from abaw_emi.features.files import read_array
from abaw_emi.features.pickles.arrays import parse_pickle

FILES = 500
ROUNDS = 5


def load_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)


def parse_file(path: Path) -> object:
    return parse_pickle(path.read_bytes())


def load_torch(path: Path) -> object:
    return torch.load(path, weights_only=True)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        pickled = [Path(folder) / f"{number:05}.pkl" for number in range(FILES)]
        saved = [path.with_name(f"saved-{path.name}") for path in pickled]
        for array_path, tensor_path in zip(pickled, saved, strict=True):
            array = rng.standard_normal((rng.integers(100, 591), 1024), dtype=np.float32)
            array_path.write_bytes(pickle.dumps(array))
            torch.save(torch.from_numpy(array), tensor_path)
        ways: dict[str, tuple[Callable[[Path], object], list[Path]]] = {
            "pickle.load": (load_pickle, pickled),
            "parse_pickle": (parse_file, pickled),
            "read_array (float32 and finite, too)": (read_array, pickled),
            "torch.load(weights_only=True)": (load_torch, saved),
            "parse_pickle of torch.save": (parse_file, saved),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):
            for name, (read, paths) in ways.items():
                start = time.process_time()
                for path in paths:
                    read(path)
                best[name] = min(best[name], time.process_time() - start)
    for name, seconds in best.items():
        print(f"{name}: {seconds:.2f} s, {seconds / FILES * 1e3:.2f} ms a file")


if __name__ == "__main__":
    main()
