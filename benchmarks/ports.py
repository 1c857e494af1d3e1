"""Ports for servers that are started only later."""

from __future__ import annotations

import random
import socket

RANGE = range(20000, 32768)
"""Above the ports of Ray's workers (from 10002), below those that Linux gives to outgoing connections and to servers
that ask for any port (from 32768): Ray's own servers would take one of these in the seconds until it is used."""


def free_port() -> int:
    """A loopback port that nobody listens to."""
    for port in random.SystemRandom().sample(RANGE, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port found in {RANGE}")
