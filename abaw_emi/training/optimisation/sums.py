"""Sums of the gradients over the processes, begun while the backward pass still runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from abaw_emi.models.distributed import World, make_buckets

_BUCKET = 25 * 2**18
"""Values of a sum: 25 MiB of float32, as torch's DistributedDataParallel has it. Its wrapper is not used, see
`models.distributed`."""


class GradientSums:
    """Sums gradients over all processes.

    A bucket is summed in a copy as soon as its weights have their gradients, in the same order on every
    process, so that the pass can be thrown away by all of them together. The copies take as much memory as
    the weights.

    Args:
        world: the processes.
        weights: all that are trained; each has a gradient.
    """

    def __init__(self, world: World, weights: Sequence[nn.Parameter]) -> None:
        self._world = world
        self._weights = list(weights)
        # The last weights have theirs first.
        self._buckets = list(make_buckets(self._weights[::-1], _BUCKET)) if world.size > 1 else []
        self._place = {weight: number for number, bucket in enumerate(self._buckets) for weight in bucket}
        self._copies: list[Tensor] = []
        self._missing: list[int] = []
        self._running: list[Any] = []
        self._armed = False
        for weight in self._place:
            weight.register_post_accumulate_grad_hook(self._count)

    def prepare(self) -> None:
        """Takes the memory that `during_backward` needs."""
        if not self._copies:
            self._copies = [
                torch.cat([weight.detach().reshape(-1) for weight in bucket]) for bucket in self._buckets
            ]

    @contextmanager
    def during_backward(self) -> Iterator[None]:
        """Holds the last backward pass of a step; every process comes here, also one without a clip.

        When it ends, all sums are begun, whatever the pass ended with.
        """
        self._missing = [len(bucket) for bucket in self._buckets]
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
            while len(self._running) < len(self._buckets):
                self._begin()

    def discard(self) -> None:
        """Waits for what was begun, leaves the gradients as they are, and lets go of the memory."""
        for sum_ in self._running:
            sum_.wait()
        self._running, self._copies = [], []

    def finish(self) -> None:
        """The gradients are sums over all processes; begun here if `during_backward` has not."""
        if not self._running:
            self._world.sum([weight.grad for weight in self._weights if weight.grad is not None])
            return
        running, self._running = self._running, []
        for sum_, bucket, copy in zip(running, self._buckets, self._copies, strict=True):
            sum_.wait()
            parts = copy.split([weight.numel() for weight in bucket])
            for weight, part in zip(bucket, parts, strict=True):
                assert weight.grad is not None, "every weight has one"
                weight.grad.copy_(part.view_as(weight.grad))

    def _count(self, weight: nn.Parameter) -> None:
        if not self._armed:
            return
        self._missing[self._place[weight]] -= 1
        while len(self._running) < len(self._buckets) and self._missing[len(self._running)] == 0:
            self._begin()

    def _begin(self) -> None:
        number = len(self._running)
        copy = self._copies[number]
        gradients = [weight.grad for weight in self._buckets[number] if weight.grad is not None]
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=copy)
        self._running.append(self._world.begin_sum(copy))
