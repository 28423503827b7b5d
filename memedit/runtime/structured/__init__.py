"""Structured output: answers that hold to a JSON schema, a pattern, a choice or a grammar, edits' targets included."""

from memedit.runtime.structured.constraint import Constraint, masked
from memedit.runtime.structured.grammars import Grammar, Grammars
from memedit.runtime.structured.holding import Held, HoldingProcessor
from memedit.runtime.structured.placing import PlacedTargets, placed_targets
from memedit.runtime.structured.structure import Structure, StructureKind, as_structure

__all__ = [
    "Constraint",
    "Grammar",
    "Grammars",
    "Held",
    "HoldingProcessor",
    "PlacedTargets",
    "Structure",
    "StructureKind",
    "as_structure",
    "masked",
    "placed_targets",
]
