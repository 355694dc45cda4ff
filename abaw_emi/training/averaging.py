"""An exponential moving average of the weights, beside the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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
        """All that `load_state_dict` needs to go on exactly; the tensors are the averages themselves."""
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
            raise ValueError(f"averages of other weights than the model trains: {', '.join(odd[:10])}")
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(saved[name])
        self.updates = state["updates"]

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)
