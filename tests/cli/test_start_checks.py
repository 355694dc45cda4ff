"""What a command is asked for is checked before torch is loaded: here, where that would fail."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import Shell, problems, write_csv


@pytest.fixture
def light(process: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs a command, without the network, that must not load torch."""
    site = tmp_path_factory.mktemp("site")
    (site / "torch.py").write_text("raise ImportError('torch is loaded')")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return process(*arguments, PYTHONPATH=str(site), HF_HUB_OFFLINE="1")

    return run


needs_train = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra train")

DEVICE = "device: 'gpu' is no device; expected auto, cpu, cuda, cuda:1 or mps; a GPU is called cuda"


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "train --init-from nowhere",
        "predict --ckpt runs/a --split valid",
        "predict --ckpt runs/a a.wav",
        "ensemble --ckpts runs/a",
        "extract models/a",
        "transcribe models/a",
        "prepare",
        "pipeline",
        "sweep",
        "search --space s.toml --trials 1",
        "tables --table 2",
    ],
)
def test_a_device_that_is_none_is_refused_first(light: Shell, command: str) -> None:
    found = problems(light(*command.split(), "--device", "gpu"), 2)
    assert found == [DEVICE]


@needs_train
def test_what_train_starts_from_is_looked_for_first(light: Shell, folder: Path) -> None:
    run = "nowhere: no such run; expected a run folder, as abaw-emi train makes them"
    assert problems(light("train", "--init-from", "nowhere"), 1) == [run]
    (found,) = problems(light("train", "--backbone", "owner/name"), 1)
    assert found.startswith(
        "owner/name: revision 'main' is neither in the hub's local cache nor to be fetched"
    )
    assert "hf download owner/name; or give --backbone a folder" in found
    (folder / "runs" / "paper-seed2").mkdir(parents=True)
    (found,) = problems(light("train", "--seeds", "1", "2"), 1)
    assert found.startswith("runs/paper-seed2: the run is already there; continue it with --resume, or")


@needs_train
def test_encoders_checkpoints_and_files_are_looked_for_first(light: Shell, folder: Path) -> None:
    (found,) = problems(light("extract", "owner/name"), 1)
    assert "hf download owner/name; or give ENCODER a folder" in found
    (found,) = problems(light("transcribe", "./nowhere"), 1)
    assert found == "./nowhere: neither a folder nor a hub id; expected such as owner/name"
    words = ("import-weights", "best.pth", "--backbone", "./nowhere", "--out", "data")
    assert problems(light(*words), 1) == [
        "best.pth: no such file; expected a .pth checkpoint",
        "data: already there; give --out another folder",
        "./nowhere: neither a folder nor a hub id; expected such as owner/name",
    ]
    assert problems(light("predict", "--ckpt", "runs/a", "a.wav", "b.mp4"), 1) == [
        "runs/a: no such run; expected a run folder, as abaw-emi train makes them",
        "a.wav: does not exist; expected a file of WAV data",
        "b.mp4: does not exist; expected a file of MP4 data",
    ]
    write_csv(folder / "mine" / "notes.csv", {})
    assert problems(light("demo", "--out", "mine"), 1) == [
        "mine: already there, and not made by a demo; give --out another folder"
    ]
    (found,) = problems(light("tables", "--table", "2", "--data", "none"), 1)
    assert found.startswith("none: does not exist; expected the data folder")


@needs_train
def test_what_the_rows_of_a_table_lack_is_said_before_torch_is_loaded(light: Shell, folder: Path) -> None:
    sound = folder / "data" / "audio"
    sound.mkdir()
    for number in range(17):
        (sound / f"{number:05}.mp3").touch()
    done = light("tables", "--table", "1", "--only", "paper", "vision", "--backbone", "audeering=owner/name")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "row paper, owner/name: revision 'main' is neither in the hub's local cache nor to be" in said
    assert "or use a folder: --backbone audeering=DIR" in said
    assert "row vision, feature folder vit: no clip of train or valid has any" in said
    assert "lacks inputs" in done.stdout
