"""WISE and MEMOIR in an evaluation: trained on all edits in their order, routed by the scope or as published."""

import hashlib
from collections.abc import Callable, Sequence

from memedit.adapters.side_memory.base import SideMemory, SideMemoryAdapter
from memedit.adapters.side_memory.memoir import MemoirSettings, train_memoir
from memedit.adapters.side_memory.site import SideSite
from memedit.adapters.side_memory.wise import WiseSettings, train_wise
from memedit.models import LoadedModel
from memedit.types import Edit

TRAINED: dict[str, Callable[[SideSite, Sequence[Edit]], SideMemory]] = {
    "wise": lambda site, edits: train_wise(site, edits, WiseSettings()),
    "memoir": lambda site, edits: train_memoir(site, edits, MemoirSettings()),
}
"""How each side memory is trained; ``NAME:published`` is routed as published."""
SIDE_MEMORIES = tuple(name + form for name in TRAINED for form in ("", ":published"))
"""The method names an evaluation knows."""


def side_fingerprint(name: str) -> str:
    """Return the hash of what a side memory depends on besides the base model and the edits."""
    settings = {"wise": WiseSettings, "memoir": MemoirSettings}[name.partition(":")[0]]()
    return hashlib.sha256(repr([name, settings]).encode()).hexdigest()


def trained_memory(name: str, loaded: LoadedModel, edits: Sequence[Edit]) -> SideMemory:
    """Return the side memory of a method after these edits, in their order."""
    return TRAINED[name.partition(":")[0]](SideSite(loaded.model, loaded.tokenizer), edits)


def side_adapter(name: str, loaded: LoadedModel, memory: SideMemory) -> SideMemoryAdapter:
    """Return the adapter of this method with a trained memory."""
    return SideMemoryAdapter(loaded.model, name, memory, routes=name.endswith(":published"))
