"""metrics.jsonl: a line an epoch, and a line every few steps; the same to TensorBoard where it is installed.

Lines of an epoch hold `epoch` (counted from 1), `train_loss`, `learning_rate`, `clips_per_second`,
`padding_efficiency` and, where there is validation, `valid`; lines inside an epoch hold `step` and `loss`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boltons.fileutils import atomic_save

from abaw_emi.runs.run import read_metrics

TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """The metrics of a run, in its folder.

    Args:
        path: of metrics.jsonl.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._board: Any = None

    def append(self, number: int, **values: Any) -> None:
        """Writes a line; `number` counts the run's steps, for TensorBoard's axis."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in _flatten(values):
                self._board.add_scalar(name, value, number)

    def cut(self, epochs: int, step: int) -> None:
        """Drops what was written after `epochs` whole epochs and `step` steps: it will be written again."""
        kept = []
        for line in read_metrics(self.path):
            position = (line["epoch"], line["step"]) if "step" in line else (line["epoch"] + 1, 0)
            if position <= (epochs + 1, step):
                kept.append(json.dumps(line) + "\n")
        with atomic_save(str(self.path), text_mode=True, overwrite_part=True) as file:
            file.writelines(kept)

    def show(self, number: int) -> None:
        """Writes to TensorBoard too, from step `number` on, where it is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        folder = self.path.parent / TENSORBOARD_FOLDER
        self._board = SummaryWriter(str(folder), purge_step=number + 1)

    def close(self) -> None:
        """Writes what TensorBoard still holds back."""
        if self._board is not None:
            self._board.close()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line, by names such as "valid/pearson/Joy"; its place in the run is no metric."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif value is not None and prefix + name not in ("epoch", "step"):
            yield prefix + name, value
