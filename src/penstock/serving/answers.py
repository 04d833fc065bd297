"""Shaping answers: every one names the version that made it, errors included, and never echoes what cannot be sent."""

import uuid
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from penstock.errors import AccessError, ApprovalError, BundleError, DataError, LeaseHeld, PenstockError, RegistryError
from penstock.serving.runtime import NotReady, Runtime
from penstock.serving.served import Served

SHOWN_CHARS = 80
RETRY_S = 1
STATUS_OF: tuple[tuple[type[PenstockError], int, str], ...] = (
    (NotReady, 503, "not_ready"),
    (AccessError, 403, "not_allowed"),
    (ApprovalError, 409, "decision_refused"),
    (LeaseHeld, 409, "busy"),
    (RegistryError, 409, "registry_refused"),
    (BundleError, 409, "bundle_refused"),
    (DataError, 422, "invalid"),
    (PenstockError, 500, "failed"),
)


class Problematic(Exception):
    """Raised by a route to answer with this status and reason."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def request_id(request: Request) -> str:
    """The id of this request; made here once, never taken from the caller."""
    if "penstock.request_id" not in request.scope:
        request.scope["penstock.request_id"] = uuid.uuid4().hex
    return str(request.scope["penstock.request_id"])


def named(request: Request, served: Served | None) -> dict[str, str | None]:
    """What every answer names."""
    return {
        "request_id": request_id(request),
        "version": served.version if served else None,
        "digest": served.digest if served else None,
    }


def json_answer(content: dict[str, Any], status: int = 200) -> Response:
    """JSON that is always valid UTF-8; a number that is not finite becomes null."""
    headers = {"X-Request-Id": str(content["request_id"]), "X-Penstock-Version": content["version"] or "none"}
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def problem(
    request: Request,
    served: Served | None,
    status: int,
    code: str,
    message: str,
    details: list[dict[str, str]] | None = None,
) -> Response:
    """An answer that is not a success."""
    error = {"code": code, "message": sendable(message), "details": details or []}
    answer = json_answer(named(request, served) | {"error": error}, status)
    if status == 503:
        answer.headers["Retry-After"] = str(RETRY_S)
    return answer


def sendable(text: str) -> str:
    """`text` as UTF-8 can carry it: halves of surrogate pairs as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def install_errors(app: FastAPI, runtime: Runtime, at_fault: Callable[[Request], None]) -> None:
    """Turn every error into the same JSON shape; `at_fault` hears of requests that failed through our fault."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problematic)
        return problem(request, runtime.served, error.status, error.code, error.message)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        details = [_detail(item) for item in error.errors()[:20]]
        first = details[0]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        message = f"{first['field']}: {first['reason']}, found {first['found']}{more}"
        return problem(request, runtime.served, 422, "invalid", message, details)

    def failed(request: Request, error: Exception) -> Response:
        status, code = next((status, code) for kind, status, code in STATUS_OF if isinstance(error, kind))
        if status == 500:
            at_fault(request)
        return problem(request, runtime.served, status, code, str(error))

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:
            return problem(request, runtime.served, 422, "not_json", "the body is not JSON in UTF-8; see /docs")
        hint = "; see /docs" if error.status_code in (404, 405) else ""
        return problem(request, runtime.served, error.status_code, "http", f"{error.detail}{hint}")

    def crashed(request: Request, error: Exception) -> Response:
        del error
        at_fault(request)
        message = f"this is a fault of the service, not of the request; its log names {request_id(request)}"
        return problem(request, runtime.served, 500, "fault", message)

    app.add_exception_handler(Problematic, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(PenstockError, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(500, crashed)


def _detail(item: dict[str, Any]) -> dict[str, str]:
    inside = item["loc"][1:] if item["loc"][:1] == ("body",) else item["loc"]
    where = [str(part) for part in inside if part not in ("batch", "event")]
    found = "nothing" if item["type"] == "missing" else ascii(item.get("input"))
    if item["type"] == "json_invalid":
        where, found = [], str(item.get("ctx", {}).get("error", "other text"))
    reason = str(item["msg"]).removeprefix("Value error, ")
    return {
        "field": sendable(".".join(where)) or "body",
        "reason": sendable(reason),
        "found": found if len(found) <= SHOWN_CHARS else found[:SHOWN_CHARS] + "…",
    }
