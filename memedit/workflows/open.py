"""Opening a memory, and a model on a memory, by name."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.config import AdapterConfig, ModelConfig
from memedit.memory import EditMemory
from memedit.memory.store.database import exists
from memedit.scope import Scope
from memedit.types import ChainPolicy

if TYPE_CHECKING:
    from memedit.consolidation.records import VersionRecord
    from memedit.models import LoadedModel
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
    max_lag: float = 0.0,
) -> EditMemory:
    """Open the edit memory at ``url`` (as for :class:`EditMemory`, so ``max_lag``), making it when it is not there.

    Raises:
        StoreError: the file is damaged, not an edit memory, or cannot be written.
        UnknownNameError: no index of this kind.
    """
    return EditMemory(url, encoder=encoder, namespace=namespace, index=index, max_lag=max_lag)


def memory_exists(url: str | Path) -> bool:
    """Say whether opening the memory at ``url`` finds one, and does not make it.

    Raises:
        InputError: no address that can be used.
    """
    return exists(url)


def open_model(
    model: ModelConfig,
    memory: EditMemory,
    *,
    scope: Scope,
    adapter: AdapterConfig,
    k: int = CANDIDATES,
    chains: ChainPolicy = "off",
    recheck: str | int = "off",
) -> "EditableModel":
    """Load a language model and put it on a memory; ``k`` vector neighbours are looked up for each query.

    ``chains`` is the policy of look-up along chains of edits, ``recheck`` that of answers that are being written.

    The model may be a version of consolidated edits: its folder or, for those beside the memory's file, its name or
    alias ("champion"). What its weights answer, the memory leaves to it.

    Raises:
        ModelNotFoundError: no model of this name.
        UnknownNameError: no adapter of this name.
        FingerprintMismatchError: the adapter's weights were made for another model.
    """
    from memedit.adapters import create_adapter
    from memedit.consolidation.loaded import open_version
    from memedit.runtime import EditableModel  # these bring torch, which opening a memory does not need

    name = _version_folder(model.name, memory)
    loaded = load_base(model.model_copy(update={"name": name}))
    version = open_version(name, loaded.model)
    made: Any = adapter.name
    if adapter.options:
        with nullcontext() if version is None else version.as_base(loaded.model):
            made = create_adapter(adapter.name, loaded.model, loaded.tokenizer, **adapter.options)
    return EditableModel.wrap(
        loaded.model,
        loaded.tokenizer,
        memory,
        scope=scope,
        adapter=made,
        k=k,
        version=version,
        chains=chains,
        recheck=recheck,
    )


def load_base(model: ModelConfig) -> "LoadedModel":
    """Load a language model by itself.

    Raises:
        ModelNotFoundError: no model of this name.
    """
    from memedit.models import load_model

    hf: dict[str, Any] = {"dtype": model.dtype, "revision": model.revision, **model.options}
    device_map = model.device_map or (None if model.device == "cpu" else model.device)
    return load_model(model.name, device_map=device_map, **hf)


def version_record(name: str, memory: EditMemory) -> "VersionRecord | None":
    """Return what a model of this name says of the edits in its weights; None where it is no version. Loads no model.

    Raises:
        ModelNotFoundError: the name is a version's, and there is no such version.
    """
    from memedit.consolidation.records import read_record

    return read_record(Path(_version_folder(name, memory)))


def _version_folder(name: str, memory: EditMemory) -> str:
    """Return the folder of a version beside the memory's file; any other name as it stands.

    Raises:
        ModelNotFoundError: the name is a version's, and there is no such version.
    """
    from memedit.consolidation.versions import is_version_name
    from memedit.workflows.consolidate.versions import version_store

    if not is_version_name(name) or Path(name).exists():
        return name
    return str(version_store(memory).folder(name))
