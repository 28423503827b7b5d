"""Bodies of the audit log and of namespaces."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from memedit.memory import AuditEntry
from memedit.server.schemas.common import Out
from memedit.server.schemas.edits import EditOut
from memedit.server.schemas.keys import QuotaOut, QuotaUse
from memedit.types import Edit


class AuditOut(Out):
    """Who changed what: ``actor`` null stands for the command line or a script on the server's machine."""

    revision: int
    at: datetime
    actor: str | None
    request: str | None
    namespace: str
    action: str
    edit_id: str | None
    before: EditOut | None
    after: EditOut | None
    other: str | None

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditOut":
        """Return an entry as a body."""
        versions: Mapping[str, Edit | None] = {"before": entry.before, "after": entry.after}
        shown = {name: None if edit is None else EditOut.of(edit) for name, edit in versions.items()}
        return cls(**{name: getattr(entry, name) for name in AuditEntry.__slots__} | shown)


class AuditList(Out):
    """A page of the audit log, newest first. ``next`` is the ``before`` of the next page, null on the last one."""

    object: Literal["list"] = "list"
    data: list[AuditOut]
    next: int | None


class NamespaceOut(Out):
    """A namespace: how many edits it has in each state, what its quota is and what is used of it (null: no quota)."""

    name: str
    edits: dict[str, int]
    quota: QuotaOut | None = None
    used: QuotaUse | None = None


class NamespaceList(Out):
    """The namespaces that a key may look into."""

    object: Literal["list"] = "list"
    data: list[NamespaceOut]
