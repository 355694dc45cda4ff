"""metrics.jsonl: a line an epoch, and a line every few steps; the same to TensorBoard, if it is installed.

Lines of an epoch hold `epoch` (counted from 1), `train_loss`, `learning_rate`, `clips_per_second`,
`padding_efficiency` and, where there is validation, `valid`; lines inside an epoch hold `step` and `loss`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw_emi.core.files import open_whole
from abaw_emi.evaluation.score import Score
from abaw_emi.runs.metrics import read_metrics
from abaw_emi.training.checkpoint import Checkpoint

TENSORBOARD_FOLDER = "tensorboard"


@dataclass(slots=True)
class Times:
    """What this process spent: seconds of training and of validation, and the clips trained on."""

    training: float = 0.0
    validation: float = 0.0
    clips: int = 0

    @property
    def clips_per_second(self) -> float:
        """Of training."""
        return self.clips / self.training


class MetricsLog:
    """The metrics of a run, in its folder.

    Args:
        path: of metrics.jsonl.
        active: whether anything is written; only the first of several processes writes.
    """

    def __init__(self, path: Path, *, active: bool = True) -> None:
        self.path = path
        self._active = active
        self._board: Any = None

    def append(self, number: int, **values: Any) -> None:
        """Writes a line; `number` counts the run's steps, for TensorBoard's axis."""
        if not self._active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in _flatten(values):
                self._board.add_scalar(name, value, number)

    def cut(self, epochs: int, step: int) -> None:
        """Drops what was written after `epochs` whole epochs and `step` steps: it will be written again."""
        if not self._active:
            return
        kept = []
        for line in read_metrics(self.path):
            position = (line["epoch"], line["step"]) if "step" in line else (line["epoch"] + 1, 0)
            if position <= (epochs + 1, step):
                kept.append(json.dumps(line) + "\n")
        with open_whole(self.path) as file:
            file.write("".join(kept).encode())

    def show(self, number: int) -> None:
        """Writes to TensorBoard too, from step `number` on, if it is installed."""
        if not self._active:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        folder = self.path.parent / TENSORBOARD_FOLDER
        self._board = SummaryWriter(str(folder), purge_step=number + 1)

    def close(self) -> None:
        """Writes what TensorBoard has not written yet."""
        if self._board is not None:
            self._board.close()


def format_epoch(at: Checkpoint, epochs: int, loss: float, valid: Score | None) -> str:
    """How far a run is, in words: the epoch just done, its loss, and its score if it was validated."""
    text = f"epoch {at.epoch}/{epochs}: loss {loss:.4f}"
    if valid is not None:
        text += f", valid mean Pearson {valid.mean_pearson:.4f}"
        text += " (best)" if at.best_epoch == at.epoch else f" (best {at.best:.4f})"
        if valid.undefined:
            text += f", undefined for {', '.join(valid.undefined)}"
    return text


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line, by names such as "valid/pearson/Joy"; its place in the run is no metric."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif value is not None and prefix + name not in ("epoch", "step"):
            yield prefix + name, value
