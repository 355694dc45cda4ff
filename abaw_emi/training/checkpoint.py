"""What a run saves while it trains, each file whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import logging as transformers_logging

from abaw_emi.core.errors import Problem, RunError, TrainingError, shorten_error
from abaw_emi.core.files import open_whole
from abaw_emi.core.hashing import hash_file
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run

_MODEL_FILES = ("config.json", "model.safetensors")
"""What `save_pretrained` writes, the weights last."""

KEPT = 2
"""Whole checkpoints that are kept: if the last one is damaged, the one before it is used."""

_NAME = "training-{epoch:05}-{step:07}-best{best_epoch:05}.pt"


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """Where a run stands: `epoch` epochs are done, and `step` steps of the next one.

    Attributes:
        best: best validation mean Pearson so far; None before the first, and for train+val.
        best_epoch: the epoch (counted from 1) whose weights lie in `best_folder`; 0 for none.
        best_files: SHA-256 of the files there, by name; empty for none, and in checkpoints of before.
        pearson: that epoch's validation r per emotion.
        loss_sum: sum of the losses of this epoch's clips so far.
        loss_clips: how many clips that are.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    best_files: dict[str, str] = field(default_factory=dict)
    pearson: dict[str, float | None] = field(default_factory=dict)
    loss_sum: float = 0.0
    loss_clips: int = 0


def write_checkpoint(run: Run, at: Checkpoint, state: Mapping[str, Any]) -> None:
    """Saves what resuming needs, `at` and `state`; drops what only checkpoints before the last two need."""
    run.state_folder.mkdir(parents=True, exist_ok=True)
    path = run.state_folder / _NAME.format(epoch=at.epoch, step=at.step, best_epoch=at.best_epoch)
    try:
        with open_whole(path) as file:
            torch.save({"at": asdict(at), "state": state}, file)
    except (OSError, RuntimeError) as error:
        cause = error.__context__ or error  # torch hides that the disk is full
        raise TrainingError(Problem(str(path), f"cannot be saved: {cause}")) from error
    for part in run.state_folder.glob("*.part"):  # of processes that were killed while they saved
        part.unlink()
    kept, dropped = _checkpoints(run)[:KEPT], _checkpoints(run)[KEPT:]
    for path in dropped:
        path.unlink()
    needed = {best_folder(run, int(path.stem.rpartition("best")[2])) for path in kept}
    for folder in run.state_folder.glob("best-*"):
        if folder not in needed:
            shutil.rmtree(folder)


def read_checkpoint(run: Run) -> tuple[Checkpoint, dict[str, Any], list[Problem]] | None:
    """What `write_checkpoint` saved last, or before that; None where nothing was saved yet.

    Returns:
        Where the run stands, its state, and a warning for each later checkpoint that is damaged.

    Raises:
        RunError: all are damaged.
    """
    problems: list[Problem] = []
    for path in _checkpoints(run):
        try:
            with zipfile.ZipFile(path) as archive:  # torch does not look at its own checksums
                if archive.testzip() is not None:
                    raise ValueError("its checksum is wrong")
            saved = torch.load(path, map_location="cpu", weights_only=True)
            return Checkpoint(**saved["at"]), saved["state"], problems
        except Exception as error:  # torch and zipfile raise many kinds on damaged files
            found = f"a damaged checkpoint: {shorten_error(error)}"
            problems.append(Problem(str(path), found, next_step="going on from the one before it"))
    if not problems:
        return None
    step = "train again with --overwrite"
    raise RunError(Problem(problem.where, problem.found, next_step=step) for problem in problems)


def _checkpoints(run: Run) -> list[Path]:
    """The whole checkpoints of a run, the last one first."""
    return sorted(run.state_folder.glob("training-*.pt"), reverse=True)


def save_model(model: EmiModel, folder: Path, weights: dict[str, Tensor] | None = None) -> dict[str, str]:
    """Writes `config.json` and `model.safetensors` into `folder`, the second one last, and to the disk.

    Args:
        model: whose configuration and weights are saved.
        folder: is made, if need be.
        weights: other weights of the model, by name.

    Returns:
        The SHA-256 of each.
    """
    transformers_logging.disable_progress_bar()
    try:
        return _save_model(model, folder, weights)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of these
        raise TrainingError(Problem(str(folder), f"cannot be saved: {shorten_error(error)}")) from error


def _save_model(model: EmiModel, folder: Path, weights: dict[str, Tensor] | None) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model-") as staging:
        model.save_pretrained(staging, state_dict=weights)
        hashes = {}
        for name in _MODEL_FILES:
            path = Path(staging) / name
            path.chmod(0o644)  # safetensors writes for its owner alone
            with path.open("r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
            hashes[name] = hash_file(path)
            path.replace(folder / name)
    return hashes


def check_weights(model: EmiModel) -> None:
    """Passes if all weights are finite.

    Raises:
        TrainingError: some are not; they are named.
    """
    broken = [name for name, values in model.state_dict().items() if not values.isfinite().all()]
    if broken:
        found = f"not finite in {len(broken)} tensors: {', '.join(broken[:5])}"
        step = "lower training.learning_rate, or use --precision fp32; the last whole checkpoint is kept"
        raise TrainingError(Problem("the weights", found, next_step=step))


def best_folder(run: Run, epoch: int) -> Path:
    """Where the weights of an epoch wait, beside the checkpoint that names it, until the run is done."""
    return run.state_folder / f"best-{epoch}"


def install_best(run: Run, at: Checkpoint) -> None:
    """Moves the weights of the best epoch into the run folder; nothing to do if that was done before.

    Raises:
        RunError: they are not what was saved: the disk, or somebody, changed or removed them.
    """
    waiting = {name: best_folder(run, at.best_epoch) / name for name in _MODEL_FILES}
    paths = {name: path if path.exists() else run.folder / name for name, path in waiting.items()}
    problems = []
    for name, expected in at.best_files.items():
        found = f"SHA-256 {hash_file(paths[name])}" if paths[name].is_file() else "is not there"
        if expected not in found:
            step = "these weights are lost: train again with --overwrite"
            problems.append(Problem(str(paths[name]), found, f"{expected}, as it was saved", step))
    if problems:
        raise RunError(problems)
    for name, path in paths.items():
        path.replace(run.folder / name)
