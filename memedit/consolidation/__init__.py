"""Consolidation: piled-up edits become weights. Statistics, keys, targets, solvers, weight deltas; no store, no texts.

The names of the core are imported from here lazily, so that looking at settings does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from memedit.consolidation.base import ConsolidationSettings, EditRequest, artefact_fingerprint

if TYPE_CHECKING:
    from memedit.consolidation.apply import applied, to_peft_lora, write_delta
    from memedit.consolidation.artefacts import EditArtefact
    from memedit.consolidation.solvers import SOLVERS, solve
    from memedit.consolidation.statistics import Statistics, build_statistics
    from memedit.consolidation.targets import compute_artefacts

_MODULES = {
    "apply": ("applied", "to_peft_lora", "write_delta"),
    "artefacts": ("EditArtefact",),
    "solvers": ("SOLVERS", "solve"),
    "statistics": ("Statistics", "build_statistics"),
    "targets": ("compute_artefacts",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SOLVERS",
    "ConsolidationSettings",
    "EditArtefact",
    "EditRequest",
    "Statistics",
    "applied",
    "artefact_fingerprint",
    "build_statistics",
    "compute_artefacts",
    "solve",
    "to_peft_lora",
    "write_delta",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
