"""``memedit bench``: measure memedit beside its own reference, in the same run."""

from memedit.cli.bench import answers, memory, serving, weights
from memedit.cli.bench.base import app

__all__ = ["answers", "app", "memory", "serving", "weights"]
