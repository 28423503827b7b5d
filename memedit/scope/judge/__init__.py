"""The trained scope: a relation encoder for the clear cases, a cross-encoder for the close ones."""

from memedit.scope.judge.model import JudgeModel, load_model, shipped_for
from memedit.scope.judge.scope import JudgeScope

__all__ = ["JudgeModel", "JudgeScope", "load_model", "shipped_for"]
