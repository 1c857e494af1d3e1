"""The HTTP application: endpoints, problem documents, the paint page. No Ray here: any `Backend` will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from serve import admin_routes, facts_routes, inference_routes, labelme_routes, paint_routes, problems, schema
from serve.backend import Backend
from serve.cache import AnswerCache
from serve.gate import Gate
from serve.guard import ADMIN_PATHS, OPEN_PATHS, Door, Guard, Tokens
from serve.head import Head
from serve.metrics import Metrics
from serve.observe import AccessLog, Observer
from serve.service import Service
from serve.styles import Style
from serve.switch import Switch

STUDIO = Path(__file__).parent / "studio"
EXPOSED_HEADERS = ("X-Seed", "X-Model", "X-Classes-Hash", "X-Confidence", "X-Cache", "X-Request-ID", "Retry-After")


@dataclass(frozen=True)
class ApiOptions:
    """What the HTTP side may be told."""

    tokens: Tokens = field(default_factory=Tokens)
    allow_origins: tuple[str, ...] = ()
    timeout_s: float | None = None
    cache_bytes: int = 0
    access_log: AccessLog | None = None


def build_api(
    backend: Backend,
    styles: dict[str, Style] | None = None,
    options: ApiOptions = ApiOptions(),  # noqa: B008  (frozen)
    *,
    metrics: Metrics | None = None,
    switch: Switch | None = None,
    door: Door | None = None,
) -> FastAPI:
    """The application around a backend; `styles` is the gallery of GET /v1/styles."""
    api = FastAPI(
        title="gaugan", version="1", docs_url=None, redoc_url=None, description="Paints portraits from label maps."
    )
    metrics, door = metrics or Metrics(), door or Door()
    api.state.service = Service(backend, styles or {}, metrics, AnswerCache(options.cache_bytes), switch)
    for routes in (paint_routes, labelme_routes, facts_routes, inference_routes, admin_routes):
        api.include_router(routes.router)
    api.mount("/studio", _Studio(directory=STUDIO), name="studio")
    api.add_api_route("/", _page, include_in_schema=False)
    api.add_api_route("/favicon.ico", _icon, include_in_schema=False)
    api.add_exception_handler(problems.Problem, _on_problem)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_middleware(Head)  # the innermost: the last one added sees a request first
    if options.allow_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=options.allow_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Classes-Hash", "X-Request-ID"],
            expose_headers=EXPOSED_HEADERS,
        )
    api.add_middleware(Guard, tokens=options.tokens, door=door, allow_origins=options.allow_origins)
    api.add_middleware(Gate, timeout_s=options.timeout_s)
    api.add_middleware(Observer, metrics=metrics, access_log=options.access_log)
    api.openapi = lambda: _openapi(api, options.tokens)  # type: ignore[method-assign]
    return api


class _Studio(StaticFiles):
    """Asked for again at every visit (answered 304): old and new modules must not meet in one page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _page() -> FileResponse:
    return FileResponse(STUDIO / "index.html", headers={"Cache-Control": "no-cache"})


def _icon() -> FileResponse:
    return FileResponse(STUDIO / "icon.svg")


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, problems.Problem)
    return problems.problem_response(error, request)


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problems.problem_response(problems.from_validation_errors(list(error.errors())), request)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problems.problem_response(problems.from_http_exception(error), request, headers=error.headers)


def _openapi(api: FastAPI, tokens: Tokens) -> dict[str, Any]:
    """FastAPI's description, with our problem documents in place of its own validation errors, and the tokens."""
    if api.openapi_schema is None:
        description = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
        components = description["components"]
        shapes = components["schemas"]
        shapes["ProblemDocument"] = schema.ProblemDocument.model_json_schema()
        shapes["ProblemDocument"]["properties"]["code"]["enum"] = sorted(problems.PROBLEMS)
        for name in ("HTTPValidationError", "ValidationError"):
            shapes.pop(name, None)
        components["securitySchemes"] = {name: {"type": "http", "scheme": "bearer"} for name in ("user", "admin")}
        for path, methods in description["paths"].items():
            for operation in methods.values():
                operation["responses"].setdefault("default", _ANY_PROBLEM)
                if path.startswith(ADMIN_PATHS):
                    operation["security"] = [{"admin": []}]
                elif tokens.user is not None and path not in OPEN_PATHS:
                    operation["security"] = [{"user": []}]
        api.openapi_schema = description
    return api.openapi_schema


_ANY_PROBLEM = {
    "description": "A problem document (RFC 9457)",
    "content": {problems.PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
}
