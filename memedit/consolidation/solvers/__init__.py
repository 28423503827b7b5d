"""The solvers by name, and the one way to call them."""

from memedit.consolidation.solvers.joint import SOLVERS, solve

__all__ = ["SOLVERS", "solve"]
