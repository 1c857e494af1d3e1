"""Answers that are given again: the least recently used leave when the memory is full. Keys name the content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CachedAnswer:
    """A body as it was sent."""

    body: bytes
    media_type: str


class AnswerCache:
    """At most `max_bytes` of bodies; 0 keeps nothing. Used from one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._kept: OrderedDict[str, CachedAnswer] = OrderedDict()

    def get(self, key: str) -> CachedAnswer | None:
        """The answer, which now is the most recently used one."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keeps it, unless it is larger than everything that may be kept."""
        if len(answer.body) > self.max_bytes or key in self._kept:
            return
        self._kept[key] = answer
        self.bytes += len(answer.body)
        while self.bytes > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= len(dropped.body)

    def clear(self) -> None:
        """After a change of the model."""
        self._kept.clear()
        self.bytes = 0


def content_key(*parts: str | int | float | np.ndarray | None) -> str:
    """SHA-256 over parts whose types, shapes and lengths count too."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head, data = f"array {part.dtype} {part.shape}", np.ascontiguousarray(part).tobytes()
        else:
            data = repr(part).encode()
            head = f"{type(part).__name__} {len(data)}"
        digest.update(head.encode() + b"\0" + data)
    return digest.hexdigest()
