"""A Ray of our own on this machine, that ends with the process that started it."""

from __future__ import annotations

from typing import Any

from gaugan.errors import UserError

TOO_SLOW = "timed out during startup"
"""What Ray's plain Exception says when its processes were not up after the 30 s that it gives them."""


def start_private_ray(**settings: Any) -> None:
    """ray.init(address="local", ...), tried twice: a machine that is busy for a moment is no reason to end.

    Raises UserError with advice when Ray's processes don't come up in time.
    """
    import ray

    for is_last in (False, True):
        try:
            ray.init(address="local", include_dashboard=False, **settings)
            return
        except Exception as error:
            if TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            if is_last:
                raise UserError(
                    "Ray's processes did not start within 30 s, twice: the machine is too busy. End other work "
                    f"on it, or wait for it, and give the same command again (Ray says: {error})"
                ) from error
            print("Ray did not start within 30 s; trying once more", flush=True)
