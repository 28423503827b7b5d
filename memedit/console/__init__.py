"""The console: pages for a browser, hand-written, that use the same API as everyone else.

The files are few and fixed, and read by name: nothing of a request reaches the file system. The text of edits, which
anyone may have written, only ever becomes text nodes.
"""

import functools
import hashlib
from importlib import resources

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
FILES = {name: "text/javascript; charset=utf-8" for name in _SCRIPTS} | {
    "index.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Media type of each file, by name."""


@functools.cache
def content(name: str) -> tuple[bytes, str]:
    """Return the content of one of :data:`FILES` and its entity tag."""
    found = resources.files(__package__).joinpath(name).read_bytes()
    return found, f'"{hashlib.sha256(found).hexdigest()[:24]}"'
