"""One optimiser step on the groups of a batch, for any loss and any number of processes that share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from abaw_emi.batching.batches import Batch
from abaw_emi.batching.loader import Step
from abaw_emi.batching.seeding import seed_dropout
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import Problem, TrainingError
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.losses import Loss
from abaw_emi.training.optim import ExponentialAverage, build_optimizer

T = TypeVar("T")

_ADVICE = "lower training.learning_rate or use --precision fp32; the last whole checkpoint is kept"

_FP16_SCALE = 2.0**10  # CODE: the loss scaler's first scale


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a step is: `epoch` and `step` count from 0."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


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
            of = f" for {len(broken)} of {len(finite)} clips: {', '.join(broken[:10])}" if broken else ""
            raise TrainingError(Problem(str(self.place), f"the loss is not finite{of}", next_step=_ADVICE))
        return loss


class TrainStep:
    """The weights, and what changes them: loss, optimiser, loss scaler, average.

    Args:
        model: on the runtime's device.
        config: how the run trains.
        runtime: what it runs with.

    Attributes:
        most: the largest group that fits the memory, if one did not; a resumed run starts with it.
    """

    def __init__(self, model: EmiModel, config: TrainingConfig, runtime: Runtime) -> None:
        self.model = model
        self.config = config
        self.runtime = runtime
        self.world = runtime.world
        self.device = runtime.device
        self.loss = Loss(config.loss, beta=config.loss_beta, ramp_epochs=config.ramp_epochs)
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=_FP16_SCALE, enabled=runtime.precision == "fp16"
        )
        self.average = ExponentialAverage(model, config.ema_decay) if config.ema_decay else None
        fusion = model.parts.fusion
        self._apart = fusion.kind == "mean" and fusion.one_at_a_time
        self.most: int | None = None
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
        if self.most is not None and any(len(group) > self.most for group in step.groups):
            step = remake(self.most)
        if self.loss.separable:
            step, (outputs, loss) = self._retry(step, place, remake, self._backward)
            self.world.sum([loss])
        else:
            step, outputs, loss = self._run_twice(step, place, remake)
        self.world.sum(self._grads())
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

    def _run_twice(
        self, step: Step, place: Place, remake: Callable[[int], Step]
    ) -> tuple[Step, Tensor, Tensor]:
        """Outputs and loss of all clips first, then the gradients; in the same groups, on every process.

        Other groups have other dropouts: where the second pass needs smaller ones, the first is repeated.
        """
        while True:
            step, outputs = self._retry(step, place, remake, self._predict)
            grads, loss = self._output_grads(outputs, step, self.loss.at(place.epoch))
            done, _ = self._retry(step, place, remake, partial(self._backward_from, grads=grads))
            if not self.world.most(done is not step):
                return step, outputs, loss
            step = done

    def _blame(self, step: Step, place: Place) -> NoReturn:
        """Names the clips of this process, one a group, whose own gradients are not finite."""
        broken: list[str] = []
        for index, batch in self._on_device(step):
            self.optimizer.zero_grad(set_to_none=False)
            output = self._forward(batch, place, index)
            output.sum().backward()
            if not _are_finite([output, *self._grads()]):
                broken += batch.filenames
        of = f" for {len(broken)} of {step.size} clips: {', '.join(broken[:10])}" if broken else ""
        raise TrainingError(Problem(str(place), f"the gradient is not finite{of}", next_step=_ADVICE))

    def _grads(self) -> list[Tensor]:
        return [weight.grad for weight in self.weights if weight.grad is not None]

    def set_rate(self, factor: float) -> None:
        """Sets each group of weights to this share of its own peak learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

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
            "most": self.most,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.most = state["most"]

    def _backward(self, step: Step, place: Place) -> tuple[Tensor, Tensor]:
        """Adds up the gradients of a loss that is a mean over clips; the outputs, and this share's loss."""
        outputs, total = self._no_outputs(), torch.zeros((), device=self.device)
        for index, batch in self._on_device(step):
            output = self._forward(batch, place, index)
            assert batch.intensities is not None
            loss = self.loss.at(place.epoch)(output, batch.intensities) * (len(batch) / step.size)
            self.scaler.scale(loss).backward()
            outputs.append(output.detach())
            total += loss.detach()
        return torch.cat(outputs), total

    def _predict(self, step: Step, place: Place) -> Tensor:
        """The outputs (N, 6) in training mode, without a graph."""
        outputs = self._no_outputs()
        with torch.no_grad():
            outputs += [self._forward(batch, place, index) for index, batch in self._on_device(step)]
        return torch.cat(outputs)

    def _output_grads(self, outputs: Tensor, step: Step, loss: Loss) -> tuple[Tensor, Tensor]:
        """The gradient of `loss` of all processes' clips by this one's outputs (N, 6), and that loss."""
        labels = [batch.intensities for batch in step.groups if batch.intensities is not None]
        truth = torch.cat(labels) if labels else torch.zeros(0, outputs.shape[1])
        heads = self._heads(step)
        shares = [(outputs, truth.to(self.device, non_blocking=True), heads)]
        if self.world.size > 1:
            shares = self.world.gather((outputs.cpu(), truth, heads))
        every_output, every_truth, every_head = map(torch.cat, zip(*shares, strict=True))
        apart = every_head.to(every_output.device) if self._apart else None
        start = sum(step.counts[: self.world.rank])
        grads = loss.gradient(every_output, every_truth, apart)[start : start + len(outputs)]
        return grads.to(outputs), loss(every_output, every_truth, apart).detach().to(self.device)

    def _heads(self, step: Step) -> Tensor:
        """(N,) the modality that each clip is predicted from, where that is one; zeros elsewhere."""
        drawn = [
            torch.zeros(len(batch), dtype=torch.long)
            if batch.modalities is None
            else batch.modalities.present.long().argmax(dim=1)
            for batch in step.groups
        ]
        return torch.cat([torch.zeros(0, dtype=torch.long), *drawn])

    def _backward_from(self, step: Step, place: Place, grads: Tensor) -> None:
        """Adds up the weights' gradients; each group runs again, with the dropouts of the first time."""
        start = 0
        for index, batch in self._on_device(step):
            output = self._forward(batch, place, index)
            self.scaler.scale((output * grads[start : start + len(batch)]).sum()).backward()
            start += len(batch)

    def _forward(self, batch: Batch, place: Place, index: int) -> Tensor:
        seed_dropout(self.config.seed, place.epoch, place.step, self.world.rank, index)
        with self.runtime.autocast():
            return batch.run(self.model)

    def _on_device(self, step: Step) -> Iterator[tuple[int, Batch]]:
        return ((index, batch.to(self.device)) for index, batch in enumerate(step.groups))

    def _no_outputs(self) -> list[Tensor]:
        """What outputs are appended to: a process may have no clip of a small last batch."""
        return [torch.zeros(0, len(EMOTIONS), device=self.device)]

    def _retry(
        self, step: Step, place: Place, remake: Callable[[int], Step], work: Callable[[Step, Place], T]
    ) -> tuple[Step, T]:
        """`work`, repeated in groups of half the size while the memory is too small."""
        while True:
            self.optimizer.zero_grad(set_to_none=False)
            try:
                return step, work(step, place)
            except torch.OutOfMemoryError as error:
                largest = max(len(group) for group in step.groups)
                if largest == 1:
                    found = "one clip does not fit the device's memory"
                    advice = "shorten clips with --set data.max_seconds, or use a device with more memory"
                    raise TrainingError(Problem(str(place), found, next_step=advice)) from error
                self.most = largest // 2
            # Outside the handler: the traceback holds on to what filled the memory.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            found = f"{largest} clips side by side do not fit the device's memory"
            next_step = f"groups of {self.most} from here on; the gradients stay those of the whole batch"
            self.runtime.reporter.warn([Problem(str(place), found, next_step=next_step)])
            step = remake(self.most)


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(values.isfinite().all()) for values in tensors)
