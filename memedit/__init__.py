"""memedit: edit memory for frozen Hugging Face causal LMs.

The public names, nothing else. Each is imported when first used, so that ``import memedit`` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.client import Client
    from memedit.encoders import Encoder, load_encoder
    from memedit.errors import (
        ConfigError,
        ConflictError,
        ContextLengthError,
        DatasetError,
        EditChangedError,
        EditNotFoundError,
        FieldError,
        FingerprintMismatchError,
        IndexCorruptError,
        InputError,
        MemeditError,
        MemoryNotFoundError,
        MissingExtraError,
        ModelError,
        ModelNotFoundError,
        QuotaError,
        RepeatedRequestError,
        ServiceError,
        ServiceUnavailableError,
        StoreBusyError,
        StoreCorruptError,
        StoreError,
        StoreFullError,
        StoreReadOnlyError,
        StoreUnavailableError,
        StoreVersionError,
        StructureError,
        UnknownNameError,
        UnsupportedModelError,
        VectorIndexError,
    )
    from memedit.memory import AddReport, Change, Conflict, EditMemory, MemoryStats, PossibleConflict, VerifyReport
    from memedit.models import LoadedModel, load_model
    from memedit.runtime import Answer, EditableModel, Structure
    from memedit.scope import Scope, load_scope
    from memedit.types import BatchPlan, Candidate, Edit, EditDraft, EditKind, EditState, Hit, Route, ScopeDecision

_MODULES = {
    "memedit.client": ("Client",),
    "memedit.encoders": ("Encoder", "load_encoder"),
    "memedit.errors": (
        "ConfigError",
        "ConflictError",
        "ContextLengthError",
        "DatasetError",
        "EditChangedError",
        "EditNotFoundError",
        "FieldError",
        "FingerprintMismatchError",
        "IndexCorruptError",
        "InputError",
        "MemeditError",
        "MissingExtraError",
        "ModelError",
        "MemoryNotFoundError",
        "ModelNotFoundError",
        "QuotaError",
        "ServiceError",
        "ServiceUnavailableError",
        "RepeatedRequestError",
        "StoreBusyError",
        "StoreCorruptError",
        "StoreError",
        "StoreFullError",
        "StoreReadOnlyError",
        "StoreUnavailableError",
        "StoreVersionError",
        "StructureError",
        "UnknownNameError",
        "UnsupportedModelError",
        "VectorIndexError",
    ),
    "memedit.memory": (
        "AddReport",
        "Change",
        "Conflict",
        "EditMemory",
        "MemoryStats",
        "PossibleConflict",
        "VerifyReport",
    ),
    "memedit.models": ("LoadedModel", "load_model"),
    "memedit.runtime": ("Answer", "EditableModel", "Structure"),
    "memedit.scope": ("Scope", "load_scope"),
    "memedit.types": (
        "BatchPlan",
        "Candidate",
        "Edit",
        "EditDraft",
        "EditKind",
        "EditState",
        "Hit",
        "Route",
        "ScopeDecision",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AddReport",
    "Answer",
    "BatchPlan",
    "Candidate",
    "Change",
    "Client",
    "ConfigError",
    "Conflict",
    "ConflictError",
    "ContextLengthError",
    "DatasetError",
    "Edit",
    "EditChangedError",
    "EditDraft",
    "EditKind",
    "EditMemory",
    "EditNotFoundError",
    "EditState",
    "EditableModel",
    "Encoder",
    "FieldError",
    "FingerprintMismatchError",
    "Hit",
    "IndexCorruptError",
    "InputError",
    "LoadedModel",
    "MemeditError",
    "MemoryNotFoundError",
    "MemoryStats",
    "MissingExtraError",
    "ModelError",
    "ModelNotFoundError",
    "PossibleConflict",
    "QuotaError",
    "RepeatedRequestError",
    "Route",
    "Scope",
    "ScopeDecision",
    "ServiceError",
    "ServiceUnavailableError",
    "StoreBusyError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnavailableError",
    "StoreVersionError",
    "Structure",
    "StructureError",
    "UnknownNameError",
    "UnsupportedModelError",
    "VectorIndexError",
    "VerifyReport",
    "load_encoder",
    "load_model",
    "load_scope",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'memedit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
