"""What a run saves while it trains, each file whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from boltons.fileutils import atomic_save
from transformers.utils import logging as transformers_logging

from abaw_emi.errors import Problem, RunError
from abaw_emi.learning.model import EmiModel
from abaw_emi.learning.runs import Run

_STATE_FILE = "training.pt"


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """Where a run stands: `epoch` epochs are done, and `step` steps of the next one.

    Attributes:
        best: best validation mean Pearson so far; None before the first, and for train+val.
        best_epoch: the epoch (counted from 1) whose weights lie in `best_folder`; 0 for none.
        pearson: that epoch's validation r per emotion.
        loss_sum: sum of the losses of this epoch's clips so far.
        loss_clips: how many clips that are.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    pearson: dict[str, float | None] = field(default_factory=dict)
    loss_sum: float = 0.0
    loss_clips: int = 0


def write_checkpoint(run: Run, at: Checkpoint, states: Mapping[str, Any]) -> None:
    """Saves what resuming needs, `at` and the state dicts of `states`, and drops weights no longer best."""
    run.state_folder.mkdir(parents=True, exist_ok=True)
    with atomic_save(str(run.state_folder / _STATE_FILE), text_mode=False, overwrite_part=True) as file:
        torch.save({"at": asdict(at), **states}, file)
    for folder in run.state_folder.glob("best-*"):
        if folder != best_folder(run, at.best_epoch):
            shutil.rmtree(folder)


def read_checkpoint(run: Run) -> tuple[Checkpoint, dict[str, Any]] | None:
    """What `write_checkpoint` saved last; None where nothing was saved yet.

    Raises:
        RunError: it is damaged.
    """
    path = run.state_folder / _STATE_FILE
    if not path.is_file():
        return None
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**states.pop("at")), states
    except Exception as error:  # torch and zipfile raise many kinds on damaged files
        found = f"a damaged checkpoint: {str(error).splitlines()[0]}"
        raise RunError(Problem(str(path), found, next_step="train anew with --overwrite")) from error


def save_model(model: EmiModel, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors` into `folder`, the second one last."""
    transformers_logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model-") as staging:
        model.save_pretrained(staging)
        for path in sorted(Path(staging).iterdir()):
            path.replace(folder / path.name)


def best_folder(run: Run, epoch: int) -> Path:
    """Where the weights of an epoch wait, beside the checkpoint that names it, until the run is done."""
    return run.state_folder / f"best-{epoch}"


def install_best(run: Run, epoch: int) -> None:
    """Moves the weights of the best epoch into the run folder; nothing to do if that was done before."""
    for path in sorted(best_folder(run, epoch).glob("*")):
        path.replace(run.folder / path.name)
