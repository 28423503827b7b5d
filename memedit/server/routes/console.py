"""The console's files, served from memory by name under a strict content security policy.

The pages load nothing from elsewhere and run no inline script.
"""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from memedit.console import FILES, content
from memedit.server.problems import ApiError

router = APIRouter(include_in_schema=False)

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
    if name not in FILES:
        raise ApiError(404, "the console has no such file", code="not_found")
    found, tag = content(name)
    headers = _HEADERS | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(found, media_type=FILES[name], headers=headers)
