"""Work a few pieces at a time: results in order, few in memory."""

import threading
import time
from collections.abc import Iterator

import pytest

from gaugan.patience import ahead


def test_results_come_in_order_and_no_more_are_begun_than_asked_for() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 * (3 - number % 3))
        return number * number

    results = ahead(work, range(20), 4)
    assert next(results) == 0 and len(begun) <= 6
    assert list(results) == [number * number for number in range(1, 20)]


def test_pieces_wait_together() -> None:
    barrier = threading.Barrier(4, timeout=10)
    assert list(ahead(lambda _: barrier.wait() >= 0, range(8), 4)) == [True] * 8


def test_an_error_comes_out_at_its_place() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise OSError("gone")
        return number

    results: Iterator[int] = ahead(work, range(4), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(results)
