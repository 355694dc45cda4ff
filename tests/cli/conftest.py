"""The command line as a shell sees it: exit code, stdout, stderr. Nothing needs torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.command import run_command

HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
EMOTIONS = HEADER.split(",")[1:]
Shell = Callable[..., subprocess.CompletedProcess[str]]

# What a Python without the extra `train` looks like, wherever the tests run.
WITHOUT_TORCH = """
import importlib.metadata, sys
HIDDEN = {"torch", "torchaudio", "transformers", "safetensors", "soundfile", "av", "soxr", "peft"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

real = importlib.metadata.Distribution.from_name.__func__

def from_name(cls, name):
    if name in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(cls, name)

sys.meta_path.insert(0, Missing())
importlib.metadata.Distribution.from_name = classmethod(from_name)
"""


def write_csv(path: Path, rows: dict[str, list[float]], header: str = HEADER) -> Path:
    lines = [header, *(",".join([name, *map(str, values)]) for name, values in rows.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def values(names: list[str], seed: int, low: float = 0.0, high: float = 1.0) -> dict[str, list[float]]:
    """Six numbers for each id, with three decimals."""
    cells = np.random.default_rng(seed).uniform(low, high, (len(names), 6)).round(3)
    return {name: row.tolist() for name, row in zip(names, cells, strict=True)}


ROOT = Path(__file__).parents[2]
"""The repository: commands run its package, whatever else is installed."""


def environment(**changes: str) -> dict[str, str]:
    """The environment of a command: that of the tests, less what would change its output."""
    unwanted = {"ABAW_EMI_DATA", "FORCE_COLOR", "COLUMNS"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted} | changes
    path = os.pathsep.join(filter(None, [changes.get("PYTHONPATH"), str(ROOT)]))
    return kept | {"PYTHONPATH": path}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the commands: `data/` with labels of train and valid, and six test clips."""
    data = tmp_path / "data"
    write_csv(data / "train_split.csv", values([f"{i:05}" for i in range(5)], seed=1))
    write_csv(data / "valid_split.csv", values([f"{i:05}" for i in range(5, 17)], seed=2))
    (data / "test_data" / "audio").mkdir(parents=True)
    for name in test_ids():
        (data / "test_data" / "audio" / f"{name}.mp3").touch()  # listed, never decoded
    return tmp_path


def test_ids() -> list[str]:
    """The ids of the test clips that `folder` holds."""
    return [f"{i:05}" for i in range(20, 26)]


test_ids.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture
def shell(folder: Path) -> Shell:
    """Runs `abaw-emi ARGUMENTS` in `folder`, in this process."""

    def run(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, cwd=folder, env=environment(**changes))

    return run


@pytest.fixture
def process(folder: Path) -> Shell:
    """The same in a process of its own."""

    def run(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "abaw_emi", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=folder,
            env=environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def shell_without_torch(process: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs `abaw-emi ARGUMENTS` in a Python that has nothing of the extra `train`."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(WITHOUT_TORCH)

    def run(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return process(*arguments, PYTHONPATH=str(site), **changes)

    return run


def problems(done: subprocess.CompletedProcess[str], code: int) -> list[str]:
    """The lines on stderr of a command that ended with `code`; a traceback is never one of them."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()
