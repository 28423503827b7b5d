"""A typed client of a memedit server. Imports neither torch nor a database."""

from memedit.client.client import Client
from memedit.client.consolidations import ConsolidatedVersion, ConsolidationJob
from memedit.client.results import (
    AddResult,
    AuditEntry,
    ChatAnswer,
    EditChange,
    Explanation,
    FiredEdit,
    PossibleConflict,
)

__all__ = [
    "AddResult",
    "AuditEntry",
    "ChatAnswer",
    "Client",
    "ConsolidatedVersion",
    "ConsolidationJob",
    "EditChange",
    "Explanation",
    "FiredEdit",
    "PossibleConflict",
]
