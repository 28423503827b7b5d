"""Adapters: how a matched edit changes the answer. One folder a method."""

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.adapters.registry import ADAPTERS, create_adapter, default_adapter

__all__ = ["ADAPTERS", "Adapter", "AdapterBatch", "Row", "create_adapter", "default_adapter"]
