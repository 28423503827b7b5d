"""What happens to every request: its size is limited, its answer carries the revision, it is counted and logged."""

import asyncio
import ipaddress
import logging
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memedit.errors import MemeditError
from memedit.server.logs import fields, shown_path
from memedit.server.problems import ApiError, as_api_error, stopping, told
from memedit.server.state import ServerState

REVISION = "X-Memedit-Revision"
REQUEST_ID = "X-Request-Id"
IMPORT_PATH = "/v1/edits/import"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,100}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GUARDED = ("/v1/", "/metrics")
_log = logging.getLogger("memedit.server.requests")


class BodyLimit:
    """Refuses bodies that are too large, by their announced length or as they come in."""

    def __init__(self, app: ASGIApp, *, limit: int, import_limit: int) -> None:
        self._app, self._limit, self._import_limit = app, limit, import_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._import_limit if scope["path"] == IMPORT_PATH else self._limit
        announced = Headers(scope=scope).get("content-length", "0")
        refusal = ApiError(413, f"the body is larger than {limit:,} bytes", code="body_too_large")
        if announced.isdigit() and int(announced) > limit:
            await refusal.response()(scope, receive, send)
            return
        seen, refused = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise refusal
            return message

        async def replaced(message: Message) -> None:
            """Send what the routes answer; but a body that was cut off is answered here, whatever they made of it."""
            nonlocal refused
            if seen <= limit:
                await send(message)
            elif not refused:
                refused = True
                await refusal.response()(scope, receive, send)

        await self._app(scope, counted, replaced)


class Gate:
    """Asks for the key before anything of the body is read, and keeps who has it for the routes."""

    def __init__(self, app: ASGIApp, *, state: ServerState) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"].startswith(_GUARDED):
            kind, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
            asked = secret.strip() if kind.lower() == "bearer" else None
            try:
                who = await self._state.quick.run(self._state.authenticator.principal, asked)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            except MemeditError as error:
                await as_api_error(error).response()(scope, receive, send)
                return
            scope["state"] |= {"principal": who, "key": who.name}
        await self._app(scope, receive, send)


class OwnPagesOnly:
    """Lets no web page of elsewhere use a server that asks for no keys.

    A browser on this machine reaches loopback addresses for any page that it shows. So pages must be the server's own
    or listed, and the name under which it is asked for must be one of this machine's: else a page could point a name of
    its own at it.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            own = f"{scope.get('scheme', 'http')}://{host}"
            if not _loopback(host) or (origin is not None and origin != own and origin not in self._origins):
                refusal = ApiError(403, "a server without keys answers its own pages only", code="foreign_page")
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


class Accounts:
    """Gives each request an id, each response the memory's revision, and counts and logs what was answered.

    An error that nobody has answered is answered here, so that the connection stays of use.
    """

    def __init__(self, app: ASGIApp, *, state: ServerState) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 0
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if REVISION not in headers and scope["path"].startswith("/v1/"):
                    await self._add_revision(headers)
            await send(message)

        # what can be got can be asked about: the server sends the head of it alone
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self._app(inner, receive, marked)
        except asyncio.CancelledError:
            if not self._state.deadlines.over:
                raise
            if not status:
                await stopping().response()(scope, receive, marked)
        except Exception as error:
            if status:
                raise  # a stream that has begun: the connection is closed
            await told(error).response()(scope, receive, marked)
        finally:
            route = getattr(inner.get("route"), "path", "unknown")
            seconds = perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._state.metrics.answered(method, route, status, seconds)
            self._log(scope, status, seconds, request_id)

    def _log(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        asked = {"method": scope["method"][:20], "path": shown_path(scope), "status": status}
        asked |= {"seconds": round(seconds, 4), "request_id": request_id, "key": scope["state"].get("key")}
        entry = "%s %s %d %.3fs id=%s"
        _log.info(entry, asked["method"], asked["path"], status, seconds, request_id, extra=fields(**asked))

    async def _add_revision(self, headers: MutableHeaders) -> None:
        with suppress(MemeditError):  # the response tells what failed; an unreadable memory has no revision
            headers[REVISION] = str(await self._state.quick.run(lambda: self._state.memory.revision))
