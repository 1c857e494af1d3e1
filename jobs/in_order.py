"""Work on many items by a pool of threads, results in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 8
"""Items per thread: enough that a slow one stops nobody, few enough to hold them all in memory."""


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """function(item) of each item, in order; at most `ahead` are begun and not yet taken, so memory stays bounded.

    A new one begins whenever one is taken, so a slow item holds up only what comes after the next `ahead`. What has
    not begun when the caller leaves never begins.
    """
    waiting, running = iter(items), deque[Future[Result]]()
    try:
        running.extend(pool.submit(function, item) for item in islice(waiting, ahead))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
            yield result
    finally:
        for future in running:
            future.cancel()
