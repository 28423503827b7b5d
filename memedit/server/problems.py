"""Errors on their way to a client: the right status, in the envelope that OpenAI's clients read."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from memedit.errors import (
    ConflictError,
    EditChangedError,
    EditNotFoundError,
    FieldError,
    InputError,
    MemeditError,
    RepeatedRequestError,
    StoreBusyError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_log = logging.getLogger("memedit.server")

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"} | {
    404: "not_found_error", 405: "invalid_request_error", 409: "conflict_error", 412: "precondition_error",
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
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code, **self.details}
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


def overloaded(message: str, retry_after: float) -> ApiError:
    """Return the refusal of a request that may be made again after so many seconds."""
    return ApiError(429, message, code="overloaded", headers={"Retry-After": str(max(1, round(retry_after)))})


def as_api_error(error: MemeditError) -> ApiError:
    """Return what a client is told about one of memedit's own errors."""
    message = str(error)
    if isinstance(error, ConflictError):
        found = {"new_id": error.new_id, "existing_id": error.existing_id}
        return ApiError(409, message, code="edit_conflict", details=found)
    if isinstance(error, FieldError):
        return ApiError(400, message, code="invalid_field", param=error.field)
    if isinstance(error, StoreBusyError | StoreUnavailableError | StoreFullError):
        return ApiError(503, message, code="store_unavailable", headers={"Retry-After": "1"})
    statuses: tuple[tuple[type[MemeditError], int, str], ...] = (
        (EditNotFoundError, 404, "edit_not_found"),
        (EditChangedError, 412, "edit_changed"),
        (RepeatedRequestError, 409, "request_in_progress"),
        (StoreReadOnlyError, 403, "read_only"),
        (InputError, 400, "invalid_value"),
    )
    for kind, status, code in statuses:
        if isinstance(error, kind):
            return ApiError(status, message, code=code)
    _log.error("request failed", exc_info=error)
    return _defect()


def validation_error(errors: Sequence[Any]) -> ApiError:
    """Return all that is wrong with a request's parameters or body, in one message."""
    lines = []
    for found in errors:
        place = ".".join(str(part) for part in found["loc"][1:] or found["loc"])
        lines.append(f"{place}: {found['msg']}" if place else str(found["msg"]))
    first = errors[0]["loc"] if errors else ()
    param = ".".join(str(part) for part in first[1:]) or None
    return ApiError(400, "; ".join(lines), code="invalid_request", param=param)


def install_handlers(app: FastAPI) -> None:
    """Have every error of ``app`` answered in the one envelope."""

    async def api_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    async def own_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MemeditError)
        return as_api_error(error).response()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return validation_error(error.errors()).response()

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    async def defect(_: Request, error: Exception) -> JSONResponse:
        return _defect().response()

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(MemeditError, own_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(Exception, defect)
