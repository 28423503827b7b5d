"""The durable edit memory: the SQL store, its versions and change log, and the indexes kept in step with it."""

from memedit.memory.actor import Actor
from memedit.memory.api_keys import ApiKey, ApiKeys, Role
from memedit.memory.audit import AuditEntry
from memedit.memory.conflicts import ConflictScorer, MaskedPromptScorer
from memedit.memory.memory import EditMemory
from memedit.memory.planning import OnConflict
from memedit.memory.reports import AddReport, Change, Conflict, MemoryStats, PossibleConflict, VerifyReport
from memedit.memory.requests import AnsweredRequest, AnsweredRequests

__all__ = [
    "Actor",
    "AddReport",
    "AnsweredRequest",
    "AnsweredRequests",
    "ApiKey",
    "ApiKeys",
    "AuditEntry",
    "Change",
    "Conflict",
    "ConflictScorer",
    "EditMemory",
    "MaskedPromptScorer",
    "MemoryStats",
    "OnConflict",
    "PossibleConflict",
    "Role",
    "VerifyReport",
]
