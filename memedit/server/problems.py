"""Errors on their way to a client: the right status, in the envelope that OpenAI's clients read."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from memedit.errors import (
    ConflictError,
    ContextLengthError,
    EditChangedError,
    EditNotFoundError,
    FieldError,
    InputError,
    MemeditError,
    QuotaError,
    RepeatedRequestError,
    StoreBusyError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_log = logging.getLogger("memedit.server")

_LONGEST, _LONGEST_PLACE = 900, 120
_QUOTA_SECONDS = 300
_WHOLE = "body"
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 412: "precondition_error",
    413: "invalid_request_error", 429: "rate_limit_error", 502: "upstream_error", 503: "unavailable_error",
    504: "timeout_error",
}  # fmt: skip


class ApiError(Exception):
    """An answer that is an error: HTTP status, message, and what OpenAI's envelope has besides.

    ``details`` are further fields of the envelope; ``headers`` of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers, self.details = dict(headers or {}), dict(details or {})

    def envelope(self) -> dict[str, Any]:
        """Return the body."""
        kind = _TYPES.get(self.status, "server_error")
        message = self.message.encode("utf-8", "replace").decode()  # whatever it quotes, it can be sent
        error = {"message": message, "type": kind, "param": self.param, "code": self.code, **self.details}
        return {"error": error}

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.envelope(), self.status, self.headers)


def told(error: Exception) -> ApiError:
    """Return what a client is told about any error at all: of one that is no answer, only that there was one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MemeditError):
        return as_api_error(error)
    _log.error("request failed", exc_info=error)
    return _defect()


def _defect() -> ApiError:
    return ApiError(500, "the server failed on this request; its log says more", code="internal_error")


class ClientGoneError(Exception):
    """The client has closed the connection; there is nobody to answer."""


def stopping() -> ApiError:
    """Return the refusal of a request for which the server has no time left."""
    return ApiError(503, "the server is stopping; ask again", code="stopping", headers={"Retry-After": "1"})


def overloaded(message: str, retry_after: float) -> ApiError:
    """Return the refusal of a request that may be made again after so many seconds."""
    return ApiError(429, message, code="overloaded", headers={"Retry-After": str(max(1, round(retry_after)))})


def as_api_error(error: MemeditError) -> ApiError:
    """Return what a client is told about one of memedit's own errors."""
    message = str(error)
    if isinstance(error, ConflictError):
        found = {"new_id": error.new_id, "existing_id": error.existing_id}
        return ApiError(409, message, code="edit_conflict", details=found)
    if isinstance(error, QuotaError):
        quota = {"of": error.of, "name": error.name, "kind": "edits", "limit": error.limit, "used": error.used}
        again = {"Retry-After": str(_QUOTA_SECONDS), "X-Should-Retry": "false"}  # waiting alone does not help
        return ApiError(429, message, code="quota_exceeded", headers=again, details={"quota": quota})
    if isinstance(error, FieldError):
        return ApiError(400, message, code="invalid_field", param=error.field)
    if isinstance(error, StoreBusyError | StoreUnavailableError | StoreFullError):
        return ApiError(503, message, code="store_unavailable", headers={"Retry-After": "1"})
    statuses: tuple[tuple[type[MemeditError], int, str], ...] = (
        (EditNotFoundError, 404, "edit_not_found"),
        (EditChangedError, 412, "edit_changed"),
        (RepeatedRequestError, 409, "request_in_progress"),
        (StoreReadOnlyError, 403, "read_only"),
        (ContextLengthError, 400, "context_length_exceeded"),
        (InputError, 400, "invalid_value"),
    )
    for kind, status, code in statuses:
        if isinstance(error, kind):
            return ApiError(status, message, code=code)
    _log.error("request failed", exc_info=error)
    return _defect()


def validation_error(errors: Sequence[Any], body: Any = None) -> ApiError:
    """Return all that is wrong with a request's parameters or ``body``, in one message that names the client's fields.

    What says that the body is no JSON has no field.
    """
    found: dict[str, list[str]] = {}
    for error in errors:
        wrong, message = found.setdefault(_place(error, body), []), error["msg"]
        if error["type"] == "json_invalid":
            message = f"the body is no JSON: {(error.get('ctx') or {}).get('error', message)} (at {error['loc'][-1]})"
        if message not in wrong:
            wrong.append(message)
    lines = [f"{place}: {', or '.join(wrong)}" if place else ", or ".join(wrong) for place, wrong in found.items()]
    first = next(iter(found), "")
    param = None if first in ("", _WHOLE) else first
    return ApiError(400, _cut("; ".join(lines), _LONGEST), code="invalid_request", param=param)


def _place(error: Mapping[str, Any], body: Any) -> str:
    """The field that an error is about, as the client wrote it: without the names of types that were tried."""
    if error["type"] == "json_invalid":
        return ""
    source, *rest = error["loc"] or ("",)
    if source != "body":
        return ".".join(map(str, rest)) or str(source)
    parts, at = [], body
    for number, part in enumerate(rest):
        named = isinstance(at, Mapping) and part in at
        if named or (isinstance(at, list) and isinstance(part, int) and part < len(at)):
            at = at[part]
        elif error["type"] != "missing" or number < len(rest) - 1:
            continue
        parts.append(str(part))
    return _cut(".".join(parts), _LONGEST_PLACE) or _WHOLE


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def install_handlers(app: FastAPI) -> None:
    """Have every error of ``app`` answered in the one envelope."""

    async def api_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    async def own_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MemeditError)
        return as_api_error(error).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        kind = request.headers.get("content-type", "")
        if isinstance(error.body, bytes) and "json" not in kind.lower():
            said = f"not {kind[:80]!r}" if kind else "which this request has not"
            message = f"the body is read as JSON with the header 'Content-Type: application/json', {said}"
            return ApiError(400, message, code="invalid_request").response()
        return validation_error(error.errors(), error.body).response()

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(MemeditError, own_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    for kind in (ClientGoneError, ClientDisconnect):
        app.add_exception_handler(kind, gone)
