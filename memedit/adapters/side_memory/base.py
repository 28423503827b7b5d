"""What a side memory is, and the adapter that lets one act."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor

from memedit.adapters.base import AdapterBatch, Row
from memedit.models.mixture_hooks import Placement
from memedit.models.side_outputs import side_output
from memedit.types import Edit


class SideMemory(Protocol):
    """A trained second matrix, and the two ways to gate it."""

    @property
    def module(self) -> str:
        """The module it stands beside."""

    @property
    def change(self) -> Tensor:
        """What is added to the module's weight ``[d_out, d_in]``."""

    def of_edits(self, edits: Sequence[Edit]) -> Tensor:
        """Return the gates of rows on which these edits fire, one each ``[n, d_in]``: another router has decided."""

    def routed(self, prompts: Sequence[Tensor]) -> Tensor:
        """Return the gates ``[n, d_in]`` by the paper's router, from what the module is fed, ``n`` of ``[t, d_in]``."""


class SideMemoryAdapter:
    """A side memory at work on the rows where edits fire.

    Args:
        model: the frozen base.
        name: of the method.
        memory: what was trained.
        routes: let the paper's own router decide, whatever edit fires; else the best edit that fires on a row does.
    """

    def __init__(self, model: Any, name: str, memory: SideMemory, *, routes: bool) -> None:
        self._model, self._name, self._memory, self._routes = model, name, memory, routes

    @property
    def name(self) -> str:
        """The method's name."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Hash of what was trained."""
        held = self._memory.change.detach().cpu().float().numpy().tobytes()
        return hashlib.sha256(held + repr([self._name, self._routes]).encode()).hexdigest()

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return nothing: edits are trained in their order, not one by one."""
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it is."""
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which the memory acts from the first token of a row on."""
        rows = tuple(row for row, edits in enumerate(batch.edits) if edits)
        if not rows:
            return nullcontext()
        answers = batch.answers or (0,) * len(batch.rows)
        ends = [pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)]
        asked = tuple(ends[row] - 1 - answers[row] for row in rows)
        best = [batch.edits[row][0] for row in rows]
        gate = self._memory.routed if self._routes else lambda _prompts: self._memory.of_edits(best)
        place = Placement(rows, tuple(batch.pad[row] for row in rows), len(batch.rows), max(ends), asked)
        return side_output(self._model, self._memory.module, self._memory.change, place, gate)

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None
