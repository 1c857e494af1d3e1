"""Decoding in a child process: what kills the child is an outcome of the picture, not the end of the job.

Slower than decoding at home, so it is for chunks of which an earlier attempt did not come back (gaugan/reading.py).
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaugan.label_plan import LabelPlan
    from gaugan.reading import Picture

CHILD = "from gaugan.careful import answer; answer()"
START_S = 60
"""More time for a child's first picture: it imports its libraries."""


class CarefulDecoder:
    """A child process that judges one picture after the other, and is replaced when it dies."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CarefulDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def judge(self, picture: Picture, data: bytes, plan: LabelPlan) -> Picture:
        """As `reading.judge`; the code is decoder_crash or decoder_timeout when the child died or had to be ended."""
        late = threading.Event()
        timeout_s = self.timeout_s if self.child else self.timeout_s + START_S
        child = self.child = self.child or _start()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            assert child.stdin is not None and child.stdout is not None
            pickle.dump((picture, data, plan), child.stdin, protocol=5)
            child.stdin.flush()
            judged: Picture = pickle.load(child.stdout)  # noqa: S301 - written by `answer`
            return judged
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            how = _how_it_ended(self._end())
        finally:
            timer.cancel()
        if late.is_set():
            return picture.refuse("decoder_timeout", f"the decoder did not come back within {self.timeout_s:g} s")
        return picture.refuse("decoder_crash", f"the decoder ended by {how}; the file may be made to harm it")

    def _end(self) -> int:
        """Ends the child; returns its exit code as subprocess gives it."""
        child, self.child = self.child, None
        if child is None:
            return 0
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            return child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, sys.path))  # a Ray worker finds our code by sys.path alone
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip


def _how_it_ended(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def answer() -> None:
    """The child: judges what comes on standard input until it is closed."""
    import resource

    from gaugan.reading import judge

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers: Any = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not spoil the answers
    while True:
        try:
            picture, data, plan = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by CarefulDecoder
        except EOFError:
            return
        pickle.dump(judge(picture, data, plan), answers, protocol=5)
        answers.flush()
