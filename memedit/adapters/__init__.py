"""Adapters: how a matched edit changes the answer. One folder a method."""

from memedit.adapters.base import Adapter, AdapterBatch, Row

__all__ = ["Adapter", "AdapterBatch", "Row"]
