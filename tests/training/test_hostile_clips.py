"""Broken clips through the command line: each named, no traceback, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from abaw_emi.config.presets import find_preset
from abaw_emi.config.read import change_config
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.runs.run import Run
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from tests.command import run_command
from tests.foreign_data import write_data


def good(folder: Path, suffix: str, samples: int = 32_000) -> bytes:
    path = folder / f"good{suffix}"
    time = np.arange(samples) / 16_000
    soundfile.write(path, (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), 16_000)
    return path.read_bytes()


@pytest.fixture(scope="module")
def tiny_run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = change_config(find_preset("tiny"), ["training.epochs=1"])
    plan = Plan(config=config, preset="tiny", seeds=[1], out=tmp_path_factory.mktemp("runs"), device="cpu")
    (run,) = train(plan, DataFolder(data_root), Reporter(quiet=True))
    return run


def test_every_kind_of_broken_clip_is_named_and_no_file_is_written(tiny_run: Run, tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", test=2)
    mp3, wav, flac = (good(tmp_path, suffix) for suffix in (".mp3", ".wav", ".flac"))
    random = np.random.default_rng(0).bytes(5_000)
    broken = {
        "00030.mp3": b"",
        "00031.mp3": b"just a few words of text\n" * 40,
        "00032.mp3": random,
        "00033.mp3": mp3[:100],
        "00034.mp3": mp3[: len(mp3) // 2],
        "00035.mp3": wav,
        "00036.wav": wav[:44],
        "00037.wav": wav[: len(wav) // 2],
        "00038.flac": flac[: len(flac) // 2],
        "00039.wav": good(tmp_path, ".wav", samples=399),
        "00040.mp3": b"<!DOCTYPE html><html><body>404</body></html>",
    }
    for name, content in broken.items():
        (root / "test_data" / "audio" / name).write_bytes(content)
    command = ["predict", "--ckpt", tiny_run.folder, "--split", "test", "--data", "data", "--device", "cpu"]
    stopped = run_command(*command, cwd=tmp_path)
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    problems = [line for line in stopped.stderr.splitlines() if line.startswith("data/test_data/audio/")]
    assert sorted(line.split(":")[0].rpartition("/")[2] for line in problems) == sorted(broken)
    assert not (tmp_path / "predictions").exists()

    skipped = run_command(*command, "--on-bad-clip", "skip", cwd=tmp_path)
    assert skipped.returncode == 0, skipped.stderr
    assert "11 skipped" in skipped.stderr
    lines = (tmp_path / "predictions" / "tiny-seed1-test.csv").read_text().splitlines()
    assert [line[:5] for line in lines[1:]] == ["00020", "00021"]

    refused = run_command("submit", "--preds", "predictions/tiny-seed1-test.csv", cwd=tmp_path)
    assert refused.returncode == 1
    assert "--fill train-mean" in refused.stderr
    assert not (tmp_path / "submissions").exists()
