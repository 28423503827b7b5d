"""Scope and adapter by name, made when they are first needed."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from memedit.adapters import Adapter, create_adapter
from memedit.scope import Scope

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from memedit.consolidation.loaded import ModelVersion


class LazyScope:
    """A scope that is opened at first need. Safe to use from several threads.

    Args:
        opens: opens it.
    """

    def __init__(self, opens: Callable[[], Scope]) -> None:
        self._opens = opens
        self._scope: Scope | None = None
        self._lock = threading.Lock()

    def get(self) -> Scope:
        """Return the scope, opened now if it was not yet."""
        with self._lock:
            if self._scope is None:
                self._scope = self._opens()
            return self._scope


class LazyAdapter:
    """An adapter, or the name of one that is made for a model at first need.

    Args:
        adapter: an adapter or its registered name.
        model: what it is made for, with its ``tokenizer``.
        version: the version that the model was loaded as: trained adapters recognise the model that they were made
            for by its weights, so they are made over the base's.
        lock: held while it is made, since the model's weights may be the base's meanwhile.
    """

    def __init__(
        self,
        adapter: str | Adapter,
        model: "PreTrainedModel",
        tokenizer: Any,
        *,
        version: "ModelVersion | None" = None,
        lock: Any = None,
    ) -> None:
        self._given = self._adapter = adapter
        self._model, self._tokenizer, self._version = model, tokenizer, version
        self._lock: Any = lock or threading.RLock()

    def get(self) -> Adapter:
        """Return the adapter, made now if it was not yet."""
        with self._lock:
            if isinstance(self._adapter, str):
                with nullcontext() if self._version is None else self._version.as_base(self._model):
                    self._adapter = create_adapter(self._adapter, self._model, self._tokenizer)
            return self._adapter

    def renew(self) -> None:
        """Have an adapter that was made by name made anew when it is next needed, where the model then is."""
        with self._lock:
            self._adapter = self._given
