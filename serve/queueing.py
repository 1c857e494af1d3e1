"""The line in front of a painter: bounded by the time it would take, left by those who gave up, painted in batches.

One thread paints, because one picture uses all cores (or the GPU) of a replica. It takes what has arrived, up to
`max_batch_size` pictures; nobody waits for company. A picture's answer leaves as soon as that picture is finished.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")
SMOOTHING = 0.2
"""Weight of the newest picture in the moving average of seconds per picture."""


class QueueFull(Exception):  # noqa: N818  (not a failure: the expected answer of a bounded line)
    """The line is too long; `retry_after_s` whole seconds from now it may be short enough."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[QueueFull], tuple[int]]:
        return QueueFull, (self.retry_after_s,)


@dataclass
class Served(Generic[Answer]):
    """The answers to one request, and where its time went."""

    answers: list[Answer]
    queue_s: float
    compute_s: float
    batch_size: int


@dataclass
class _Waiting(Generic[Job, Answer]):
    job: Job
    future: asyncio.Future[Answer]
    arrived: float
    begun: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0
    left: bool = field(default=False)
    """Whoever asked has gone; set on the event loop, read by the painting thread."""


class WorkQueue(Generic[Job, Answer]):
    """`await queue.serve(jobs)` from any number of requests on one event loop; `work(job)` runs on one thread."""

    def __init__(
        self, work: Callable[[Job], Answer], *, max_batch_size: int, max_waiting: int, max_wait_s: float
    ) -> None:
        self.work = work
        self.max_batch_size, self.max_waiting, self.max_wait_s = max_batch_size, max_waiting, max_wait_s
        self.seconds_per_job = 0.0
        self.begun = 0.0
        """When the job in work was begun (time.monotonic()); 0 when there is none."""
        self._line: deque[_Waiting[Job, Answer]] = deque()
        self._in_work = 0
        self._runner: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "paint")

    def expected_wait_s(self) -> float:
        """How long a new request would wait, by the pace of the last pictures."""
        return (len(self._line) + self._in_work) * self.seconds_per_job

    async def serve(self, jobs: list[Job]) -> Served[Answer]:
        """Answers in the order of the jobs. Raises QueueFull at once when the wait would be too long.

        A request that finds nobody waiting is always let in, however many jobs it has.
        """
        ahead, wait_s = len(self._line) + self._in_work, self.expected_wait_s()
        if ahead > 1 and (wait_s > self.max_wait_s or ahead + len(jobs) > self.max_waiting):
            raise QueueFull(max(1, math.ceil(wait_s - self.max_wait_s)))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries: list[_Waiting[Job, Answer]] = [_Waiting(job, loop.create_future(), now) for job in jobs]
        self._line.extend(entries)
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        try:
            answers = await asyncio.gather(*(entry.future for entry in entries))
        finally:
            for entry in entries:
                entry.left = True
        return Served(answers, entries[0].begun - now, sum(entry.compute_s for entry in entries), entries[0].batch_size)

    async def _run(self) -> None:
        """Until the line is empty."""
        loop = asyncio.get_running_loop()
        while self._line:
            batch = [self._line.popleft() for _ in range(min(len(self._line), self.max_batch_size))]
            self._in_work = len(batch)
            await loop.run_in_executor(self._thread, self._work_through, batch, loop)

    def _work_through(self, batch: list[_Waiting[Job, Answer]], loop: asyncio.AbstractEventLoop) -> None:
        """On the thread: one job after the other, each answered when it is done."""
        for place, entry in enumerate(batch):
            self._in_work = len(batch) - place
            if entry.left:
                self._in_work -= 1
                continue
            entry.begun = self.begun = time.monotonic()
            entry.batch_size = len(batch)
            try:
                answer, error = self.work(entry.job), None
            except Exception as caught:
                answer, error = None, caught
            entry.compute_s = time.monotonic() - entry.begun
            self.begun = 0.0
            self._remember(entry.compute_s)
            self._in_work -= 1  # before the answer: who asks next on hearing it finds the line as it is
            loop.call_soon_threadsafe(_settle, entry.future, answer, error)

    def _remember(self, seconds: float) -> None:
        before = self.seconds_per_job
        self.seconds_per_job = seconds if before == 0.0 else before + SMOOTHING * (seconds - before)


def _settle(future: asyncio.Future[Answer], answer: Answer | None, error: Exception | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(answer)  # type: ignore[arg-type]
    else:
        future.set_exception(error)
