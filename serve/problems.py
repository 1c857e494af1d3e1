"""Every way a request can fail: stable codes, HTTP statuses and RFC 9457 problem documents.

Source: RFC 9457, "Problem Details for HTTP APIs". A document carries `type`, `title`, `status`, `detail`, `instance`
and our extensions `code` (stable, for programs), `request_id` and, for field errors, `errors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"

# code -> (HTTP status, title). The only place where a status is chosen.
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The request can't be read"),
    "no_token": (401, "A token is needed"),
    "wrong_token": (401, "The token is not the right one"),
    "admin_off": (403, "Nobody may change this server"),
    "cross_site": (403, "Another site's page sent this"),
    "not_found": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "This address does not take that method"),
    "slow_upload": (408, "The upload took too long"),
    "classes_mismatch": (409, "The label map was drawn for another class table"),
    "swap_running": (409, "The model is being changed already"),
    "no_previous_model": (409, "There is no model to go back to"),
    "body_too_large": (413, "The upload is too large"),
    "encoded_body": (415, "Compressed uploads are not read"),
    "unsupported_format": (415, "This kind of file is not read"),
    "missing_field": (422, "A field is missing"),
    "invalid_field": (422, "A field has a value that is not allowed"),
    "empty": (422, "The file is empty"),
    "not_an_image": (422, "The file is not a picture"),
    "not_a_png": (422, "The label map is not a PNG"),
    "truncated": (422, "The file ends too early"),
    "corrupt": (422, "The file is damaged"),
    "too_large": (422, "The picture has too many pixels"),
    "too_small": (422, "The picture has too few pixels"),
    "unsupported_mode": (422, "The label map's pixel format is not read"),
    "unknown_id": (422, "The label map has a class id outside the class table"),
    "unknown_colour": (422, "The label map has colours outside the class table"),
    "bad_annotation": (422, "The annotation can't be used"),
    "ignored_pixels": (422, "The label map has unlabelled pixels"),
    "wrong_size": (422, "The label map has another size than the model"),
    "wrong_shape": (422, "The raw ids don't fill the shape"),
    "unknown_model": (422, "There is no such model"),
    "no_style": (422, "The model paints in one style only"),
    "unknown_style": (422, "There is no such style"),
    "internal": (500, "The server failed"),
    "no_segmenter": (501, "This server has no segmenter"),
    "busy": (503, "The server is busy"),
    "stopping": (503, "The server is being stopped"),
    "not_ready": (503, "The model is not ready"),
    "timeout": (504, "The answer took too long"),
}

STATUS_CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "body_too_large",
}


class Problem(Exception):  # noqa: N818  (RFC 9457's word)
    """A refusal with a stable `code` of PROBLEMS and a `detail` sentence that says what to do."""

    def __init__(
        self, code: str, detail: str, *, errors: list[dict[str, Any]] | None = None, retry_after_s: int | None = None
    ):
        super().__init__(detail)
        self.code, self.detail, self.errors, self.retry_after_s = code, detail, errors, retry_after_s
        self.status, self.title = PROBLEMS[code]


def document(problem: Problem, path: str, request_id: str) -> dict[str, Any]:
    """The problem as the plain dict of an RFC 9457 document."""
    plain: dict[str, Any] = {
        "type": f"urn:gaugan:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": path,
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.errors:
        plain["errors"] = problem.errors
    if path.startswith("/v2"):
        plain["error"] = problem.detail  # where clients of the Open Inference Protocol look
    return plain


def problem_bytes(problem: Problem, path: str, request_id: str) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of the answer."""
    text = json.dumps(document(problem, path, request_id), ensure_ascii=False)
    body = text.encode(errors="replace")  # JSON may bring half a surrogate pair, and a detail may quote it
    headers = {"content-type": PROBLEM_JSON, "content-length": str(len(body)), "cache-control": "no-store"}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(problem.retry_after_s)
    return body, headers


def problem_response(problem: Problem, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as a Starlette response; `headers` are added."""
    request.scope.setdefault("state", {})["problem"] = problem.code
    body, own = problem_bytes(problem, request.url.path, request_id_of(request.scope))
    return Response(body, status_code=problem.status, headers={**(headers or {}), **own})


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that the gate gave this request."""
    return scope.get("state", {}).get("request_id", "")


def from_http_exception(error: HTTPException) -> Problem:
    """Starlette's own refusals (no route, wrong method, unreadable form) as problems."""
    code = STATUS_CODES.get(error.status_code, "malformed_request" if error.status_code < 500 else "internal")
    details = {
        "not_found": "Nothing is served at this path; GET /openapi.json lists what is.",
        "method_not_allowed": "Look up the allowed method in GET /openapi.json.",
    }
    return Problem(code, details.get(code, str(error.detail)))


def from_validation_errors(errors: list[dict[str, Any]]) -> Problem:
    """FastAPI's field errors as one problem; the uploaded values themselves are not echoed."""
    plain = [{"field": str(entry["loc"][-1]), "message": str(entry["msg"])} for entry in errors]
    missing = [entry["field"] for entry, raw in zip(plain, errors, strict=True) if raw["type"] == "missing"]
    if missing:
        fields = ", ".join(missing)
        return Problem("missing_field", f"Send multipart/form-data with the field {fields}.", errors=plain)
    first = plain[0]
    return Problem("invalid_field", f"{first['field']}: {first['message']}.", errors=plain)
