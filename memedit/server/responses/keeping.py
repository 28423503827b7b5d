"""Answers in the store: each for the key that asked, in its namespace, until it expires."""

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from memedit.errors import MemeditError
from memedit.memory import StoredResponse
from memedit.server.auth import Principal
from memedit.server.problems import ApiError
from memedit.server.state import ServerState

_log = logging.getLogger("memedit.server")
_PATIENCE = 10.0
"""Seconds that an answer waits to be stored; it is told as not stored then."""


async def keep(state: ServerState, who: Principal, namespace: str, body: dict[str, Any], items: Sequence[Any]) -> bool:
    """Store an answer with the items that it was given to; return whether it could be."""
    now = datetime.now(UTC)
    stored = StoredResponse(
        id=body["id"],
        actor=who.name,
        namespace=namespace,
        created_at=now,
        expires_at=now + timedelta(days=state.settings.response_days),
        body=json.dumps(body),
        items=json.dumps(list(items)),
    )
    try:
        write = state.changes.run(who.name, lambda: state.memory.responses.put(stored))
        await asyncio.wait_for(write, _PATIENCE)
    except (ApiError, MemeditError, TimeoutError) as error:
        _log.warning("a response could not be stored: %s", error)
        return False
    return True


async def stored_response(
    state: ServerState, who: Principal, response_id: str, *, param: str | None = None
) -> StoredResponse:
    """Return an answer that was given to this key.

    Raises:
        ApiError: 404, there is none, or it is another key's, or in a namespace that this key has lost.
    """
    found = await state.quick.run(state.memory.responses.find, who.name, response_id, datetime.now(UTC))
    if found is None or (who.namespaces is not None and found.namespace not in who.namespaces):
        raise no_response(response_id, param)
    return found


def no_response(response_id: str, param: str | None = None) -> ApiError:
    """Return the refusal where there is no such answer."""
    code = "response_not_found" if param is None else "previous_response_not_found"
    return ApiError(
        404 if param is None else 400, f"there is no response {response_id[:100]!r}", code=code, param=param
    )
