"""Read-your-writes: a request can name a revision that it must see."""

import asyncio
import time
from typing import Annotated

from fastapi import Header, Request

from memedit.errors import InputError
from memedit.server.problems import ApiError
from memedit.server.state import server_state

_STEP = 0.02

MinRevision = Annotated[
    int | None,
    Header(
        alias="X-Memedit-Min-Revision",
        ge=0,
        lt=2**63,
        description="Answer only once the memory is at this revision: that of an earlier response.",
    ),
]


async def awaited_revision(request: Request, min_revision: MinRevision = None) -> None:
    """Wait until the memory, as this process sees it, is at the revision that the request asks for.

    Raises:
        ApiError: 412, it did not get there in time.
    """
    if min_revision is None:
        return
    state = server_state(request)
    deadline = time.monotonic() + state.settings.revision_wait
    while True:
        try:
            await state.quick.run(state.memory.require_revision, min_revision)
            return
        except InputError as error:
            if time.monotonic() >= deadline:
                raise ApiError(
                    412,
                    f"{error}; waited {state.settings.revision_wait:g} s",
                    code="revision_not_reached",
                    headers={"Retry-After": "1"},
                ) from error
        await asyncio.sleep(_STEP)
