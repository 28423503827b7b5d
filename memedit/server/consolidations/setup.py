"""What a consolidation job needs to know, in the server and in the job's own process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.config import ModelConfig
from memedit.consolidation.versions import VersionStore
from memedit.memory import Actor, EditMemory
from memedit.workflows.consolidate.versions import folder_name, version_store
from memedit.workflows.open import open_memory


@dataclass(frozen=True, slots=True)
class ConsolidationSetup:
    """Where the edits, the frozen base model and the versions are.

    ``memory`` is the store's address, password included. ``versions`` None lies beside the memory's file; otherwise
    each namespace has a folder of its own in it.
    """

    memory: str
    encoder: str
    model: ModelConfig
    index: str = "flat"
    versions: Path | None = None

    @contextmanager
    def opened(self, namespace: str, actor: str) -> Iterator[tuple[EditMemory, VersionStore]]:
        """Open the memory in a namespace, on behalf of ``actor``, and the namespace's versions."""
        with (
            open_memory(self.memory, namespace=namespace, encoder=self.encoder, index=self.index) as memory,
            memory.as_actor(Actor(actor, "consolidation")),
        ):
            yield memory, self.store(memory)

    def store(self, memory: EditMemory) -> VersionStore:
        """Return the versions of a memory's namespace.

        Raises:
            InputError: the memory is no file and no folder is given.
        """
        folder = None if self.versions is None else self.versions / folder_name(memory.namespace)
        return version_store(memory, folder)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "memory": self.memory,
            "encoder": self.encoder,
            "model": self.model.model_dump(mode="json"),
            "index": self.index,
            "versions": None if self.versions is None else str(self.versions),
        }

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> "ConsolidationSetup":
        """Read what :meth:`as_json` wrote."""
        folder = fields["versions"]
        model = ModelConfig(**fields["model"])
        return cls(**{**fields, "model": model, "versions": None if folder is None else Path(folder)})
