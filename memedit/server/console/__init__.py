"""The console: pages for a browser, hand-written, that use the same API as everyone else.

The files are few and fixed, and served from memory by name: nothing of a request reaches the file system. A strict
content security policy lets the pages load nothing from elsewhere and run no inline script; the text of edits, which
anyone may have written, only ever becomes text nodes.
"""

import functools
import hashlib
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import Response

from memedit.server.problems import ApiError

router = APIRouter(include_in_schema=False)

_SCRIPTS = (
    "app.js",
    "api.js",
    "dom.js",
    "edits.js",
    "editor.js",
    "conflicts.js",
    "tryit.js",
    "scope.js",
    "runs.js",
    "metrics.js",
    "chart.js",
    "links.js",
    "bulk.js",
    "files.js",
    "filters.js",
    "limits.js",
    "requests.js",
    "proposal.js",
    "namespaces.js",
    "audit.js",
    "keys.js",
    "day.js",
)
_FILES = {name: "text/javascript; charset=utf-8" for name in _SCRIPTS} | {
    "index.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


@router.get("/console")
def page(request: Request) -> Response:
    """Return the console's page."""
    return _file(request, "index.html")


@router.get("/console/{name}")
def part(request: Request, name: str) -> Response:
    """Return one of the console's files.

    Raises:
        ApiError: 404, there is none of this name.
    """
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    if name not in _FILES:
        raise ApiError(404, "the console has no such file", code="not_found")
    content, tag = _content(name)
    headers = _HEADERS | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_FILES[name], headers=headers)


@functools.cache
def _content(name: str) -> tuple[bytes, str]:
    """The content of a file and its entity tag."""
    content = resources.files(__package__).joinpath(name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:24]}"'
