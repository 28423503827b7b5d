"""The trained scope: late interaction of token vectors, and features that people can read."""

from memedit.scope.classifier.model import ClassifierModel, load_model, ships_for
from memedit.scope.classifier.scope import ClassifierScope

__all__ = ["ClassifierModel", "ClassifierScope", "load_model", "ships_for"]
