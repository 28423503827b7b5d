"""The durable edit memory: the SQL store, its versions and change log, and the indexes kept in step with it."""

from memedit.memory.conflicts import BatchScorer, ConflictScorer, MaskedPromptScorer
from memedit.memory.memory import EditMemory
from memedit.memory.planning import OnConflict
from memedit.memory.reports import AddReport, Change, Conflict, MemoryStats, VerifyReport

__all__ = [
    "AddReport",
    "BatchScorer",
    "Change",
    "Conflict",
    "ConflictScorer",
    "EditMemory",
    "MaskedPromptScorer",
    "MemoryStats",
    "OnConflict",
    "VerifyReport",
]
