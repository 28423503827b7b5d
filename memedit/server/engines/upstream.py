"""The connection to an engine that speaks OpenAI's protocol: pooled, streamed, its errors told as this server's own."""

import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from memedit.server.problems import ApiError

_EVENTS, _ERROR = "text/event-stream", "upstream_error"
_LARGEST_BODY, _LONGEST_LINE, _LONGEST_REFUSAL = 16 << 20, 2 << 20, 256 << 10
"""Bytes: of a whole response, of an event in a stream, and of an error's body."""

_DEEPEST = 100
_WAIT = re.compile(r"[A-Za-z0-9 ,:+-]{1,40}")
_CONNECT_SECONDS = 5.0
_CONNECTIONS, _KEPT_ALIVE = 1_000, 100
_LONGEST_MESSAGE = 2_000
_PASSED = {400: 400, 404: 404, 409: 400, 413: 413, 422: 400, 429: 429, 503: 503}
"""Upstream's refusals that are about the client's request or about load; all others are the upstream's failure."""


def _no_cookies() -> CookieJar:
    """A jar that takes nothing: what an upstream sets for one caller is no other's."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


class Upstream:
    """Calls one OpenAI-compatible engine.

    Args:
        url: its address, with or without the final ``/v1``.
        api_key: sent as a bearer token.
        timeout: seconds without a byte after which a response is given up.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        base = url.rstrip("/")
        self.url = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            headers={**headers, "Accept-Encoding": "identity"},
            cookies=_no_cookies(),
            timeout=httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_KEPT_ALIVE),
            transport=transport,
            trust_env=False,  # a proxy variable of the shell must not carry prompts elsewhere
        )

    async def get(self, path: str, *, timeout: float) -> Any:
        """Return the JSON at ``path``.

        Raises:
            ApiError: 502 or 504, the engine cannot be reached or answers with something else.
        """
        try:
            async with self._client.stream("GET", f"{self.url}{path}", timeout=timeout) as response:
                body = await self._read(response, _LARGEST_BODY)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise self._refusal(response, body)
        return parsed(body)

    async def is_healthy(self, *, timeout: float) -> bool:
        """Whether ``/health`` beside ``/v1`` answers, as vLLM's, llama.cpp's and transformers' does."""
        try:
            response = await self._client.get(f"{self.url.removesuffix('/v1')}/health", timeout=timeout)
        except httpx.HTTPError:
            return False
        return response.is_success

    async def open(self, path: str, body: bytes, *, stream: bool = False) -> httpx.Response:
        """Post a JSON ``body`` and return the response, whose body has not been read yet; close it in the end.

        Raises:
            ApiError: the engine refused the request, cannot be reached, or does not stream what is to be a stream.
        """
        headers = {"Content-Type": "application/json", "Accept": _EVENTS if stream else "application/json"}
        request = self._client.build_request("POST", f"{self.url}{path}", content=body, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
            if response.is_success and (not stream or _is_stream(response)):
                return response
            try:
                said = await self._read(response, _LONGEST_REFUSAL)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_success:
            raise ApiError(502, "the upstream engine sent no stream of events where one was asked for", code=_ERROR)
        raise self._refusal(response, said)

    async def whole(self, response: httpx.Response) -> dict[str, Any]:
        """Return the JSON of an open response and close it.

        Raises:
            ApiError: 502 or 504, the connection broke, or the body is no JSON object or too large.
        """
        try:
            return parsed(await self._read(response, _LARGEST_BODY))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            await response.aclose()

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield the JSON of each server-sent event of an open response, and None when it says that it is done.

        Raises:
            ApiError: the connection broke, a line is too long, or the engine reports an error in the stream.
        """
        try:
            async for line in self._lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    yield None
                    return
                chunk = parsed(data)
                if chunk.get("error"):
                    raise ApiError(502, f"the upstream engine failed: {_message(chunk)}", code=_ERROR)
                yield chunk
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            await response.aclose()

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the lines of a stream; only line ends end them, as an event's text may hold any other separator."""
        self._check_plain(response)
        rest = b""
        async for part in response.aiter_raw():
            *lines, rest = (rest + part).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                yield line
            if len(rest) > _LONGEST_LINE:
                raise ApiError(502, f"the upstream engine sent a line of over {_LONGEST_LINE:,} bytes", code=_ERROR)
        yield rest

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        """Read a body that is not larger than ``limit``."""
        self._check_plain(response)
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > limit:
                raise ApiError(502, f"the upstream engine sent a body of over {limit:,} bytes", code=_ERROR)
        return bytes(body)

    def _check_plain(self, response: httpx.Response) -> None:
        """Refuse what was compressed although nobody asked for that: a few bytes can become gigabytes."""
        coding = response.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            raise ApiError(502, f"the upstream engine sent a body that is compressed ({coding[:40]!r})", code=_ERROR)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _refusal(self, response: httpx.Response, body: bytes) -> ApiError:
        """The error for an upstream's response with an error status."""
        status, found = response.status_code, _body(body)
        said = _message(found) or response.reason_phrase
        wait = response.headers.get("Retry-After", "")
        headers = {"Retry-After": wait} if _WAIT.fullmatch(wait) else {}
        if status in (401, 403):
            message = f"the upstream engine refused this server's credentials ({status}: {said})"
            return ApiError(502, message, code="upstream_credentials")
        code = {429: "upstream_overloaded", 503: "upstream_unavailable"}.get(status, "upstream_refused")
        if status in _PASSED:
            if status in (429, 503):
                headers.setdefault("Retry-After", "1")
            error = found.get("error")
            param = error.get("param") if isinstance(error, dict) else None
            param = param[:200] if isinstance(param, str) else None
            return ApiError(_PASSED[status], f"the upstream engine: {said}", code=code, param=param, headers=headers)
        return ApiError(502, f"the upstream engine failed ({status}: {said})", code=_ERROR)

    def _unreachable(self, error: httpx.HTTPError) -> ApiError:
        """The error for a connection that could not be made, or broke."""
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return ApiError(504, f"the upstream engine at {self.url} did not answer in time", code="upstream_timeout")
        message = f"the upstream engine at {self.url} cannot be reached or broke off ({what})"
        return ApiError(502, message, code="upstream_unreachable", headers={"Retry-After": "1"})


def parsed(data: bytes) -> dict[str, Any]:
    """Return a JSON object as it can be passed on: NaN and infinities are null, lone surrogates U+FFFD.

    Raises:
        ApiError: 502, it is no JSON object, or one that nobody can read.
    """
    try:
        found = json.loads(data, parse_constant=_nothing, parse_float=_finite)
        if isinstance(found, dict) and (data.count(b"[") + data.count(b"{") > _DEEPEST or b"\\u" in data):
            found = _tame(found, _DEEPEST)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError(502, f"the upstream engine sent no JSON object: {data[:200]!r}", code=_ERROR)
    return found


def _nothing(_: str) -> None:
    return None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _tame(value: Any, depth: int) -> Any:
    """Copy a JSON value without lone surrogates.

    Raises:
        ValueError: it is nested deeper than ``depth``.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not value.isascii() else value
    if isinstance(value, dict | list) and not depth:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {_tame(name, 0): _tame(part, depth - 1) for name, part in value.items()}
    return [_tame(part, depth - 1) for part in value] if isinstance(value, list) else value


def _is_stream(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", _EVENTS)).partition(";")[0].strip().lower() == _EVENTS


def _body(data: bytes) -> dict[str, Any]:
    """An error's body, whatever it is."""
    try:
        return parsed(data)
    except ApiError:
        return {"error": data.decode(errors="replace")}


def _message(body: Mapping[str, Any]) -> str:
    """What an error body says, in OpenAI's form or in others that are met."""
    error = body.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    said = error or body.get("message") or body.get("detail") or ""
    return str(said)[:_LONGEST_MESSAGE]
