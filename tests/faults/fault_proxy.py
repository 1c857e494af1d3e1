"""An HTTP proxy before an object store that misbehaves by a seeded plan: 503s, resets, answers that stall."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "trailer", "expect"}


@dataclass(frozen=True)
class Faults:
    """Shares of all requests."""

    busy: float = 0.0
    """Answered 503 SlowDown without being carried out."""
    lost: float = 0.0
    """The connection is reset before the request is carried out."""
    cut: float = 0.0
    """Carried out, and the connection is reset in the middle of the answer."""
    stalled: float = 0.0
    """Carried out, and answered after `stall_s`."""
    stall_s: float = 5.0


@contextmanager
def fault_proxy(target: str, faults: Faults, seed: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """The proxy's endpoint, and a count of what was done to the requests so far."""
    done: Counter[str] = Counter()
    rng, lock = random.Random(seed), threading.Lock()
    kinds = ("busy", "lost", "cut", "stalled")
    weights = [getattr(faults, kind) for kind in kinds]

    def draw() -> str:
        with lock:
            kind = rng.choices([*kinds, "served"], [*weights, 1 - sum(weights)])[0]
            done[kind] += 1
            return kind

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            data = self.body()
            kind = draw()
            if kind == "busy":
                self.answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
            elif kind == "lost":
                self.reset()
            else:
                self.pass_on(kind, data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers: checksums
                pass
            return data

        def pass_on(self, kind: str, data: bytes) -> None:
            there = urlsplit(target)
            upstream = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream.request(self.command, self.path, data, headers | {"Content-Length": str(len(data))})
            answer = upstream.getresponse()
            content, headers = answer.read(), dict(answer.headers.items())
            upstream.close()
            if kind == "stalled":
                time.sleep(faults.stall_s)
            self.answer(answer.status, headers, content, cut=kind == "cut")

        def answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            if cut:
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.reset()
                return
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def reset(self) -> None:
            """Ends the connection with RST, as a balancer or a dying server does."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # the client went away, or we did
                pass

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", done
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
