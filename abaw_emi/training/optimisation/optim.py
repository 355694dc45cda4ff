"""Adam or AdamW over a model's weights, slower the further down in the encoder a weight lies; its rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.errors import show_first
from abaw_emi.models.emi import EmiModel

_THRESHOLD = 1e-4
"""Of ReduceLROnPlateau: by so much more than the best one a validation is better."""


def build_optimizer(model: EmiModel, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW or Adam over the weights that are trained, a group for each level of the model, the head first.

    A level learns at `config.layer_decay` times the rate of the level above it (Howard and Ruder, arXiv
    1801.06146, section 3.2; per transformer layer as Clark et al., arXiv 2003.10555, do it). From the
    top: the new layers (branches, LSTM, head) at the whole rate; the VAD head; the encoder's layers,
    last to first; what leads to them; the convolutions that read the waveform. Levels without trained
    weights do not count. Without decay there is one group, in the model's order. `config.encoder_rate` and a
    branch's `rate` divide these groups further.

    Each group has its peak rate as "lr", and as "initial_lr" for schedules, which multiply it. Weight
    decay is on all weights (CODE).

    Args:
        model: already on its device.
        config: the rates.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    levels: dict[tuple[int, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        height = 0 if config.layer_decay == 1 else _height(name, model)
        levels.setdefault((height, _find_rate(name, model, config)), []).append(weight)
    distances = {height: place for place, height in enumerate(sorted({h for h, _ in levels}, reverse=True))}
    groups = []
    for height, share in sorted(levels, reverse=True):
        rate = config.learning_rate * config.layer_decay ** distances[height] * share
        groups.append({"params": levels[height, share], "lr": rate, "initial_lr": rate})
    on_gpu = all(weight.is_cuda for weight in weights.values())
    # None lets torch choose, which on a CPU is the loop over weights.
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=on_gpu or None)


def _find_rate(name: str, model: EmiModel, config: TrainingConfig) -> float:
    """The share of the rate at which the part of a weight learns."""
    if name.startswith(("encoder.", "vad_head.")):
        return config.encoder_rate
    text = model.text_feature
    if name.startswith("text.") and text is not None:
        return text.rate
    part, _, rest = name.partition(".")
    return model.parts.features[int(rest.partition(".")[0])].rate if part == "branches" else 1.0


def _height(name: str, model: EmiModel) -> int:
    """How far the weight called `name` is above the waveform: 0 for the first convolutions."""
    encoder = model.encoder
    layers = 0 if encoder is None else encoder.layers
    if encoder is None or not name.startswith("encoder."):
        return layers + 2 if name.startswith("vad_head.") else layers + 3
    return encoder.find_level(name.removeprefix("encoder."))


def rate_factor(done: float, *, warmup: float, epochs: int) -> float:
    """The share of the peak learning rate, in [0, 1], after `done` epochs; `warmup` of them are warm-up.

    That of transformers' get_cosine_schedule_with_warmup where all epochs have as many steps; counted in
    epochs, because batches of so many seconds do not come to the same number every epoch. It needs no
    state: where a run stands says it all.

    >>> [round(rate_factor(done, warmup=1, epochs=3), 3) for done in (0, 0.5, 1, 2, 2.5)]
    [0.0, 0.5, 1.0, 0.5, 0.146]
    """
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / max(epochs - warmup, 1e-9))) / 2


@dataclass(slots=True)
class Plateau:
    """The share of the learning rate after epochs without a better validation: torch's ReduceLROnPlateau.

    Attributes:
        share: of the peak learning rate, in (0, 1].
        best: the validation mean Pearson that a better one exceeds by more than a ten thousandth of it.
        waited: epochs since then, or since the last fall.
    """

    share: float = 1.0
    best: float = -math.inf
    waited: int = 0

    def note(self, mean_pearson: float, config: TrainingConfig) -> None:
        """Takes an epoch's validation into account."""
        if mean_pearson > self.best * (1 + _THRESHOLD):
            self.best, self.waited = mean_pearson, 0
            return
        self.waited += 1
        if self.waited > config.plateau_epochs:
            self.share, self.waited = self.share * config.plateau_factor, 0

    def state_dict(self) -> dict[str, Any]:
        """All that `Plateau(**state)` needs."""
        return asdict(self)


def set_rates(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, done: float, plateau: Plateau | None
) -> None:
    """Sets each group of weights to its learning rate after `done` epochs.

    Args:
        optimizer: whose groups have their peak rates as "initial_lr".
        config: the schedule.
        done: epochs, with fractions.
        plateau: of the schedule "plateau"; None for the cosine.
    """
    if plateau is None:
        factor = rate_factor(done, warmup=config.warmup_epochs, epochs=config.cosine_epochs)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return
    warm = min(1.0, done / config.warmup_epochs) if config.warmup_epochs else 1.0
    for group in optimizer.param_groups:
        peak = group["initial_lr"]
        group["lr"] = max(peak * plateau.share, min(peak, config.plateau_rate)) * warm


class ExponentialAverage:
    """Averages of all weights that are trained, in float32 or wider, on the device of the weights.

    average <- d average + (1 - d) weight after each step, with d = min(decay, (1 + t) / (10 + t)) after t
    updates: so the first steps are forgotten early (the rule of `num_updates` in TensorFlow's
    tf.train.ExponentialMovingAverage). Buffers are not averaged: they stay the model's own.

    Args:
        model: already on its device; its weights at this point are the first average.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._names = list(trained)
        self._weights: list[Tensor] = list(trained.values())
        self._averages = [
            weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
            for weight in self._weights
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights of the step just done into the averages; the CPU does not wait for a GPU."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [
            weight.to(average.dtype) for weight, average in zip(self._weights, self._averages, strict=True)
        ]
        torch._foreach_lerp_(self._averages, weights, 1 - decay)
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model with its averages for weights; afterwards it has its own again, bit by bit."""
        # Copied and not exchanged: the weights' memory stays where it is, which cuDNN's LSTM and compiled
        # code rely on.
        own = [weight.detach().clone() for weight in self._weights]
        try:
            self._set(self._averages)
            yield
        finally:
            self._set(own)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to continue exactly; the tensors are the averages themselves."""
        return {"updates": self.updates, "averages": dict(zip(self._names, self._averages, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was called.

        Raises:
            ValueError: the averages are not those of this model's trained weights.
        """
        saved: dict[str, Tensor] = state["averages"]
        shapes = {name: value.shape for name, value in saved.items()}
        here = {name: value.shape for name, value in zip(self._names, self._averages, strict=True)}
        if shapes != here:
            odd = sorted(name for name in shapes.keys() | here.keys() if shapes.get(name) != here.get(name))
            raise ValueError(f"averages of other weights than the model trains: {show_first(odd)}")
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(saved[name])
        self.updates = state["updates"]

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)
