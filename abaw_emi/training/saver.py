"""Saves while training goes on: what is written is a copy, in memory, by a thread; one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

from torch import Tensor
from torch.utils import _pytree as pytree

from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.lora import merge_adapters
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import Checkpoint, best_folder, save_model, write_checkpoint


class Saver:
    """Writes the checkpoints of a run, and the weights of its best epoch before the first that names them.

    Args:
        run: the run.
        model: names and orders the weights.

    Attributes:
        best_files: SHA-256 of the files of the best weights, by name, once they are written.
    """

    def __init__(self, run: Run, model: EmiModel) -> None:
        self.best_files: dict[str, str] = {}
        self._run = run
        self._model = model
        self._weights: dict[str, Tensor] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits until all is written.

        Raises:
            TrainingError: it could not be, and nothing else went wrong.
        """
        self._pool.shutdown()
        if kind is None:
            self.wait()

    def keep(self) -> None:
        """Copies the weights that the model has now, the best so far; the next save writes them."""
        self.wait()
        self._weights = _copy(merge_adapters(self._model.state_dict(), self._model.parts.tuning))

    def save(self, at: Checkpoint, state: Mapping[str, Any]) -> None:
        """Begins to write a checkpoint, when the one before is written.

        Raises:
            TrainingError: that could not be written.
        """
        self.wait()
        weights, self._weights = self._weights, None
        self._last = self._pool.submit(self._write, replace(at), _copy(state), weights)

    def wait(self) -> None:
        """Waits until all is written.

        Raises:
            TrainingError: it could not be.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def _write(self, at: Checkpoint, state: Mapping[str, Any], weights: dict[str, Tensor] | None) -> None:
        if weights is not None:
            self.best_files = save_model(self._model, best_folder(self._run, at.best_epoch), weights)
        write_checkpoint(self._run, replace(at, best_files=self.best_files), state)


def _copy(state: Any) -> Any:
    """The same with each tensor copied to the CPU."""
    return pytree.tree_map_only(Tensor, lambda values: values.detach().to("cpu", copy=True), state)
