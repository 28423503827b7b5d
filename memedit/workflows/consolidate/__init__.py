"""Consolidation as users see it: plan, run, publish, roll back, withdraw, compare; and the job behind it.

The names are imported lazily, so that looking at a version's state does not import a language model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.workflows.consolidate.operations import (
        ConsolidationSettings,
        Forecast,
        JobPlan,
        JobResult,
        JobSettings,
        VersionDiff,
        diff,
        forecast,
        plan,
        promote,
        rollback,
        run,
        stale_edits,
        version_store,
        withdraw,
    )

__all__ = [
    "ConsolidationSettings", "Forecast", "JobPlan", "JobResult", "JobSettings", "VersionDiff", "diff",
    "forecast", "plan", "promote", "rollback", "run", "stale_edits", "version_store", "withdraw",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.operations"), name)
