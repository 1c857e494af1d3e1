"""Work that mostly waits for an object store, a few pieces at a time, with its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def ahead(work: Callable[[Argument], Result], arguments: Iterable[Argument], at_once: int) -> Iterator[Result]:
    """As `map`, with up to `at_once` calls in threads; no more results than that wait in memory."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        for argument in arguments:
            waiting.append(pool.submit(work, argument))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
