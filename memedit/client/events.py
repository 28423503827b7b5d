"""Server-sent events of a response."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from memedit.errors import ServiceError


def chunks(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each event of a stream.

    Raises:
        ServiceError: the server reports an error in the stream.
    """
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            error = chunk["error"]
            raise ServiceError(str(error.get("message")), status=200, code=error.get("code"))
        yield chunk
