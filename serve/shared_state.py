"""Small facts that all processes of one server share: which model is served, who has loaded it, who is leaving.

Kept in the key-value store of Ray's head (where Serve keeps its own state), so they survive every replica and are gone
with the cluster. Values are JSON.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

LOOK_EVERY_S = 0.5
"""How often the HTTP side looks at the state."""
CLOSING, INSIDE = "closing", "inside/"
"""Keys: set when no new requests are let in; how many a replica of the HTTP side still answers."""

log = logging.getLogger("serve")


class Store(Protocol):
    """Named JSON objects."""

    def get(self, key: str) -> dict[str, Any] | None: ...
    def put(self, key: str, value: dict[str, Any]) -> None: ...
    def put_new(self, key: str, value: dict[str, Any]) -> bool:
        """False, and nothing is changed, when the key is there."""
        ...

    def delete(self, key: str) -> None: ...
    def keys(self, prefix: str) -> list[str]: ...


class DictStore:
    """In this process only: for tests and for an API without Ray."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        text = self._values.get(key)
        return None if text is None else json.loads(text)

    def put(self, key: str, value: dict[str, Any]) -> None:
        self._values[key] = json.dumps(value)

    def put_new(self, key: str, value: dict[str, Any]) -> bool:
        with self._lock:
            if key in self._values:
                return False
            self.put(key, value)
            return True

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in list(self._values) if key.startswith(prefix)]


class RayStore:
    """In the cluster that this process belongs to, for one Serve application of it."""

    def __init__(self, app_name: str) -> None:
        self.namespace = f"serve-{app_name}"

    def get(self, key: str) -> dict[str, Any] | None:
        from ray.experimental import internal_kv

        data = internal_kv._internal_kv_get(key, namespace=self.namespace)
        return None if data is None else json.loads(data)

    def put(self, key: str, value: dict[str, Any]) -> None:
        from ray.experimental import internal_kv

        internal_kv._internal_kv_put(key, json.dumps(value), overwrite=True, namespace=self.namespace)

    def put_new(self, key: str, value: dict[str, Any]) -> bool:
        from ray.experimental import internal_kv

        existed = internal_kv._internal_kv_put(key, json.dumps(value), overwrite=False, namespace=self.namespace)
        return not existed

    def delete(self, key: str) -> None:
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(key, namespace=self.namespace)

    def keys(self, prefix: str) -> list[str]:
        from ray.experimental import internal_kv

        return [key.decode() for key in internal_kv._internal_kv_list(prefix, namespace=self.namespace)]


class Watch:
    """Calls `look()` every `every_s` seconds on a thread of its own; one that fails is logged and called again."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        """No further calls."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._look()
            except Exception:
                log.exception("looking at the shared state failed")
