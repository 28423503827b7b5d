"""mem0's memories, as ``get_all`` and its exports give them, and any row that is a statement.

A memory there is one statement without a question. It becomes an edit of kind "statement": the prompt is the statement
as written, and subject and target are found in it. An edit exported by us carries its own
fields under ``metadata.memedit`` and comes back whole.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from memedit.errors import FieldError
from memedit.memory.formats.base import JsonRow, Parsed, optional_text, text_of
from memedit.memory.formats.columns import field_of_column
from memedit.memory.formats.own import FORMAT as OWN
from memedit.types import Edit, EditKind

_OWNERS = ("user_id", "agent_id", "app_id", "run_id", "categories", "created_at", "updated_at")
_KEY = "memedit"
_CALLED = ("memory", "statement", "fact", "text")
"""What a statement is called, mem0's name first."""


class Mem0Format:
    """``id, memory, metadata``; who a memory belongs to and its times are kept as metadata."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have a memory, or a statement and neither question nor answer."""
        return _called(row) is not None

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one memory."""
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise FieldError("metadata", f"expected an object, got {type(metadata).__name__}")
        called = _called(row) or _CALLED[0]
        statement = text_of(row, called)
        rest = {key: value for key, value in metadata.items() if key != _KEY}
        own = metadata.get(_KEY)
        if isinstance(own, Mapping):
            found = OWN.parse(own, paraphrases)
            return Parsed({**found.fields, "metadata": rest}, found.id, found.state)
        rest |= {name: row[name] for name in _OWNERS if row.get(name) is not None}
        source: str | None = f"mem0:{row['id']}" if isinstance(row.get("id"), str) else "mem0"
        source = source if called == _CALLED[0] else optional_text(row, "source")
        fields = {
            "prompt": statement,
            "target": statement,
            "kind": EditKind.STATEMENT,
            "metadata": rest,
            "source": source,
        }
        return Parsed(fields, names={"prompt": called, "target": called, "source": "id"})

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


def _called(row: JsonRow) -> str | None:
    """Return the name of the field that is the row's statement."""
    if _CALLED[0] in row:
        return _CALLED[0]
    if "labels" in row or {"prompt", "target"} & {field_of_column(name) for name in row}:
        return None
    return next((name for name in _CALLED[1:] if name in row), None)


FORMAT = Mem0Format()
