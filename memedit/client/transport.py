"""Requests that are repeated where that is safe, and errors told as memedit's own."""

import contextlib
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import httpx

from memedit.errors import (
    ConflictError,
    EditChangedError,
    EditNotFoundError,
    FieldError,
    ServiceError,
    ServiceUnavailableError,
)

_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_REVISION, _MIN_REVISION = "X-Memedit-Revision", "X-Memedit-Min-Revision"


class Transport:
    """One server's connection pool.

    Every change carries an idempotency key, so that repeating it after a broken connection cannot make it twice. The
    newest revision that a change of this client made is asked for by every later request: it sees its own changes
    whichever server of several it reaches.

    Args:
        url: the server's address.
        api_key: sent as a bearer token.
        namespace: sent with every request; None leaves it to the server.
        timeout: seconds without a byte after which a response is given up.
        retries: how often a request is repeated that could not be answered.
        transport: replaces the network.
        sleep: waits between two tries.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        namespace: str | None = None,
        timeout: float = 300.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"X-Memedit-Namespace": namespace} if namespace is not None else {}
        headers |= {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Timeout(timeout, connect=10.0)
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=limits, transport=transport)
        self._retries, self._sleep = retries, sleep
        self.revision = 0

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON at ``path``; parameters that are None are left out.

        Raises:
            ServiceError: the server refused or failed.
        """
        return self.send("GET", path, params=params).json()

    def change(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **parts: Any) -> Any:
        """Make a change once, whatever becomes of the connection; return the answer's JSON.

        Raises:
            ConflictError, EditNotFoundError, EditChangedError, FieldError, ServiceError: it was not made.
        """
        keyed = {"Idempotency-Key": uuid.uuid4().hex, **(headers or {})}
        response = self.send(method, path, headers=keyed, **parts)
        made = response.headers.get(_REVISION, "")
        if made.isdigit():
            self.revision = max(self.revision, int(made))
        return response.json()

    def send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send a request, again when it could not be answered, and return the response that has no error."""
        with self.opened(method, path, **parts) as response:
            response.read()
            return response

    @contextlib.contextmanager
    def opened(self, method: str, path: str, **parts: Any) -> Iterator[httpx.Response]:
        """Yield a response without error whose body has not been read; repeated as :meth:`send` is."""
        headers = dict(parts.pop("headers", None) or {})
        if self.revision:
            headers[_MIN_REVISION] = str(self.revision)
        params = {name: value for name, value in (parts.pop("params", None) or {}).items() if value is not None}
        response = self._answered(method, path, headers=headers, params=params, **parts)
        try:
            yield response
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _answered(self, method: str, path: str, **parts: Any) -> httpx.Response:
        for tried in range(self._retries + 1):
            request = self._client.build_request(method, path, **parts)
            try:
                response = self._client.send(request, stream=True)
                if response.is_success:
                    return response
                with contextlib.closing(response):
                    response.read()
            except httpx.HTTPError as error:
                if tried == self._retries or isinstance(error, httpx.ReadTimeout):
                    raise self._unreachable(error) from error
                self._sleep(_pause(tried, None))
                continue
            if tried == self._retries or not _repeatable(response):
                raise _service_error(response, path)
            self._sleep(_pause(tried, response.headers.get("Retry-After")))
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.HTTPError) -> ServiceUnavailableError:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        return ServiceUnavailableError(f"the memedit server at {self.url} cannot be reached or broke off ({what})")


def _repeatable(response: httpx.Response) -> bool:
    return response.status_code in _AGAIN or _error(response).get("code") == "request_in_progress"


def _pause(tried: int, retry_after: str | None) -> float:
    """Seconds before the next try: what the server asks for, else twice as long each time, spread by chance."""
    with contextlib.suppress(ValueError, TypeError):
        return min(float(retry_after or ""), _LONGEST_PAUSE)
    return min(_FIRST_PAUSE * 2**tried, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        found = None
    return found if isinstance(found, dict) else {}


def _service_error(response: httpx.Response, path: str) -> Exception:
    """The error for a response, memedit's own kind where there is one."""
    error, status = _error(response), response.status_code
    said = str(error.get("message") or response.text[:500] or response.reason_phrase)
    code, param = error.get("code"), error.get("param")
    if code == "edit_conflict":
        return _told(ConflictError(new_id=error["new_id"], existing_id=error["existing_id"], reason=""), said)
    if code == "edit_not_found":
        return _told(EditNotFoundError(_edit_id(path), ""), said)
    if code == "edit_changed" and (versions := re.search(r"version (\d+), not (\d+)", said)):
        return _told(EditChangedError(_edit_id(path), int(versions[2]), int(versions[1])), said)
    if code == "invalid_field":
        return _told(FieldError(str(param or ""), ""), said)
    kind = ServiceUnavailableError if status in _AGAIN else ServiceError
    request_id = response.headers.get("X-Request-Id")
    return kind(f"{said} (HTTP {status})", status=status, code=code, param=param, request_id=request_id)


def _edit_id(path: str) -> str:
    """The id in a path such as ``/v1/edits/ID/history``."""
    return unquote(path.split("/")[3]) if path.startswith("/v1/edits/") else ""


def _told(error: Exception, message: str) -> Exception:
    """Give an error the server's own words."""
    error.args = (message,)
    return error
