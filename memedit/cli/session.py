"""What one command works with: its output, its settings, and the memory and model they name."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from memedit.cli.output import Output

if TYPE_CHECKING:
    from memedit.config import ConsolidationConfig, Settings
    from memedit.memory import EditMemory
    from memedit.models import LoadedModel
    from memedit.runtime import EditableModel
    from memedit.scope import Scope
    from memedit.types import ChainPolicy


WhenAbsent = Literal["refuse", "make", "pretend"]
"""What to do where the memory that is named does not exist: only commands that begin one make it."""


class Session:
    """Opens the memory and the model of a command on first use and closes them after it.

    Options win over environment variables, those over the ``--config`` file, that over the defaults.
    """

    def __init__(
        self,
        *,
        json_mode: bool = False,
        config: Sequence[Path] | None = None,
        memory: str | None = None,
        namespace: str | None = None,
        encoder: str | None = None,
        model: str | None = None,
        scope: str | None = None,
        adapter: str | None = None,
        chains: str | None = None,
        recheck: str | None = None,
    ) -> None:
        self.output = Output(json_mode=json_mode)
        self._stack = ExitStack()
        self._config = config
        self._base: LoadedModel | None = None
        plain = {"memory": memory, "namespace": namespace, "encoder": encoder, "chains": chains, "recheck": recheck}
        named = {"model": model, "scope": scope, "adapter": adapter}
        self._overrides: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
        self._overrides |= {part: {"name": name} for part, name in named.items() if name is not None}

    @cached_property
    def settings(self) -> "Settings":
        """The settings in force for this command.

        Raises:
            ConfigError: one or more are wrong; all are listed.
        """
        from memedit.config import load_settings

        settings = load_settings(self._files(jobs=False), **self._overrides)
        # models and caches look the folder up where they need it, in the environment
        os.environ.setdefault("MEMEDIT_HOME", str(settings.home))
        return settings

    @cached_property
    def consolidation(self) -> "ConsolidationConfig":
        """The consolidation job of the ``--config`` file of that kind; without one, the defaults.

        Raises:
            ConfigError: there are several such files, or a value is wrong; all are listed.
        """
        from memedit.config import ConsolidationConfig, load_config
        from memedit.errors import ConfigError

        files = self._files(jobs=True)
        if len(files) > 1:
            raise ConfigError(["is a second file of kind consolidation; give one"], str(files[1]))
        job = load_config(files[0]) if files else ConsolidationConfig()
        assert isinstance(job, ConsolidationConfig)
        return job

    def _files(self, *, jobs: bool) -> list[Path]:
        """Return the ``--config`` files that describe consolidation jobs, or the others."""
        from memedit.config import load_yaml

        return [path for path in self._config or () if (load_yaml(path).get("kind") == "consolidation") == jobs]

    def base_model(self) -> "LoadedModel":
        """Load the language model by itself, once."""
        from memedit.workflows.open import load_base

        if self._base is None:
            with self.output.working(f"loading {self.settings.model.name}"):
                self._base = load_base(self.settings.model)
        return self._base

    def memory(self, url: str | None = None, *, max_lag: float = 0.0, absent: "WhenAbsent" = "refuse") -> "EditMemory":
        """Open the edit memory, or another one at ``url`` with the same settings.

        Args:
            url: where; None is where the settings say.
            max_lag: as for ``EditMemory``.
            absent: what to do where there is none: "refuse", "make" it, or "pretend" that there is an empty one.

        Raises:
            MemoryNotFoundError: there is none, and it is not to be made.
        """
        from memedit.errors import MemoryNotFoundError
        from memedit.workflows.open import memory_exists, open_memory

        settings = self.settings
        wanted = settings.memory if url is None else url
        if absent != "make" and not memory_exists(wanted):
            if absent == "refuse":
                raise MemoryNotFoundError(str(wanted))
            wanted = ":memory:"
        memory = open_memory(
            wanted,
            namespace=settings.namespace,
            encoder=settings.encoder,
            index=settings.index,
            max_lag=max_lag,
        )
        return self._stack.enter_context(memory)

    def scope(self, memory: "EditMemory") -> "Scope":
        """Make the scope for the memory's encoder, at the threshold set or calibrated."""
        from memedit.workflows.scope import open_scope

        wanted = self.settings.scope
        return open_scope(memory, wanted.name, threshold=wanted.threshold, **wanted.options)

    def model(self, memory: "EditMemory | None" = None, *, chains: "ChainPolicy | None" = None) -> "EditableModel":
        """Load the language model and put it on ``memory`` (opened when not given).

        ``chains`` is the policy of chained look-up, None for that of the settings.
        """
        from memedit.workflows.open import open_model

        memory = self.memory() if memory is None else memory
        with self.output.working(f"loading {self.settings.model.name}"):
            return open_model(
                self.settings.model,
                memory,
                scope=self.scope(memory),
                adapter=self.settings.adapter,
                k=self.settings.scope.candidates,
                chains=self.settings.chains if chains is None else chains,
                recheck=self.settings.recheck,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
