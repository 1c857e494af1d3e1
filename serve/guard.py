"""Who may call: bearer tokens, no calls from other sites' pages, nobody new while the server is being stopped.

A plain ASGI middleware around the API. Tokens come from the environment (GAUGAN_TOKEN, GAUGAN_ADMIN_TOKEN) and are
compared in constant time. A browser asks its user for a password when it sees our 401 (HTTP Basic): the token is the
password, under any name, so that the paint page needs no login of its own. Administration takes bearer tokens only:
those a browser never adds by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gaugan.errors import UserError
from serve.problems import Problem, problem_bytes, request_id_of

TOKEN, ADMIN_TOKEN = "GAUGAN_TOKEN", "GAUGAN_ADMIN_TOKEN"  # noqa: S105  (names of variables)
SHORTEST_TOKEN = 16
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
ADMIN_PATHS = "/v1/admin/"
CHALLENGES = (b'Bearer realm="gaugan"', b'Basic realm="gaugan", charset="UTF-8"')
"""A header line each: of several in one line Chromium reads the first only, and would not ask for the password."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Tokens:
    """Digests of the tokens, so that no secret is printed by accident; None = not asked for (admin: nobody may)."""

    user: bytes | None = None
    admin: bytes | None = None

    @staticmethod
    def of(user: str | None, admin: str | None) -> Tokens:
        """Raises UserError for a token that can be guessed, or one token for both."""
        for name, token in ((TOKEN, user), (ADMIN_TOKEN, admin)):
            if token is not None and len(token) < SHORTEST_TOKEN:
                raise UserError(f"{name}: {len(token)} characters; a token needs at least {SHORTEST_TOKEN}")
        if user is not None and user == admin:
            raise UserError(f"{TOKEN} and {ADMIN_TOKEN} are the same; painting and administration need two tokens")
        return Tokens(*(None if token is None else _digest(token) for token in (user, admin)))

    @staticmethod
    def from_environment() -> Tokens:
        """Raises UserError as `of`."""
        return Tokens.of(os.environ.get(TOKEN) or None, os.environ.get(ADMIN_TOKEN) or None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Door:
    """Whether new requests are let in, and how many are inside. Shared by the guard and the watch on the store."""

    def __init__(self) -> None:
        self.closing = False
        self.inside = 0


class Guard:
    """Answers 401, 403 or 503 before anything of the body is read."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, door: Door, allow_origins: tuple[str, ...] = ()) -> None:
        self.app, self.tokens, self.door, self.allow_origins = app, tokens, door, allow_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._problem(scope, Headers(scope=scope))
        if problem is not None:
            await _refuse(problem, scope, send)
            return
        self.door.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.door.inside -= 1

    def _problem(self, scope: Scope, headers: Headers) -> Problem | None:
        path, method = scope["path"], scope["method"]
        if self.door.closing and path != "/v2/health/live":
            return Problem("stopping", "This server is being stopped; ask another one, or later.", retry_after_s=2)
        if method not in SAFE_METHODS and (problem := self._cross_site(headers)):
            return problem
        if path.startswith(ADMIN_PATHS):
            return self._admin(headers)
        if self.tokens.user is None or path in OPEN_PATHS or self._is_preflight(method, headers):
            return None
        return _check(_given(headers), self.tokens.user, TOKEN)

    def _cross_site(self, headers: Headers) -> Problem | None:
        """A page of another site can make a browser send forms here, with the password that the browser remembers."""
        site = headers.get("sec-fetch-site", "none")
        if site in ("none", "same-origin") or headers.get("origin") in self.allow_origins:
            return None
        return Problem("cross_site", "Pages of other origins may not call this server (see --allow-origins).")

    def _admin(self, headers: Headers) -> Problem | None:
        if self.tokens.admin is None:
            return Problem("admin_off", f"Start the server with {ADMIN_TOKEN} in its environment to allow this.")
        return _check(_bearer(headers), self.tokens.admin, ADMIN_TOKEN)

    def _is_preflight(self, method: str, headers: Headers) -> bool:
        return bool(self.allow_origins) and method == "OPTIONS" and "access-control-request-method" in headers


def _bearer(headers: Headers) -> str:
    kind, _, rest = headers.get("authorization", "").partition(" ")
    return rest.strip() if kind.lower() == "bearer" else ""


def _given(headers: Headers) -> str:
    """The token as bearer token, or as password of HTTP Basic."""
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return _bearer(headers)
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _check(given: str, wanted: bytes, name: str) -> Problem | None:
    if not given:
        return Problem("no_token", f"Send the header Authorization: Bearer TOKEN, with the server's {name}.")
    if not hmac.compare_digest(_digest(given), wanted):
        return Problem("wrong_token", f"The token is not the server's {name}.")
    return None


async def _refuse(problem: Problem, scope: Scope, send: Send) -> None:
    scope.setdefault("state", {})["problem"] = problem.code
    body, headers = problem_bytes(problem, scope["path"], request_id_of(scope))
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    if problem.status == 401:
        raw += [(b"www-authenticate", challenge) for challenge in CHALLENGES]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
