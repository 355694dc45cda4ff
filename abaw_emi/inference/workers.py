"""Groups of clips through a model: on a CPU in a thread for each core, whose operations use that core alone.

torch's own threads divide each single operation and wait for each other in a busy loop, so that one other
program on a core slows all of them. Here nothing waits before a whole group is done; the threads share the
model, and a group's result has the bits that it has on one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event

import torch

from abaw_emi.batching.examples import Example
from abaw_emi.core.arrays import Float32
from abaw_emi.core.prefetch import count_cores
from abaw_emi.inference.engine import Inference, Work, plan_groups
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel


def run_examples(
    model: EmiModel, work: Work, examples: Sequence[Example], runtime: Runtime, description: str
) -> Generator[tuple[int, Float32]]:
    """What is asked for of each example, with its place among `examples`, one group after the other.

    Takes, says and raises what `run_groups` does; `examples` are in any order.
    """
    places = plan_groups(examples, runtime.device)
    groups = [[examples[place] for place in group] for group in places]
    with closing(run_groups(model, work, groups, runtime, description)) as results:
        for group, values in zip(places, results, strict=True):
            yield from zip(group, values, strict=True)


def run_groups(
    model: EmiModel, work: Work, groups: Sequence[Sequence[Example]], runtime: Runtime, description: str
) -> Generator[list[Float32]]:
    """What is asked for of each example of each group, group by group.

    The model is left as it was. Close the iteration if it may break off: that ends the threads, each after
    the layer that it computes.

    Args:
        model: it runs in evaluation mode.
        work: what is asked for.
        groups: of `engine.plan_groups`, or some of them.
        runtime: what the model runs with.
        description: beside the progress bar.

    Raises:
        TrainingError: the model fails on a clip, which is named.
    """
    was_training = model.training
    model.train(False)
    try:
        inference = Inference(model, runtime)
        threads = min(torch.get_num_threads(), count_cores()) if inference.alone else 1
        with runtime.reporter.bar(description, sum(map(len, groups))) as bar:
            if 1 < threads <= len(groups):  # fewer would leave cores idle: torch then divides operations
                results = _run_in_threads(inference, work, groups, threads, bar.advance)
            else:
                results = inference.run(work, groups, bar.advance)
            with closing(results):
                yield from results
    finally:
        model.train(was_training)


def _run_in_threads(
    inference: Inference,
    work: Work,
    groups: Sequence[Sequence[Example]],
    threads: int,
    advance: Callable[[int], object],
) -> Generator[list[Float32]]:
    stop = Event()

    def check(*_: object) -> None:
        if stop.is_set():
            raise CancelledError

    def run(group: Sequence[Example]) -> list[Float32]:
        torch.set_num_threads(1)  # of this thread, and of those that first use torch from now on
        (values,) = inference.run(work, [group])
        return values

    before = torch.get_num_threads()
    hooks = [module.register_forward_pre_hook(check) for module in inference.model.modules()]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="inference")
    running: deque[Future[list[Float32]]] = deque()
    try:
        for group in groups:
            running.append(pool.submit(run, group))
            if len(running) > threads:  # what is finished waits in memory, so no more than this is begun
                values = running.popleft().result()
                advance(len(values))
                yield values
        for future in running:
            values = future.result()
            advance(len(values))
            yield values
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for hook in hooks:
            hook.remove()
        torch.set_num_threads(before)
