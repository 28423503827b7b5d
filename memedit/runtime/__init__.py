"""The runtime: a causal LM and an edit memory behind the model's own interface."""

from memedit.runtime.answers import Answer, Score
from memedit.runtime.editable import EditableModel
from memedit.runtime.routing import Router
from memedit.runtime.streaming import TextStream
from memedit.runtime.structured import Structure

__all__ = ["Answer", "EditableModel", "Router", "Score", "Structure", "TextStream"]
