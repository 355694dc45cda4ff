"""One optimiser step on the groups of a batch, for any loss and any number of processes that share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from abaw_emi.batching.loader import Step
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.errors import Problem, TrainingError, show_first
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.gradients import Gradients, Place
from abaw_emi.training.optimisation.optim import ExponentialAverage, Plateau, build_optimizer, set_rates

_ADVICE = "lower training.learning_rate or use --precision fp32; the last whole checkpoint is kept"

_FP16_SCALE = 2.0**10  # CODE: the loss scaler's first scale


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave; its tensors are still on the device, so that nothing has to wait for it.

    Attributes:
        loss: of the whole step, over all processes; `size` clips.
        filenames: the clips of this process.
        finite: (B,) bool, whether the intensities of each of them are finite.
    """

    place: Place
    loss: Tensor
    size: int
    filenames: list[str]
    finite: Tensor

    def check(self) -> float:
        """The loss; waits for the device.

        Raises:
            TrainingError: it is not finite, or the intensities of clips, which are named, are not.
        """
        finite = self.finite.tolist()
        broken = [name for name, good in zip(self.filenames, finite, strict=True) if not good]
        loss = float(self.loss)
        if broken or not math.isfinite(loss):
            of = f" for {len(broken)} of {len(finite)} clips: {show_first(broken)}" if broken else ""
            raise TrainingError(Problem(str(self.place), f"the loss is not finite{of}", next_step=_ADVICE))
        return loss


class TrainStep:
    """The weights, and what changes them: loss, optimiser, loss scaler, average.

    Args:
        model: on the runtime's device.
        config: how the run trains.
        runtime: what it runs with.
    """

    def __init__(self, model: EmiModel, config: TrainingConfig, runtime: Runtime) -> None:
        self.model = model
        self.config = config
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(
            runtime.device.type, init_scale=_FP16_SCALE, enabled=runtime.precision == "fp16"
        )
        clear = partial(self.optimizer.zero_grad, set_to_none=False)
        self.gradients = Gradients(model, config, runtime, self.scaler, clear)
        self.average = ExponentialAverage(model, config.ema_decay) if config.ema_decay else None
        self.plateau = Plateau() if config.schedule == "plateau" else None
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in self.weights:
            weight.grad = torch.zeros_like(weight)  # every weight has one, on every process, in every step

    def run(self, step: Step, place: Place, remake: Callable[[int], Step]) -> Outcome:
        """Runs one step.

        Args:
            step: the clips.
            place: seeds the dropouts.
            remake: makes the same step again, in groups of at most so many clips.

        Raises:
            TrainingError: a single clip does not fit the memory.
        """
        step, outputs, loss = self.gradients.compute(step, place, remake)
        self.gradients.sums.finish()
        self.scaler.unscale_(self.optimizer)
        # A loss scaler skips such a step. Looked at before the weights change; a GPU has to be waited for.
        if not self.scaler.is_enabled() and not _are_finite(self._grads()):
            self._blame(remake(1), place)
        if self.config.clip_grad_value:
            torch.nn.utils.clip_grad_value_(self.weights, self.config.clip_grad_value)
        if self.config.clip_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.weights, self.config.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        filenames = [filename for group in step.groups for filename in group.filenames]
        return Outcome(place, loss, step.size, filenames, outputs.isfinite().all(dim=1))

    def _blame(self, step: Step, place: Place) -> NoReturn:
        """Names the clips of this process, one a group, whose own gradients are not finite."""
        broken: list[str] = []
        for index, batch in self.gradients.on_device(step):
            self.optimizer.zero_grad(set_to_none=False)
            output = self.gradients.forward(batch, place, index)
            output.sum().backward()
            if not _are_finite([output, *self._grads()]):
                broken += batch.filenames
        of = f" for {len(broken)} of {step.size} clips: {show_first(broken)}" if broken else ""
        raise TrainingError(Problem(str(place), f"the gradient is not finite{of}", next_step=_ADVICE))

    def _grads(self) -> list[Tensor]:
        return [weight.grad for weight in self.weights if weight.grad is not None]

    def set_rate(self, done: float) -> None:
        """Sets each group of weights to its learning rate after `done` epochs."""
        set_rates(self.optimizer, self.config, done, self.plateau)

    def note(self, mean_pearson: float) -> None:
        """Takes an epoch's validation into account, where the schedule asks for it."""
        if self.plateau is not None:
            self.plateau.note(mean_pearson, self.config)

    @property
    def learning_rate(self) -> float:
        """The rate of the newest layers, the highest of all."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has its averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.swapped()

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "most": self.gradients.most,
            "joined": self.gradients.joined,
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.plateau is not None:
            self.plateau = Plateau(**state["plateau"])
        self.gradients.most = state["most"]
        self.gradients.joined = state.get("joined", self.gradients.joined)


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no value is infinite or not a number; a GPU is waited for once, and not for each tensor."""
    return bool(torch.stack([values.isfinite().all() for values in tensors]).all())
