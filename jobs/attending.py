"""Between a driver and the workers that Ray starts: their lines one way, the wish to stop the other way.

The calls of Ray Train and Ray Tune wait for resources without a word and without end, and know nothing of our stop.
`attended` says what they wait for, and leaves them to themselves when a stop gets no answer.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

from jobs.command import STOP
from jobs.resources import Wait, Workers

POLL_S = 0.5
GIVE_UP_S = 20.0
"""Workers that have not saved and ended so long after a stop are left, so that the whole ends within 30 s."""
GIVE_UP_UNHEARD_S = 3.0
"""The same before any worker has begun: there is nothing to save."""


class Wire:
    """The actor between them."""

    def __init__(self) -> None:
        self.stopped = False
        self.lines: list[str] = []
        self.heard: float | None = None
        """When a worker last asked."""

    def stop(self) -> None:
        """The driver asks the workers to save and end."""
        self.stopped = True

    def is_stopped(self) -> bool:
        """A worker asks."""
        self.heard = time.monotonic()
        return self.stopped

    def say(self, text: str) -> None:
        """A worker's text for the driver's terminal."""
        self.lines.append(text)

    def take(self) -> tuple[list[str], float | None]:
        """The driver fetches what was said, and for how many seconds no worker has asked (None: none ever has)."""
        lines, self.lines = self.lines, []
        return lines, None if self.heard is None else time.monotonic() - self.heard


class Speaker(io.TextIOBase):
    """A stdout whose lines go over the wire; other ranks stay silent."""

    def __init__(self, wire: Any, silent: bool) -> None:
        self.wire, self.silent, self.begun = wire, silent, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        if lines and not self.silent:
            self.wire.say.remote("".join(f"{line}\n" for line in lines))
        return len(text)


def stop_watch(wire: Any) -> Callable[[], bool]:
    """Asks the wire in the background, so that a step never waits for it."""
    import ray
    import ray.exceptions

    seen = threading.Event()

    def poll() -> None:
        while not seen.is_set():
            try:
                if ray.get(wire.is_stopped.remote(), timeout=10):
                    seen.set()
            except ray.exceptions.GetTimeoutError:
                continue
            except Exception:
                return
            seen.wait(POLL_S)

    threading.Thread(target=poll, daemon=True, name="stop-watch").start()
    return seen.is_set


def attended(call: Callable[[], Any], wire: Any, workers: Workers | None = None) -> Any:
    """Runs `call` in a thread, prints what the workers say, and passes a stop on; tells of a wait for `workers`.

    Returns what `call` returns, or None when it had not ended GIVE_UP_S after a stop: it is then left running, and ends
    with this process. In a thread, because signals reach the main thread only, where Ray Train would take over Ctrl-C
    and drop the run.
    """
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:
            outcome["error"] = error

    attendant = Attendant(wire, workers)
    thread = threading.Thread(target=target, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        attendant.look()
        if thread.is_alive() and attendant.gives_up():
            return None
    for _ in range(2):  # the first answer may have been on its way already when the last line was said
        attendant.look(timeout_s=10)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Attendant:
    """What `attended` does at each look. Never waits for an answer without a limit."""

    def __init__(self, wire: Any, workers: Workers | None) -> None:
        self._wire, self._wait = wire, Wait(workers) if workers else None
        self._begun = time.monotonic()
        self._asked: float | None = None
        """When the stop was passed on."""
        self._silent_s: float | None = None
        self._answer = wire.take.remote()

    def look(self, timeout_s: float = POLL_S) -> None:
        """Passes a stop on, prints what has been said, tells of a wait."""
        import ray

        if STOP() and self._asked is None:
            self._asked = time.monotonic()
            self.tell_stop()
        if ray.wait([self._answer], timeout=timeout_s)[0]:
            lines, self._silent_s = ray.get(self._answer)
            self._answer = self._wire.take.remote()
            print("".join(lines), end="", flush=True)
        if self._wait and self._asked is None:
            self._wait.tell(time.monotonic() - self._begun if self._silent_s is None else self._silent_s)

    def tell_stop(self) -> None:
        """Passes the stop on; nobody waits for it to arrive."""
        self._wire.stop.remote()

    def gives_up(self) -> bool:
        """True when the stop was passed on so long ago that nothing more is to be expected."""
        if self._asked is None:
            return False
        limit = GIVE_UP_UNHEARD_S if self._silent_s is None else GIVE_UP_S
        return time.monotonic() - self._asked > limit
