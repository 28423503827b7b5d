"""The runtime: a causal LM and an edit memory behind the model's own interface.

Names are imported when first used: who only looks edits up needs no language model, nor the libraries that hold them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.runtime.answers import Answer, Score
    from memedit.runtime.editable import EditableModel
    from memedit.runtime.routing import Router
    from memedit.runtime.streaming import TextStream
    from memedit.runtime.structured import Structure

_MODULES = {
    "Answer": "answers",
    "EditableModel": "editable",
    "Router": "routing",
    "Score": "answers",
    "Structure": "structured",
    "TextStream": "streaming",
}

__all__ = ["Answer", "EditableModel", "Router", "Score", "Structure", "TextStream"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
