"""One progress line: what is done, how fast, how long it still takes."""

from __future__ import annotations

import time
from collections import deque

LINE_EVERY_S = 5.0


def duration(seconds: float) -> str:
    """65 -> "1:05", 3700 -> "1:01:40"."""
    total = max(0, round(seconds))
    hours, minutes = divmod(total // 60, 60)
    return f"{hours}:{minutes:02d}:{total % 60:02d}" if hours else f"{minutes}:{total % 60:02d}"


class Progress:
    """Rate and ETA over the last minutes, so that a resumed or slowed run is told as it is now."""

    def __init__(self, total: int, done: int = 0, unit: str = "step", window_s: float = 120.0) -> None:
        self.total, self.unit, self.window_s = total, unit, window_s
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), done)])
        self._told = time.monotonic()

    def rate(self) -> float:
        """Units per second over the window; 0 before the second mark."""
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def line(self, done: int, note: str = "") -> str:
        """Marks `done` and tells it: "450/2000 step   22 %  3.1 step/s  ETA 8:20  NOTE"."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > self.window_s:
            self._marks.popleft()
        rate = self.rate()
        eta = duration((self.total - done) / rate) if rate > 0 else "?"
        share = 100 * done / self.total if self.total else 100.0
        return f"{done}/{self.total} {self.unit}  {share:3.0f} %  {rate:.3g} {self.unit}/s  ETA {eta}  {note}".rstrip()

    def tell(self, done: int, note: str = "", every_s: float = LINE_EVERY_S) -> None:
        """Prints the line when the last one, or the beginning, is `every_s` seconds old: short work stays silent."""
        if time.monotonic() - self._told >= every_s:
            self._told = time.monotonic()
            print(self.line(done, note), flush=True)


class Pace:
    """The speed of one run of a labelling job: in all, and once it is in its stride."""

    def __init__(self) -> None:
        self.skip = 1
        """Additions that belong to the warming up."""
        self._began = self._last = time.monotonic()
        self._marks: list[tuple[float, int]] = []
        self._done = 0

    def add(self, count: int) -> None:
        """So many more are done."""
        self._last, self._done = time.monotonic(), self._done + count
        if len(self._marks) < self.skip:
            self._marks.append((self._last, self._done))

    def figures(self) -> dict[str, float]:
        """labelled_now; seconds and pictures_per_s, of all; first_s, until the first was done; steady_per_s, from the
        end of the warming up to the last.
        """
        seconds = max(time.monotonic() - self._began, 1e-3)
        marks = self._marks or [(self._began, 0)]
        first, warm = marks[0], marks[-1]
        steady = (self._done - warm[1]) / max(self._last - warm[0], 1e-3)
        return {
            "labelled_now": self._done,
            "seconds": round(seconds, 1),
            "pictures_per_s": round(self._done / seconds, 2),
            "first_s": round(first[0] - self._began, 2),
            "steady_per_s": round(steady, 2),
        }
