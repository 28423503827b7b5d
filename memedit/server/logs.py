"""The server's log: one entry a line, as text or as JSON, that no client can forge or drive a terminal with."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from memedit.errors import InputError

LogFormat = Literal["text", "json"]
_LEVELS = ("debug", "info", "warning", "error")
_LONGEST_PATH, _LONGEST_MESSAGE = 200, 4_000
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FIELDS = "fields"


def shown_path(scope: Mapping[str, Any]) -> str:
    """Return a request's path as it was sent, for a log: quoted where it is no plain ASCII, and cut."""
    raw = scope.get("raw_path")
    path = quote(raw if isinstance(raw, bytes) else str(scope["path"]).encode(), safe="/%:@!$&'()*+,;=-._~")
    return _cut(path, _LONGEST_PATH)


def fields(**values: Any) -> dict[str, Any]:
    """Return the ``extra`` of a log call: values that a JSON log has under their own names."""
    return {_FIELDS: values}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}...(+{len(text) - length})"


def _visible(text: str) -> str:
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


class TextFormatter(logging.Formatter):
    """An entry as one line; the lines of a traceback are set in, so that none can pass for an entry."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the entry's line with control characters written as escapes."""
        return _cut(_visible(super().formatMessage(record)), _LONGEST_MESSAGE)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """Return a traceback, set in."""
        return "\n".join(f"    | {_visible(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """An entry as one JSON object in ASCII: time, level, logger, message, the call's own fields, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage(), _LONGEST_MESSAGE),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_to_stderr(level: str, form: str = "text") -> None:
    """Have the server's own messages written to stderr, one a line.

    Raises:
        InputError: no such level or format.
    """
    if level.lower() not in _LEVELS:
        raise InputError(f"--log-level {level!r} is none of {', '.join(_LEVELS)}")
    if form not in ("text", "json"):
        raise InputError(f"--log-format {form!r} is neither 'text' nor 'json'")
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    for name in ("memedit.server", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
