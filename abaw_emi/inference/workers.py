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

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.core.constants import Precision
from abaw_emi.core.prefetch import count_cores
from abaw_emi.inference.engine import Float32, Inference, Work
from abaw_emi.models.emi import EmiModel

Group = Sequence[Clip | EncodedClip]


def run_groups(
    model: EmiModel,
    work: Work,
    groups: Sequence[Group],
    *,
    device: torch.device,
    precision: Precision,
    advance: Callable[[int], object] = lambda clips: None,
) -> Generator[tuple[int, list[Float32]]]:
    """What `Inference.run` yields for each group, with the group's place, in order.

    The model is left as it was. Close the iteration where it may break off: that ends the threads, each
    after the layer that it computes.

    Args:
        model: it runs in evaluation mode.
        work: what is asked for.
        groups: as `engine.plan_groups` makes them.
        device: where the model is.
        precision: of the arithmetic.
        advance: is called with the number of clips that were finished since the last call.

    Raises:
        TrainingError: the model fails on a clip, which is named.
    """
    was_training = model.training
    model.train(False)
    try:
        inference = Inference(model, device=device, precision=precision)
        threads = min(torch.get_num_threads(), count_cores()) if inference.alone else 1
        if 1 < threads <= len(groups):  # fewer groups would leave cores idle: torch divides operations then
            with closing(_run_in_threads(inference, work, groups, threads, advance)) as results:
                yield from enumerate(results)
        else:
            yield from enumerate(inference.run(work, groups, advance))
    finally:
        model.train(was_training)


def _run_in_threads(
    inference: Inference,
    work: Work,
    groups: Sequence[Group],
    threads: int,
    advance: Callable[[int], object],
) -> Generator[list[Float32]]:
    stop = Event()

    def check(*_: object) -> None:
        if stop.is_set():
            raise CancelledError

    def run(group: Group) -> list[Float32]:
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
