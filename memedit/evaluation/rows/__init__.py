"""Rows of evaluation besides the usual metrics, by name: each asks a method more, or groups what it answered."""

from memedit.evaluation.rows.base import Row
from memedit.registry import Registry

ROWS: Registry[type[Row]] = Registry("evaluation row")
"""Rows by name; each is a class without arguments."""
for _name, _class in {
    "relations": "Relations",
    "perplexingness": "Perplexingness",
    "collapse": "Collapse",
    "shattering": "Shattering",
    "leak": "Leak",
    "propagation": "Propagation",
}.items():
    ROWS.register(_name, f"memedit.evaluation.rows.{_name}:{_class}")

__all__ = ["ROWS"]
