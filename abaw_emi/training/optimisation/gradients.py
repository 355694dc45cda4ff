"""A step's outputs, loss and gradients, in the memory that there is.

On a GPU all groups of a step are encoded, and what follows runs once for all of them, where their graphs
fit together; else, and on a CPU, which gains nothing by that, one group goes forward and backward after the
other. Either way the gradients are those of the whole batch, over all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from abaw_emi.batching.batches import Batch, join_batches
from abaw_emi.batching.loader import Step
from abaw_emi.batching.seeding import seed_dropout
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import Problem, TrainingError
from abaw_emi.models.device import Runtime, empty_memory, memory_errors
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.losses import Loss
from abaw_emi.training.optimisation.sums import GradientSums

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a step is: `epoch` and `step` count from 0."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


class Gradients:
    """Computes them, and remembers what did not fit the memory.

    Args:
        model: on the runtime's device.
        config: how the run trains.
        runtime: what it runs with.
        scaler: of the loss.
        clear: sets all gradients to zero.

    Attributes:
        most: the largest group that fits the memory, if one did not; a resumed run starts with it.
        joined: whether a step's groups are held in memory together.
        sums: of the gradients over the processes; to be finished after `compute`.
    """

    def __init__(
        self,
        model: EmiModel,
        config: TrainingConfig,
        runtime: Runtime,
        scaler: torch.amp.GradScaler,
        clear: Callable[[], None],
    ) -> None:
        self.most: int | None = None
        self.joined = runtime.device.type == "cuda"
        self._model = model
        self._seed = config.seed
        self._runtime = runtime
        self._world = runtime.world
        self._device = runtime.device
        self._scaler = scaler
        self._clear = clear
        self._loss = Loss(
            config.loss,
            beta=config.loss_beta,
            ramp_epochs=config.ramp_epochs,
            auxiliary=[(weight, config.auxiliary_loss) for weight in model.parts.auxiliary_weights if weight],
        )
        self._label_width = len(EMOTIONS) + (config.clip_weights != "equal")
        self.sums = GradientSums(self._world, [each for each in model.parameters() if each.requires_grad])
        fusion = model.parts.fusion
        self._apart = fusion.kind == "mean" and fusion.one_at_a_time

    def compute(self, step: Step, place: Place, remake: Callable[[int], Step]) -> tuple[Step, Tensor, Tensor]:
        """The step as it was run, the outputs (N, W) of this process, and the loss of all of them.

        The gradients are those of this process's clips. Takes and raises what `TrainStep.run` does.
        """
        if self.most is not None and any(len(group) > self.most for group in step.groups):
            step = remake(self.most)
        if self.joined and (done := self._run_joined(step, place)):
            return step, *done
        if not self._loss.separable:
            return self._run_twice(step, place, remake)
        step, (outputs, loss) = self._retry(step, place, remake, self._backward)
        self._world.sum([loss])
        return step, outputs, loss

    def forward(self, batch: Batch, place: Place, index: int) -> Tensor:
        """The outputs (B, W) of a step's group of this number."""
        self._seed_dropout(place, index)
        with self._runtime.autocast():
            return batch.run(self._model, for_loss=True)

    def on_device(self, step: Step) -> Iterator[tuple[int, Batch]]:
        """The groups of a step, numbered."""
        return ((index, batch.to(self._device)) for index, batch in enumerate(step.groups))

    def _run_joined(self, step: Step, place: Place) -> tuple[Tensor, Tensor] | None:
        """Outputs and loss; None where the memory is too small, and from then on nothing is joined.

        The time steps of a recurrent layer wait for each other: they are as many as the longest clip has
        then, and not as many as the longest clips of all groups have.
        """
        self._clear()
        self.sums.prepare()
        outputs = self._fit(partial(self._predict_joined, step, place))
        if outputs is not None:
            grads, loss = self._output_grads(outputs.detach(), step, self._loss.at(place.epoch))
            if self._fit(partial(self._backward_joined, outputs, grads)) is not None:
                return outputs.detach(), loss
        self.sums.discard()
        outputs, self.joined = None, False  # the graphs of all groups are let go of
        found = f"the graphs of {step.size} clips do not fit the device's memory together"
        self._warn(place, found, "one group after the other from here on")
        return None

    def _fit(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; None where the memory of any process was too small."""
        result = None
        with suppress(torch.OutOfMemoryError), memory_errors():
            result = work()
        return None if self._world.most(result is None) else result

    def _predict_joined(self, step: Step, place: Place) -> Tensor:
        """The outputs (N, W) with the graph of all groups."""
        encoded = []
        for index, batch in self.on_device(step):
            self._seed_dropout(place, index)
            with self._runtime.autocast():
                encoded.append(batch.encoded(self._model))
        if not encoded:  # a process may have no clip of a small last batch
            return torch.cat(self._no_outputs())
        whole = join_batches(encoded)
        self._seed_dropout(place, len(encoded))
        with self._runtime.autocast():
            return self._model.regress(whole.frames, whole.lengths, whole.modalities, for_loss=True)

    def _backward_joined(self, outputs: Tensor, grads: Tensor) -> bool:
        with self.sums.during_backward():
            if len(outputs):
                self._scaler.scale((outputs * grads).sum()).backward()
        return True

    def _run_twice(
        self, step: Step, place: Place, remake: Callable[[int], Step]
    ) -> tuple[Step, Tensor, Tensor]:
        """Outputs and loss of all clips first, then the gradients; in the same groups, on every process.

        Other groups have other dropouts: where the second pass needs smaller ones, the first is repeated.
        """
        while True:
            step, outputs = self._retry(step, place, remake, self._predict)
            grads, loss = self._output_grads(outputs, step, self._loss.at(place.epoch))
            done, _ = self._retry(step, place, remake, partial(self._backward_from, grads=grads))
            if not self._world.most(done is not step):
                return step, outputs, loss
            step = done

    def _backward(self, step: Step, place: Place) -> tuple[Tensor, Tensor]:
        """Adds up the gradients of a loss that is a mean over clips; the outputs, and this share's loss."""
        outputs, total = self._no_outputs(), torch.zeros((), device=self._device)
        for index, batch in self.on_device(step):
            output = self.forward(batch, place, index)
            assert batch.intensities is not None
            loss = self._loss.at(place.epoch)(output, batch.intensities) * (len(batch) / step.size)
            self._scaler.scale(loss).backward()
            outputs.append(output.detach())
            total += loss.detach()
        return torch.cat(outputs), total

    def _predict(self, step: Step, place: Place) -> Tensor:
        """The outputs (N, W) in training mode, without a graph."""
        outputs = self._no_outputs()
        with torch.no_grad():
            outputs += [self.forward(batch, place, index) for index, batch in self.on_device(step)]
        return torch.cat(outputs)

    def _output_grads(self, outputs: Tensor, step: Step, loss: Loss) -> tuple[Tensor, Tensor]:
        """The gradient of `loss` of all processes' clips by this one's outputs (N, W), and that loss."""
        labels = [batch.intensities for batch in step.groups if batch.intensities is not None]
        truth = torch.cat(labels) if labels else torch.zeros(0, self._label_width)
        heads = self._heads(step)
        shares = [(outputs, truth.to(self._device, non_blocking=True), heads)]
        if self._world.size > 1:
            shares = self._world.gather((outputs.cpu(), truth, heads))
        every_output, every_truth, every_head = map(torch.cat, zip(*shares, strict=True))
        apart = every_head.to(every_output.device) if self._apart else None
        start = sum(step.counts[: self._world.rank])
        grads = loss.gradient(every_output, every_truth, apart)[start : start + len(outputs)]
        return grads.to(outputs), loss(every_output, every_truth, apart).detach().to(self._device)

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
        for index, batch in self.on_device(step):
            output = self.forward(batch, place, index)
            self._scaler.scale((output * grads[start : start + len(batch)]).sum()).backward()
            start += len(batch)

    def _seed_dropout(self, place: Place, index: int) -> None:
        seed_dropout(self._seed, place.epoch, place.step, self._world.rank, index)

    def _no_outputs(self) -> list[Tensor]:
        """What outputs are appended to: a process may have no clip of a small last batch."""
        return [torch.zeros(0, self._model.output_width, device=self._device)]

    def _retry(
        self, step: Step, place: Place, remake: Callable[[int], Step], work: Callable[[Step, Place], T]
    ) -> tuple[Step, T]:
        """`work`, repeated in groups of half the size while the memory is too small."""
        while True:
            self._clear()
            try:
                with memory_errors():
                    return step, work(step, place)
            except torch.OutOfMemoryError as error:
                largest = max(len(group) for group in step.groups)
                if largest == 1:
                    found = "one clip does not fit the device's memory"
                    advice = "shorten clips with --set data.max_seconds, or use a device with more memory"
                    raise TrainingError(Problem(str(place), found, next_step=advice)) from error
                self.most = largest // 2
            found = f"{largest} clips side by side do not fit the device's memory"
            next_step = f"groups of {self.most} from here on; the gradients stay those of the whole batch"
            self._warn(place, found, next_step)
            step = remake(self.most)

    def _warn(self, place: Place, found: str, next_step: str) -> None:
        # Outside the handler of the error, whose traceback holds on to what filled the memory.
        empty_memory(self._device)
        self._runtime.reporter.warn([Problem(str(place), found, next_step=next_step)])
