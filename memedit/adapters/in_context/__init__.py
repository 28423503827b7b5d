"""Edits as text in the prompt of an unchanged model."""

from memedit.adapters.in_context.adapter import InContextAdapter

__all__ = ["InContextAdapter"]
