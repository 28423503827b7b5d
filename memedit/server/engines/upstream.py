"""The connection to an engine that speaks OpenAI's protocol: pooled, streamed, its errors told as this server's own."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from memedit.server.problems import ApiError

_CONNECT_SECONDS = 5.0
_CONNECTIONS, _KEPT_ALIVE = 1_000, 100
_LONGEST_MESSAGE = 2_000
_PASSED = {400: 400, 404: 404, 409: 400, 413: 413, 422: 400, 429: 429, 503: 503}
"""Upstream's refusals that are about the client's request or about load; all others are the upstream's failure."""


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
            headers=headers,
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
            response = await self._client.get(f"{self.url}{path}", timeout=timeout)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return self._json(response)

    async def is_healthy(self, *, timeout: float) -> bool:
        """Whether ``/health`` beside ``/v1`` answers, as vLLM's, llama.cpp's and transformers' does."""
        try:
            response = await self._client.get(f"{self.url.removesuffix('/v1')}/health", timeout=timeout)
        except httpx.HTTPError:
            return False
        return response.is_success

    async def open(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Post ``body`` and return the response, whose body has not been read yet; close it in the end.

        Raises:
            ApiError: the engine refused the request or cannot be reached.
        """
        request = self._client.build_request("POST", f"{self.url}{path}", json=body)
        try:
            response = await self._client.send(request, stream=True)
            if response.is_success:
                return response
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        raise self._refusal(response)

    async def whole(self, response: httpx.Response) -> Any:
        """Return the JSON of an open response and close it.

        Raises:
            ApiError: 502 or 504, the connection broke or the body is no JSON.
        """
        try:
            await response.aread()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            await response.aclose()
        return self._json(response)

    async def chunks(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON of each server-sent event of an open response until it says that it is done.

        Raises:
            ApiError: the connection broke, or the engine reports an error in the stream.
        """
        try:
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line[5:].strip()
                if data == "[DONE]":
                    return
                chunk = self._parsed(data)
                if chunk.get("error"):
                    raise ApiError(502, f"the upstream engine failed: {_message(chunk)}", code="upstream_error")
                yield chunk
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _parsed(self, data: str) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ApiError(502, f"the upstream engine sent no JSON object: {data[:200]!r}", code="upstream_error")
        return found

    def _json(self, response: httpx.Response) -> Any:
        if not response.is_success:
            raise self._refusal(response)
        return self._parsed(response.text)

    def _refusal(self, response: httpx.Response) -> ApiError:
        """The error for an upstream's response with an error status."""
        status = response.status_code
        said = _message(_body(response)) or response.reason_phrase
        headers = {"Retry-After": response.headers["Retry-After"]} if "Retry-After" in response.headers else {}
        if status in (401, 403):
            message = f"the upstream engine refused this server's credentials ({status}: {said})"
            return ApiError(502, message, code="upstream_credentials")
        code = {429: "upstream_overloaded", 503: "upstream_unavailable"}.get(status, "upstream_refused")
        if status in _PASSED:
            if status in (429, 503):
                headers.setdefault("Retry-After", "1")
            found = _body(response).get("error")
            param = found.get("param") if isinstance(found, dict) else None
            return ApiError(_PASSED[status], f"the upstream engine: {said}", code=code, param=param, headers=headers)
        return ApiError(502, f"the upstream engine failed ({status}: {said})", code="upstream_error")

    def _unreachable(self, error: httpx.HTTPError) -> ApiError:
        """The error for a connection that could not be made, or broke."""
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return ApiError(504, f"the upstream engine at {self.url} did not answer in time", code="upstream_timeout")
        message = f"the upstream engine at {self.url} cannot be reached or broke off ({what})"
        return ApiError(502, message, code="upstream_unreachable", headers={"Retry-After": "1"})


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"error": response.text}


def _message(body: Mapping[str, Any]) -> str:
    """What an error body says, in OpenAI's form or in others that are met."""
    error = body.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    said = error or body.get("message") or body.get("detail") or ""
    return str(said)[:_LONGEST_MESSAGE]
