"""The HTTP application: endpoints, problem documents, the paint page. No Ray here: any `Backend` will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from serve import facts_routes, labelme_routes, paint_routes, problems, schema
from serve.backend import Backend
from serve.gate import Gate
from serve.service import Service
from serve.styles import Style

STUDIO = Path(__file__).parent / "studio"


def build_api(backend: Backend, styles: dict[str, Style] | None = None) -> FastAPI:
    """The application around a backend; `styles` is the gallery of GET /v1/styles."""
    api = FastAPI(
        title="gaugan", version="1", docs_url=None, redoc_url=None, description="Paints portraits from label maps."
    )
    api.state.service = Service(backend, styles or {})
    for routes in (paint_routes, labelme_routes, facts_routes):
        api.include_router(routes.router)
    api.mount("/studio", StaticFiles(directory=STUDIO), name="studio")
    api.add_api_route("/", _page, include_in_schema=False)
    api.add_api_route("/favicon.ico", _icon, include_in_schema=False)
    api.add_exception_handler(problems.Problem, _on_problem)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_middleware(Gate)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]
    return api


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
    return problems.problem_response(problems.from_http_exception(error), request)


def _openapi(api: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with our problem documents in place of its own validation errors."""
    if api.openapi_schema is None:
        description = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
        shapes = description["components"]["schemas"]
        shapes["ProblemDocument"] = schema.ProblemDocument.model_json_schema()
        shapes["ProblemDocument"]["properties"]["code"]["enum"] = sorted(problems.PROBLEMS)
        for name in ("HTTPValidationError", "ValidationError"):
            shapes.pop(name, None)
        api.openapi_schema = description
    return api.openapi_schema
