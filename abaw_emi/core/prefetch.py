"""Items made in a thread before they are needed, so that disk and processor work while the model runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


def run_ahead(make: Callable[[Item], T], items: Iterable[Item], ahead: int) -> Iterator[T]:
    """`make` of each item, in order, up to `ahead` of them made in a thread before they are asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(thread.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
