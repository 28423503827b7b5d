"""Keeping the edits' states in the memory in step with the champion, and one job at a time.

What a model answers from its weights is decided by the version it was loaded as (its record names the edits and their
content), never by the states in the memory: these are for people and other programs. So a kill between a promotion and
this step loses nothing; the next step of any job puts the states right.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import VersionRecord
from memedit.consolidation.versions import VersionStore
from memedit.errors import StoreBusyError
from memedit.memory import EditMemory
from memedit.types import Edit, EditState

LEASE = "consolidation"
_LEASE_SECONDS = 120.0
PLAIN_BASE = "base"
ATTEMPT = "consolidation.attempt"
"""Setting of the memory: which edits the last job was about, so that a schedule does not try the same again."""


def sync_states(memory: EditMemory, store: VersionStore) -> tuple[int, int]:
    """Mark as consolidated what the champion's weights answer (be it in plain text only), and as active the others.

    Returns:
        How many edits became consolidated, and how many active again.
    """
    champion = store.champion()
    held = EditsInWeights(() if champion is None else champion.edits)
    name = PLAIN_BASE if champion is None else champion.name
    into = [edit.id for edit in memory.list(state=EditState.ACTIVE) if held.holds(edit, chat=False)]
    out = [edit.id for edit in memory.list(state=EditState.CONSOLIDATED) if not held.holds(edit, chat=False)]
    if into:
        memory.set_states(into, EditState.CONSOLIDATED, link=name)
    if out:
        memory.set_states(out, EditState.ACTIVE, link=name)
    return len(into), len(out)


def stale_edits(memory: EditMemory, record: VersionRecord | None) -> list[str]:
    """Return the ids of edits in a version's weights that are withdrawn, or have changed since.

    The weights still lean towards what these said; only solving again takes it out.
    """
    if record is None:
        return []
    live: dict[str, Edit] = {
        edit.id: edit for state in (EditState.ACTIVE, EditState.CONSOLIDATED) for edit in memory.list(state=state)
    }
    return [e.id for e in record.edits if e.id not in live or live[e.id].content_hash != e.content_hash]


@contextmanager
def only_runner(memory: EditMemory, *, seconds: float = _LEASE_SECONDS) -> Iterator[str]:
    """Hold the memory's lease on consolidation, prolonging it while work goes on; yields the holder's name.

    Raises:
        StoreBusyError: another process consolidates this namespace; says which and until when its lease runs.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    if not memory.acquire_lease(LEASE, owner, seconds):
        found = memory.lease(LEASE)
        held = "another process" if found is None else f"{found.owner} (until {found.expires_at:%H:%M:%S} UTC)"
        raise StoreBusyError(
            f"namespace {memory.namespace!r} is being consolidated by {held}; wait for it, or, if it has "
            "died, until its lease runs out"
        )
    stop = threading.Event()

    def prolong() -> None:
        while not stop.wait(seconds / 3):
            memory.acquire_lease(LEASE, owner, seconds)

    keeper = threading.Thread(target=prolong, name="consolidation-lease", daemon=True)
    keeper.start()
    try:
        yield owner
    finally:
        stop.set()
        keeper.join()
        memory.release_lease(LEASE, owner)
