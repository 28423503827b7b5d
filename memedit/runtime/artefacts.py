"""What adapters prepared for edits: kept in the memory beside them, made when first needed."""

from collections.abc import Mapping, Sequence
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
        edits = [edit for state in states for edit in self._memory.list(state=state, namespace=self._namespace)]
        stored = self._stored(adapter, edits)
        missing = [edit for edit in edits if edit.id not in stored]
        prepared = 0
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            made = adapter.prepare(part)
            if made:
                self._memory.put_artefacts(adapter.name, adapter.fingerprint, made, namespace=self._namespace)
            prepared += len(made)
            if progress is not None:
                progress(start + len(part), len(missing))
        return prepared

    def _stored(self, adapter: Adapter | PreparesEdits, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        ids = [edit.id for edit in edits]
        found: Mapping[str, bytes] = self._memory.get_artefacts(
            adapter.name, adapter.fingerprint, ids, namespace=self._namespace
        )
        return found
