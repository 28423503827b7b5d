"""The durable edit memory: the SQL store, its versions and change log, and the indexes kept in step with it."""

from memedit.memory.audit import AuditEntry
from memedit.memory.conflicts import ConflictScorer, MaskedPromptScorer
from memedit.memory.memory import EditMemory
from memedit.memory.planning import OnConflict
from memedit.memory.reports import AddReport, Change, Conflict, MemoryStats, PossibleConflict, VerifyReport
from memedit.memory.service.answers import AnsweredRequest, AnsweredRequests, StoredResponse, StoredResponses
from memedit.memory.service.api_keys import ApiKey, ApiKeys, Role
from memedit.memory.service.feedback import Feedback
from memedit.memory.service.quotas import Quota
from memedit.memory.service.request_log import Figures, JudgedEdit, LoggedRequest, request_id
from memedit.memory.store.actor import Actor

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
    "Feedback",
    "Figures",
    "JudgedEdit",
    "LoggedRequest",
    "MaskedPromptScorer",
    "MemoryStats",
    "OnConflict",
    "PossibleConflict",
    "Quota",
    "Role",
    "StoredResponse",
    "StoredResponses",
    "VerifyReport",
    "request_id",
]
