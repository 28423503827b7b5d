"""Evaluation as users see it: methods, suites and reports. See :func:`~memedit.workflows.evaluate.run.evaluate`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.workflows.evaluate.config import EvaluationConfig
    from memedit.workflows.evaluate.run import evaluate

__all__ = ["EvaluationConfig", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.run"), name)
