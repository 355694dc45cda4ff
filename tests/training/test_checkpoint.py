from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
import torch

from abaw_emi.core.errors import RunError, TrainingError
from abaw_emi.core.hashing import hash_file
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import (
    Checkpoint,
    best_folder,
    check_weights,
    install_best,
    read_checkpoint,
    save_model,
    write_checkpoint,
)
from tests.small_models import small_model


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has saved three times; its best weights are those of epochs 1, 1 and 2."""
    run = Run(tmp_path / "run")
    for epoch, step, best_epoch in ((1, 0, 1), (1, 3, 1), (2, 0, 2)):
        best_folder(run, best_epoch).mkdir(parents=True, exist_ok=True)
        at = Checkpoint(epoch=epoch, step=step, best_epoch=best_epoch)
        write_checkpoint(run, at, {"weights": torch.full((1_000,), float(10 * epoch + step))})
    return run


def saved(run: Run) -> list[Path]:
    return sorted(run.state_folder.glob("training-*.pt"))


def test_the_last_two_are_kept_with_the_weights_that_they_name(run: Run) -> None:
    assert len(saved(run)) == 2
    assert sorted(path.name for path in run.state_folder.glob("best-*")) == ["best-1", "best-2"]
    write_checkpoint(run, Checkpoint(epoch=2, step=4, best_epoch=2), {})
    assert sorted(path.name for path in run.state_folder.glob("best-*")) == ["best-2"]


def test_the_last_one_is_read(run: Run) -> None:
    found = read_checkpoint(run)
    assert found is not None
    at, state, problems = found
    assert (at.epoch, at.step, at.best_epoch) == (2, 0, 2)
    assert state["weights"].unique().tolist() == [20.0]
    assert not problems


@pytest.mark.parametrize("damage", ["cut", "emptied", "one bit"])
def test_where_the_last_is_damaged_the_one_before_goes_on_and_says_so(run: Run, damage: str) -> None:
    last = saved(run)[-1]
    content = bytearray(last.read_bytes())
    if damage == "one bit":
        middle = content.index(torch.tensor([20.0, 20.0]).numpy().tobytes()) + 4
        content[middle] ^= 1  # torch.load alone would not notice
    last.write_bytes(content[: {"cut": len(content) // 2, "emptied": 0, "one bit": len(content)}[damage]])
    found = read_checkpoint(run)
    assert found is not None
    at, state, problems = found
    assert (at.epoch, at.step) == (1, 3)
    assert state["weights"].unique().tolist() == [13.0]
    assert [problem.where for problem in problems] == [str(last)]


def test_where_all_are_damaged_each_is_named(run: Run) -> None:
    for path in saved(run):
        path.write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match="--overwrite") as error:
        read_checkpoint(run)
    assert [problem.where for problem in error.value.problems] == list(map(str, reversed(saved(run))))


def test_nothing_saved_is_nothing_read(tmp_path: Path) -> None:
    assert read_checkpoint(Run(tmp_path / "run")) is None


@pytest.fixture
def best(tmp_path: Path) -> tuple[Run, Checkpoint]:
    """A run whose best weights wait to be installed."""
    run = Run(tmp_path / "best")
    return run, Checkpoint(best_epoch=3, best_files=save_model(small_model("logmel"), best_folder(run, 3)))


def test_what_was_saved_is_installed_and_anyone_may_read_it(best: tuple[Run, Checkpoint]) -> None:
    run, at = best
    install_best(run, at)
    install_best(run, at)  # killed after it, and continued
    assert {path.name: hash_file(path) for path in run.folder.iterdir() if path.is_file()} == at.best_files
    assert run.weights_file.stat().st_mode & 0o777 == 0o644


def test_what_is_flushed_to_the_disk_is_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to flush anything else, and with it every training run."""
    flushed = []

    def flush(handle: int) -> None:
        flushed.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", flush)
    save_model(small_model("logmel"), tmp_path / "best")
    write_checkpoint(Run(tmp_path / "run"), Checkpoint(), {})
    assert len(flushed) >= 3
    assert os.O_RDONLY not in flushed


@pytest.mark.parametrize("damage", ["one bit", "emptied", "removed"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_weights_that_changed_while_they_waited_do_not_become_the_runs(
    name: str, damage: str, best: tuple[Run, Checkpoint]
) -> None:
    run, at = best
    path = best_folder(run, 3) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content if damage == "one bit" else b"")
    with pytest.raises(RunError, match=rf"{name}: .*; expected {at.best_files[name]}, as it was saved"):
        install_best(run, at)
    assert not run.weights_file.exists()


def test_a_checkpoint_of_before_names_no_hashes_and_is_installed(best: tuple[Run, Checkpoint]) -> None:
    run, at = best
    install_best(run, Checkpoint(best_epoch=at.best_epoch))
    assert run.weights_file.is_file()


def test_weights_that_are_no_numbers_are_named() -> None:
    model = small_model("logmel")
    check_weights(model)
    with torch.no_grad():
        model.head.projection.bias[2] = float("inf")
    with pytest.raises(TrainingError, match=r"^the weights: not finite in 1 tensors: head\.projection\.bias"):
        check_weights(model)
