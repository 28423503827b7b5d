"""Opening a memory, and a model on a memory, by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.config import AdapterConfig, ModelConfig
from memedit.memory import EditMemory
from memedit.scope import Scope

if TYPE_CHECKING:
    from memedit.runtime import EditableModel

DEFAULT_URL = "edits.db"
CANDIDATES = 8
"""Vector neighbours looked up for a query, unless told otherwise."""


def open_memory(
    url: str | Path = DEFAULT_URL,
    *,
    namespace: str = "default",
    encoder: str = "minilm",
    index: str = "flat",
) -> EditMemory:
    """Open the edit memory at ``url`` (a file path, or ``":memory:"``), making it when it is not there.

    Raises:
        StoreError: the file is damaged, not an edit memory, or cannot be written.
        UnknownNameError: no index of this kind.
    """
    return EditMemory(url, encoder=encoder, namespace=namespace, index=index)


def open_model(
    model: ModelConfig, memory: EditMemory, *, scope: Scope, adapter: AdapterConfig, k: int = CANDIDATES
) -> "EditableModel":
    """Load a language model and put it on a memory; ``k`` vector neighbours are looked up for each query.

    Raises:
        ModelNotFoundError: no model of this name.
        UnknownNameError: no adapter of this name.
        FingerprintMismatchError: the adapter's weights were made for another model.
    """
    from memedit.adapters import create_adapter
    from memedit.models import load_model
    from memedit.runtime import EditableModel  # these bring torch, which opening a memory does not need

    hf: dict[str, Any] = {"dtype": model.dtype, "revision": model.revision, **model.options}
    device_map = model.device_map or (None if model.device == "cpu" else model.device)
    loaded = load_model(model.name, device_map=device_map, **hf)
    made: Any = adapter.name
    if adapter.options:
        made = create_adapter(adapter.name, loaded.model, loaded.tokenizer, **adapter.options)
    return EditableModel.wrap(loaded.model, loaded.tokenizer, memory, scope=scope, adapter=made, k=k)
