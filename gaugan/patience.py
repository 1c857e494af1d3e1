"""Patience with object stores, which answer slowly, but many at once, and are at times busy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")
ATTEMPTS = 8
FIRST_PAUSE_S = 0.1
UNREPEATED = "Failed to flush response stream"
"""The SDK's words when the text of a 503 is longer than the bytes that were asked for: it then gives up at once."""


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


def patiently(read: Callable[[], Result]) -> Result:
    """`read()`, which reads from a store; done again, with growing pauses, where the SDK does not (UNREPEATED)."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return read()
        except OSError as error:
            if UNREPEATED not in str(error):
                raise
            time.sleep(FIRST_PAUSE_S * 2**attempt)
    return read()
