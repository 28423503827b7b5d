"""Scopes: which stored edits, if any, a query falls under."""

from memedit.scope.base import Scope

__all__ = ["Scope"]
