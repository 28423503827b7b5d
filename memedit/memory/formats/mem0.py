"""mem0's memories, as ``get_all`` and its exports give them.

A memory there is one statement without a question. It becomes an edit of kind "statement": the prompt is the statement
as written, and subject and target are found in it. An edit exported by us carries its own
fields under ``metadata.memedit`` and comes back whole.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from memedit.errors import FieldError
from memedit.memory.formats.base import JsonRow, Parsed, text_of
from memedit.memory.formats.own import FORMAT as OWN
from memedit.types import Edit, EditKind

_OWNERS = ("user_id", "agent_id", "app_id", "run_id", "categories", "created_at", "updated_at")
_KEY = "memedit"


class Mem0Format:
    """``id, memory, metadata``; who a memory belongs to and its times are kept as metadata."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have a memory."""
        return "memory" in row

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one memory."""
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise FieldError("metadata", f"expected an object, got {type(metadata).__name__}")
        statement = text_of(row, "memory")
        rest = {key: value for key, value in metadata.items() if key != _KEY}
        own = metadata.get(_KEY)
        if isinstance(own, Mapping):
            found = OWN.parse(own, paraphrases)
            return Parsed({**found.fields, "metadata": rest}, found.id, found.state)
        rest |= {name: row[name] for name in _OWNERS if row.get(name) is not None}
        source = f"mem0:{row['id']}" if isinstance(row.get("id"), str) else "mem0"
        fields = {
            "prompt": statement,
            "target": statement,
            "kind": EditKind.STATEMENT,
            "metadata": rest,
            "source": source,
        }
        return Parsed(fields, names={"prompt": "memory", "target": "memory", "source": "id"})

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one memory; our fields go along in its metadata."""
        own = OWN.render(edit, number)
        metadata = {**own.pop("metadata", {}), _KEY: own}
        whole = edit.kind is EditKind.STATEMENT or edit.prompt == edit.target
        statement = edit.prompt if whole else f"{edit.prompt} {edit.target}"
        times = {"created_at": edit.created_at.isoformat(), "updated_at": edit.created_at.isoformat()}
        digest = hashlib.md5(statement.encode(), usedforsecurity=False).hexdigest()
        row = {"id": edit.id, "memory": statement, "hash": digest, "metadata": metadata}
        return {**row, **times, "user_id": edit.namespace}


FORMAT = Mem0Format()
