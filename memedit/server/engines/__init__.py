"""What answers requests: a model in this process, or an engine behind a proxy."""

from memedit.server.engines.base import Engine

__all__ = ["Engine"]
