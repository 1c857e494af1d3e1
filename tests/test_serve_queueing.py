"""The line in front of a painter: bounded, fair, left by those who gave up."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time

import pytest

from serve.queueing import QueueFull, WorkQueue


def make_queue(seconds: float = 0.02, **changes: float) -> tuple[WorkQueue[int, int], list[int]]:
    """(queue, the jobs that were worked on); a job's answer is its square."""
    done: list[int] = []

    def work(job: int) -> int:
        time.sleep(seconds)
        done.append(job)
        if job < 0:
            raise ValueError(str(job))
        return job * job

    limits = {"max_batch_size": 4, "max_waiting": 8, "max_wait_s": 60.0, **changes}
    return WorkQueue(work, **limits), done  # type: ignore[arg-type]


def test_answers_come_in_the_order_of_the_jobs_with_their_times() -> None:
    queue, _ = make_queue()
    served = asyncio.run(queue.serve([3, 1, 2]))
    assert served.answers == [9, 1, 4]
    assert served.batch_size == 3 and served.compute_s >= 0.06 and served.queue_s >= 0


def test_what_arrives_while_others_are_served_makes_up_the_next_batch() -> None:
    queue, _ = make_queue()

    async def crowd() -> list[int]:
        first = asyncio.create_task(queue.serve([0]))
        await asyncio.sleep(0.005)
        others = [asyncio.create_task(queue.serve([n])) for n in range(1, 7)]
        return [(await one).batch_size for one in (first, *others)]

    assert asyncio.run(crowd()) == [1, 4, 4, 4, 4, 2, 2]


def test_an_answer_does_not_wait_for_the_rest_of_its_batch() -> None:
    queue, done = make_queue(seconds=0.05)

    async def crowd() -> int:
        tasks = [asyncio.create_task(queue.serve([n])) for n in range(4)]
        await tasks[0]
        first = len(done)
        await asyncio.gather(*tasks)
        return first

    assert asyncio.run(crowd()) <= 2


def test_a_line_that_is_too_long_refuses_at_once_and_says_when_to_come_back() -> None:
    gate, done = threading.Event(), []

    def work(job: int) -> int:
        if job:
            assert gate.wait(timeout=30)
        time.sleep(0.05)  # the first one sets the pace
        done.append(job)
        return job

    queue: WorkQueue[int, int] = WorkQueue(work, max_batch_size=4, max_waiting=50, max_wait_s=0.1)

    async def crowd() -> tuple[int, QueueFull]:
        await queue.serve([0])
        tasks = [asyncio.create_task(queue.serve([n])) for n in range(1, 20)]
        await asyncio.sleep(0.01)  # all have asked, none is finished
        with pytest.raises(QueueFull) as caught:
            await queue.serve([99])
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(one, QueueFull) for one in answers), caught.value

    refused, problem = asyncio.run(crowd())
    assert refused >= 16 and problem.retry_after_s >= 1
    assert 99 not in done and len(done) == 20 - refused


def test_the_number_of_waiting_jobs_is_bounded_before_the_pace_is_known() -> None:
    queue, _ = make_queue(max_waiting=3)

    async def crowd() -> int:
        answers = await asyncio.gather(*(queue.serve([n]) for n in range(10)), return_exceptions=True)
        return sum(isinstance(one, QueueFull) for one in answers)

    assert asyncio.run(crowd()) == 7


def test_a_large_request_is_let_in_when_nobody_waits() -> None:
    queue, _ = make_queue(seconds=0.001, max_waiting=2)
    assert asyncio.run(queue.serve(list(range(8)))).answers == [n * n for n in range(8)]


def test_jobs_of_those_who_left_are_not_worked_on() -> None:
    queue, done = make_queue(seconds=0.05)

    async def crowd() -> None:
        first = asyncio.create_task(queue.serve([0]))
        gone = asyncio.create_task(queue.serve([1]))
        last = asyncio.create_task(queue.serve([2]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(first, last)

    asyncio.run(crowd())
    assert done == [0, 2]


def test_a_failing_job_fails_alone() -> None:
    queue, _ = make_queue()

    async def crowd() -> list[object]:
        return await asyncio.gather(queue.serve([-1]), queue.serve([2]), return_exceptions=True)

    failed, fine = asyncio.run(crowd())
    assert isinstance(failed, ValueError) and fine.answers == [4]  # type: ignore[attr-defined]


def test_all_work_is_done_by_one_thread_that_is_not_the_loops() -> None:
    threads: set[int] = set()
    queue: WorkQueue[int, None] = WorkQueue(
        lambda job: threads.add(threading.get_ident()), max_batch_size=2, max_waiting=99, max_wait_s=9
    )

    async def crowd() -> None:
        await asyncio.gather(*(queue.serve([n]) for n in range(9)))

    asyncio.run(crowd())
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_a_refusal_survives_the_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(QueueFull(3))).retry_after_s == 3
