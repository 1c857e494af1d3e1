"""The HTTP side's own port: where there is one HTTP side, requests need not pass through Ray Serve's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from gaugan.errors import UserError

KEEP_ALIVE_S = 65
"""Longer than the usual 60 s of browsers and balancers: they close idle connections, so that none is closed on them."""
BACKLOG = 2048


def open_port(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises UserError when another program listens there.

    Connections that a server before this one left behind do not count (SO_REUSEADDR).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        raise port_is_taken(host, port, error.strerror or str(error)) from error
    return door


def port_is_taken(host: str, port: int, reason: str) -> UserError:
    """The advice for it."""
    return UserError(f"--host {host} --port {port}: {reason}; choose another --port")


class Listener:
    """Serves an application on the running event loop until the process ends."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        settings = uvicorn.Config(
            app, lifespan="off", access_log=False, log_config=None, log_level="critical",
            timeout_keep_alive=KEEP_ALIVE_S,
        )  # fmt: skip
        door = open_port(host, port)
        self._task = asyncio.get_running_loop().create_task(_Server(settings).serve(sockets=[door]))

    def check(self) -> None:
        """Raises RuntimeError when nobody listens any more."""
        if self._task.done():
            raise RuntimeError("the HTTP server has ended")


class _Server(uvicorn.Server):
    """Leaves the process's signal handlers alone: they are Ray's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
