"""What one command works with: its output, its settings, and the memory and model they name."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memedit.cli.output import Output

if TYPE_CHECKING:
    from memedit.memory import EditMemory
    from memedit.runtime import EditableModel


class Session:
    """Opens the memory and the model of a command on first use and closes them after it.

    Options win over environment variables, those over the ``--config`` file, that over the defaults.
    """

    def __init__(
        self,
        *,
        json_mode: bool = False,
        config: Path | None = None,
        memory: str | None = None,
        namespace: str | None = None,
        encoder: str | None = None,
        model: str | None = None,
        scope: str | None = None,
        adapter: str | None = None,
    ) -> None:
        self.output = Output(json_mode=json_mode)
        self._stack = ExitStack()
        self.memory_url = memory or "edits.db"
        self.namespace = namespace or "default"
        self.encoder = encoder or "minilm"
        self.model_name = model or "smollm2"
        self.scope = scope or "default"
        self.adapter = adapter or "default"

    def memory(self) -> "EditMemory":
        """Open the edit memory."""
        from memedit.workflows.open import open_memory

        return self._stack.enter_context(open_memory(self.memory_url, namespace=self.namespace, encoder=self.encoder))

    def model(self, memory: "EditMemory | None" = None) -> "EditableModel":
        """Load the language model and put it on ``memory`` (opened when not given)."""
        from memedit.workflows.open import open_model

        memory = self.memory() if memory is None else memory
        with self.output.working(f"loading {self.model_name}"):
            return open_model(self.model_name, memory, scope=self.scope, adapter=self.adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
