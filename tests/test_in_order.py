"""jobs.in_order: order and bound of work that a pool of threads does."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.in_order import in_order


def test_results_come_in_order_whatever_takes_long_and_never_more_are_begun_than_allowed() -> None:
    begun = 0

    def work(number: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        time.sleep(0.02 if number % 7 == 0 else 0)
        return number

    lock, taken = threading.Lock(), []
    with ThreadPoolExecutor(4) as pool:
        for number in in_order(pool, work, range(100), ahead=5):
            taken.append(number)
            assert begun <= len(taken) + 5
    assert taken == list(range(100))


def test_an_error_comes_out_at_its_place_and_what_has_not_begun_never_begins() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(1000), ahead=4)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
    assert max(done) < 10


def test_no_items_are_no_results() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert list(in_order(pool, abs, [], ahead=3)) == []
