"""The durable edit memory: the SQL store, its versions and change log, and the indexes kept in step with it."""

from memedit.memory.actor import Actor
from memedit.memory.api_keys import ApiKey, ApiKeys, Role
from memedit.memory.audit import AuditEntry
from memedit.memory.conflicts import ConflictScorer, MaskedPromptScorer
from memedit.memory.feedback import Feedback
from memedit.memory.figures import Figures
from memedit.memory.memory import EditMemory
from memedit.memory.planning import OnConflict
from memedit.memory.quotas import Quota
from memedit.memory.reports import AddReport, Change, Conflict, MemoryStats, PossibleConflict, VerifyReport
from memedit.memory.request_log import JudgedEdit, LoggedRequest, request_id
from memedit.memory.requests import AnsweredRequest, AnsweredRequests
from memedit.memory.responses import StoredResponse, StoredResponses

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
