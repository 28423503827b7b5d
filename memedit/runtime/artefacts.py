"""What adapters prepared for edits: kept in the memory beside them, made when first needed."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from memedit.adapters.base import Adapter
from memedit.errors import StoreError
from memedit.types import Edit

_KEPT = 10_000
"""Artefacts held in this process's memory."""


class Artefacts:
    """Fetches adapters' per-edit data from the memory and makes what is not there yet.

    New data is stored for the next time; a memory that cannot be written only costs the work again.
    """

    def __init__(self, memory: Any, namespace: str | None) -> None:
        self._memory, self._namespace = memory, namespace
        self._known: dict[tuple[str, str, str], bytes | None] = {}

    def of(self, adapter: Adapter, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return the artefacts of these edits by id; an edit for which the adapter has none is left out."""
        unique = {edit.id: edit for edit in edits}
        keys = {edit_id: (adapter.fingerprint, edit_id, edit.content_hash) for edit_id, edit in unique.items()}
        missing = [unique[edit_id] for edit_id, key in keys.items() if key not in self._known]
        if missing:
            if len(self._known) > _KEPT:
                self._known.clear()
                missing = list(unique.values())
            made = self._stored(adapter, missing)
            self._known.update({keys[edit.id]: made.get(edit.id) for edit in missing})
        found = {edit_id: self._known[key] for edit_id, key in keys.items()}
        return {edit_id: blob for edit_id, blob in found.items() if blob is not None}

    def _stored(self, adapter: Adapter, edits: Sequence[Edit]) -> dict[str, bytes]:
        kind = adapter.name
        found = dict(
            self._memory.get_artefacts(
                kind, adapter.fingerprint, [edit.id for edit in edits], namespace=self._namespace
            )
        )
        made = adapter.prepare([edit for edit in edits if edit.id not in found])
        if made:
            with contextlib.suppress(StoreError):
                self._memory.put_artefacts(kind, adapter.fingerprint, made, namespace=self._namespace)
        return {**found, **made}
