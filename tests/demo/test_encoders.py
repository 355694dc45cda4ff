from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.encoders import write_encoders
from abaw_emi.runs.run import Run
from tests.command import run_command

pytestmark = pytest.mark.usefixtures("one_thread")


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_small_files_each_time_whatever_was_drawn_before(tmp_path: Path) -> None:
    write_encoders(tmp_path / "first")
    state = torch.get_rng_state()
    torch.rand(3)
    drawn = torch.get_rng_state()
    write_encoders(tmp_path / "second")
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.set_rng_state(state)
    files = read_all(tmp_path / "first")
    assert files == read_all(tmp_path / "second")
    assert sum(map(len, files.values())) < 300_000


def test_the_winners_are_trained_and_predict_with_them(tmp_path: Path) -> None:
    write_corpus(tmp_path, seed=5, train=4, valid=3, test=3)
    write_encoders(tmp_path / "encoders")
    changes = ["model.backbone=encoders/speech", "model.features.0.name=vit"]
    changes += ["model.features.1.backbone=encoders/text", "training.epochs=1", "training.warmup_epochs=0"]
    options = ["--preset", "winner-2026", "--device", "cpu", "--on-bad-clip", "skip", "--set", *changes]
    done = run_command("train", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "winner-2026-seed1"
    assert Run(run).finished
    done = run_command("predict", "--ckpt", run, "--on-bad-clip", "skip", "--split", "test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
