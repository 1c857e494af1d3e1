"""Tokens, other sites' pages, and a server that is being stopped."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serve_fakes import TABLE, FakeBackend

from gaugan import labels
from gaugan.errors import UserError
from serve.api import ApiOptions, build_api
from serve.guard import Door, Tokens

USER, ADMIN = "user-token-0123456789", "admin-token-0123456789"
TOKENS = Tokens.of(USER, ADMIN)
MAP = labels.encode_label_map(np.zeros((64, 64), np.uint8), TABLE)
ORIGIN = "https://studio.example"


def client(door: Door | None = None, **options: Any) -> TestClient:
    return TestClient(build_api(FakeBackend(), options=ApiOptions(**options), door=door))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


def paint(http: TestClient, headers: dict[str, str]) -> Any:
    return http.post("/v1/paint", files={"label_map": MAP}, headers=headers)


@pytest.mark.parametrize("path", ["/", "/v1/classes", "/v1/styles", "/metrics", "/openapi.json", "/studio/main.js"])
def test_everything_but_health_asks_for_the_token(path: str) -> None:
    http = client(tokens=TOKENS)
    refused = http.get(path)
    assert (refused.status_code, refused.json()["code"]) == (401, "no_token")
    assert "Bearer" in refused.headers["www-authenticate"] and "Basic" in refused.headers["www-authenticate"]
    assert http.get(path, headers=bearer(USER)).status_code == 200
    assert http.get("/v2/health/live").status_code == http.get("/v2/health/ready").status_code == 200


def test_wrong_tokens_are_refused_and_a_browsers_password_is_taken() -> None:
    http = client(tokens=TOKENS)
    assert paint(http, basic(USER)).status_code == paint(http, bearer(USER)).status_code == 200
    wrong = [bearer("x" * 21), bearer(ADMIN), basic("nobody"), {"Authorization": "Basic ***"}, {"Authorization": USER}]
    assert [paint(http, headers).status_code for headers in wrong] == [401] * len(wrong)
    assert USER not in paint(http, bearer("x" * 21)).text


def test_administration_needs_its_own_bearer_token() -> None:
    http = client(tokens=TOKENS)
    for headers in ({}, bearer(USER), basic(ADMIN)):
        assert http.get("/v1/admin/model", headers=headers).status_code == 401
    answer = http.get("/v1/admin/model", headers=bearer(ADMIN))
    assert answer.json()["code"] == "admin_off"  # let in; this API has no models to change
    assert client(tokens=Tokens.of(USER, None)).get("/v1/admin/model", headers=bearer(USER)).status_code == 403
    assert client().post("/v1/admin/rollback").json()["code"] == "admin_off"


def test_tokens_that_can_be_guessed_or_are_one_are_refused() -> None:
    with pytest.raises(UserError, match="at least 16"):
        Tokens.of("short", None)
    with pytest.raises(UserError, match="two tokens"):
        Tokens.of(USER, USER)


def test_other_sites_pages_can_neither_read_nor_send() -> None:
    http = client()
    for site in ("cross-site", "same-site"):
        answer = paint(http, {"Sec-Fetch-Site": site, "Origin": "https://evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    own = paint(http, {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"})
    assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
    assert "access-control-allow-origin" not in http.get("/v1/classes", headers={"Origin": ORIGIN}).headers


def test_origins_that_were_allowed_may_call_with_a_preflight_and_without_a_token_in_it() -> None:
    http = client(allow_origins=(ORIGIN,), tokens=TOKENS)
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = http.options("/v1/paint", headers=asked)
    assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == ORIGIN
    answer = paint(http, {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", **bearer(USER)})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Seed" in answer.headers["access-control-expose-headers"]
    evil = http.options("/v1/paint", headers={**asked, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers


def test_a_server_that_is_being_stopped_lets_nobody_in_but_stays_alive() -> None:
    door = Door()
    http = client(door)
    assert paint(http, {}).status_code == 200
    door.closing = True
    answer = paint(http, {})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "stopping", "2")
    assert http.get("/v2/health/ready").status_code == 503
    assert http.get("/v2/health/live").status_code == 200
    assert door.inside == 0


def test_openapi_tells_which_token_opens_what() -> None:
    description = client(tokens=TOKENS).get("/openapi.json", headers=bearer(USER)).json()
    assert description["paths"]["/v1/paint"]["post"]["security"] == [{"user": []}]
    assert description["paths"]["/v1/admin/model"]["post"]["security"] == [{"admin": []}]
    assert "security" not in description["paths"]["/v2/health/live"]["get"]
