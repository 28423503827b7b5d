"""What adapters prepared for edits: kept in the memory beside them, made when first needed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from memedit.adapters.base import Adapter
from memedit.encoders.base import Progress
from memedit.scope.base import PreparesEdits
from memedit.types import Edit, EditState

if TYPE_CHECKING:
    from memedit.memory import EditMemory

_KEPT = 10_000
"""Artefacts held in this process's memory."""

_BATCH = 64
_PAGE = 4_096
"""Edits that are read from the memory at once."""
_WRITTEN = 1_024
"""Artefacts written in one transaction, or those of ``_SECONDS``: a kill loses no more."""
_SECONDS = 5.0


class Artefacts:
    """Fetches adapters' per-edit data from the memory and makes what is not there.

    Answering never writes: what it had to make stays in this process. :meth:`store` makes all that is missing and
    keeps it in the memory, for every process.
    """

    def __init__(self, memory: "EditMemory", namespace: str | None) -> None:
        self._memory, self._namespace = memory, namespace
        self._known: dict[tuple[str, str, str], bytes | None] = {}
        self._revision = -1

    def of(self, adapter: Adapter, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return the artefacts of these edits by id; an edit for which the adapter has none is left out."""
        unique = {edit.id: edit for edit in edits}
        if len(self._known) + len(unique) > _KEPT:
            self._known.clear()
        keys = {edit_id: (adapter.fingerprint, edit_id, edit.content_hash) for edit_id, edit in unique.items()}
        missing = [unique[edit_id] for edit_id, key in keys.items() if self._known.get(key) is None]
        known = all(keys[edit.id] in self._known for edit in missing)
        # what an adapter lacked may have been trained since, here or in another process
        if missing and not (known and self._revision == self._memory.revision):
            self._revision = self._memory.revision
            stored = self._stored(adapter, missing)
            made = adapter.prepare([edit for edit in missing if edit.id not in stored])
            self._known.update({keys[e.id]: stored.get(e.id) or made.get(e.id) for e in missing})
        found = {edit_id: self._known[key] for edit_id, key in keys.items()}
        return {edit_id: blob for edit_id, blob in found.items() if blob is not None}

    def store(self, adapter: Adapter | PreparesEdits, progress: Progress | None = None) -> int:
        """Prepare every edit in force that has nothing stored yet, and store it; return how many were prepared.

        Raises:
            StoreError: the memory cannot be written.
        """
        states = (EditState.ACTIVE, EditState.CONSOLIDATED)
        total = sum(self._memory.count(state=state, namespace=self._namespace) for state in states)
        prepared = done = 0
        for part in (page for state in states for page in self._pages(state)):
            stored = self._stored(adapter, part)
            missing = [edit for edit in part if edit.id not in stored]
            seen = done + len(part) - len(missing)
            for count, made in self._prepared(adapter, missing):
                prepared += made
                if progress is not None:
                    progress(seen + count, total)
            done += len(part)
        return prepared

    def _pages(self, state: EditState) -> Iterator[list[Edit]]:
        """Yield the edits in a state, some thousand at a time."""
        after = None
        while page := self._memory.list(state=state, limit=_PAGE, after=after, namespace=self._namespace):
            yield page
            after = page[-1].id

    def _prepared(self, adapter: Adapter | PreparesEdits, edits: Sequence[Edit]) -> Iterator[tuple[int, int]]:
        """Prepare edits and store what is made; yield how many were gone through, and how many newly stored."""
        waiting: dict[str, bytes] = {}
        since = time.monotonic()
        for start in range(0, len(edits), _BATCH):
            waiting |= adapter.prepare(edits[start : start + _BATCH])
            seen = min(start + _BATCH, len(edits))
            full = len(waiting) >= _WRITTEN or seen == len(edits) or time.monotonic() - since > _SECONDS
            if full and waiting:
                self._memory.put_artefacts(adapter.name, adapter.fingerprint, waiting, namespace=self._namespace)
            yield seen, len(waiting) if full else 0
            if full:
                waiting, since = {}, time.monotonic()

    def _stored(self, adapter: Adapter | PreparesEdits, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        ids = [edit.id for edit in edits]
        found: Mapping[str, bytes] = self._memory.get_artefacts(
            adapter.name, adapter.fingerprint, ids, namespace=self._namespace
        )
        return found
