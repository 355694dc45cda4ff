"""Several processes train one run together, as `torchrun` starts them; one process is the plain case.

The processes share each batch, and sum the gradients of their clips: the batches do not depend on how
many processes there are. torch's DistributedDataParallel wrapper is not used: it averages over processes,
where clips are to be weighed alike; it wants every process to have as many groups as the others; and it
communicates inside the backward pass, which an out-of-memory group could then not repeat: we do so only where
all processes agree afterwards whether it counts (`training.optimisation.sums`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from abaw_emi.core.errors import EmiError
from abaw_emi.data.shard import Shard

T = TypeVar("T")
Leaf = TypeVar("Leaf", bound=Tensor)

_PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: while the first one decodes all clips, say."""

_BUCKET = 2**25
"""Values that are summed in one go: 128 MiB of float32, so that two buckets are all the memory it takes."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run; every method is called by all of them, in the same order.

    Attributes:
        rank: of this process, from 0.
        size: how many processes there are.
        local_rank: of this process among those on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def run_first(self, work: Callable[[], T]) -> T:
        """What the first process's `work` returns, on every process; all of them end if it fails."""
        value: T | None = None
        failure: EmiError | None = None
        if self.is_main:
            try:
                value = work()
            except EmiError as error:
                failure = error
        value, failed = self.gather((value, failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(1)  # the first process reports why
        return value  # type: ignore[return-value] # the first process has worked

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sums each tensor over the processes, in place, without waiting for the device."""
        if self.size == 1:
            return
        for bucket in make_buckets(tensors, _BUCKET):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def begin_sum(self, tensor: Tensor) -> Any:
        """Begins to sum a tensor over the processes, in place; `wait` of the result ends it."""
        return dist.all_reduce(tensor, async_op=True)

    def most(self, value: int) -> int:
        """The largest value of any process; it goes through the host, so that no GPU is waited for."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value] # filled now


@contextmanager
def join_world() -> Iterator[World]:
    """The processes that `torchrun` started; the only one where it did not."""
    if Shard.read(None).is_whole:
        yield World()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=local_rank)
    finally:
        dist.destroy_process_group()


def make_buckets(tensors: Iterable[Leaf], most: int) -> Iterator[list[Leaf]]:
    """The tensors in order, cut into stretches of one dtype and at most `most` values, or of one tensor."""
    bucket: list[Leaf] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > most or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
