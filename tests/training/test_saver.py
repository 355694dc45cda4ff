"""What is saved is what was there when the save began, whatever training does meanwhile."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from abaw_emi.core.errors import Problem, TrainingError
from abaw_emi.core.hashing import hash_file
from abaw_emi.runs.run import Run
from abaw_emi.training import saver
from abaw_emi.training.checkpoint import Checkpoint, best_folder, read_checkpoint
from abaw_emi.training.saver import Saver
from tests.small_models import small_model


def test_what_changes_while_it_is_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, write = Event(), saver.write_checkpoint

    def write_later(*arguments: Any) -> None:
        assert go_on.wait(60)
        write(*arguments)

    monkeypatch.setattr(saver, "write_checkpoint", write_later)
    run, model = Run(tmp_path), small_model("logmel")
    at = Checkpoint(epoch=1, step=2, best_epoch=1)
    state = {"steps": torch.ones(3), "groups": [{"lr": 0.5, "sum": torch.zeros(2)}]}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Saver(run, model) as saving:
        saving.keep()
        saving.save(at, state)
        at.step = 9
        state["steps"].zero_()
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
        go_on.set()
    found = read_checkpoint(run)
    assert found is not None
    assert (found[0].epoch, found[0].step) == (1, 2)
    assert torch.equal(found[1]["steps"], torch.ones(3))
    assert found[1]["groups"][0]["lr"] == 0.5
    weights = best_folder(run, 1) / "model.safetensors"
    saved = load_file(weights)
    assert all(torch.equal(saved[name], value) for name, value in before.items())
    assert found[0].best_files["model.safetensors"] == hash_file(weights)


def test_what_could_not_be_written_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise TrainingError(Problem("a file", "cannot be saved: the disk is full"))

    monkeypatch.setattr(saver, "write_checkpoint", fail)
    saving = Saver(Run(tmp_path), small_model("logmel"))
    saving.save(Checkpoint(), {})
    with pytest.raises(TrainingError, match="the disk is full"):
        saving.save(Checkpoint(), {})
    saving.save(Checkpoint(), {})
    with pytest.raises(TrainingError, match="the disk is full"):
        saving.__exit__(None)
