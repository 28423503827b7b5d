"""One data set of an evaluation: its edits in a memory, its queries, and the answerers of the methods on it."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.adapters import Adapter, create_adapter
from memedit.adapters.side_memory.base import SideMemory
from memedit.encoders.base import Encoder
from memedit.evaluation.cases import WANTS_TARGET, Case
from memedit.evaluation.datasets import DataFile
from memedit.evaluation.journal import Journal
from memedit.evaluation.runner import Progress, ProgressCallback
from memedit.evaluation.stream import EditedState, Queries, StreamOrder, edits_of
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.scope import Scope, load_scope
from memedit.types import Edit, EditState
from memedit.workflows.answerers import BareAnswerer, EditedAnswerer
from memedit.workflows.consolidate.settings import JobSettings, evaluation_job
from memedit.workflows.evaluate.elder import VARIANTS, train_stream, variant_fingerprint
from memedit.workflows.evaluate.grace import with_codebook
from memedit.workflows.evaluate.methods import GRACE_ALONE, PLAIN, Method, OracleScope, nearest_scope
from memedit.workflows.evaluate.side_memory import SIDE_MEMORIES, side_adapter, side_fingerprint, trained_memory
from memedit.workflows.evaluate.weights import (
    WeightsAnswerer,
    WrittenWeights,
    job_fingerprint,
    write_weights,
)

if TYPE_CHECKING:
    from memedit.runtime import EditableModel


@dataclass(frozen=True, slots=True)
class FilledMemory:
    """A memory after a stream: the store's id of the edit at each place, and which are in force."""

    memory: EditMemory
    ids: tuple[str, ...]
    in_force: dict[str, Edit]
    seconds_per_edit: tuple[float, ...]
    """Of each chunk of the stream."""

    def state(self) -> EditedState:
        """Return what happened to the edits."""
        first = self.places()
        return EditedState(tuple(first[i] if i in self.in_force else None for i in self.ids))

    def places(self) -> dict[str, int]:
        """Return the first place of each id."""
        first: dict[str, int] = {}
        for place, edit_id in enumerate(self.ids):
            first.setdefault(edit_id, place)
        return first


def fill_memory(cases: Sequence[Case], stream: StreamOrder, encoder: Encoder) -> FilledMemory:
    """Write the edits of all cases into a new memory as they arrive; of contradicting edits the later one stays."""
    memory = EditMemory(":memory:", encoder=encoder)
    ids: list[str] = []
    seconds = []
    for chunk in stream.chunks(edits_of(cases)):
        started = time.perf_counter()
        ids += memory.add_many(chunk, on_conflict="supersede").ids
        seconds.append((time.perf_counter() - started) / len(chunk))
    in_force = {edit.id: edit for edit in memory.list(state=EditState.ACTIVE)}
    return FilledMemory(memory, tuple(ids), in_force, tuple(seconds))


@dataclass
class Workbench:
    """What all data sets of a run share: the base model, the encoder, and adapters made once each."""

    loaded: LoadedModel
    encoder: Encoder
    threshold: float | None = None
    consolidation: JobSettings = field(default_factory=evaluation_job)
    trained: Mapping[str, Path] = field(default_factory=dict)
    """Folders of trained weights by the adapter that takes them, in place of the shipped ones."""
    base: BareAnswerer = field(init=False)
    _adapters: dict[str, Adapter] = field(default_factory=dict)
    _scopes: dict[str, Scope] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = BareAnswerer(self.loaded)

    def adapter(self, name: str) -> Adapter:
        """Return the adapter of this name for the base model."""
        if name not in self._adapters:
            options: dict[str, Any] = {"target_weight": 0.0} if name == PLAIN else {}
            if name in self.trained:
                options["weights"] = self.trained[name]
            chosen = {PLAIN: "in_context", GRACE_ALONE: "grace"}.get(name, name)
            self._adapters[name] = create_adapter(chosen, self.loaded.model, self.loaded.tokenizer, **options)
        return self._adapters[name]

    def scope(self, name: str) -> Scope:
        """Return the scope of this name, at the run's threshold where one is set."""
        if name not in self._scopes:
            options = {} if self.threshold is None else {"threshold": self.threshold}
            made = nearest_scope(self.encoder) if name == "nearest" else load_scope(name, self.encoder, **options)
            self._scopes[name] = made
        return self._scopes[name]

    def fingerprint(self, method: Method) -> str:
        """Return a hash of everything the method's outputs depend on, apart from the edits.

        Makes the method's adapter and scope, so that what they lack shows before any work is done.
        """
        parts = [self.loaded.fingerprint]
        if method.weights is not None:
            parts += [method.weights, job_fingerprint(self.consolidation)]
        if method.adapter in VARIANTS:
            parts += [method.adapter, variant_fingerprint(method.adapter), self.encoder.fingerprint]
        elif method.adapter in SIDE_MEMORIES:
            parts += [method.adapter, side_fingerprint(method.adapter), self.encoder.fingerprint]
        elif method.adapter is not None:
            parts += [method.adapter, self.adapter(method.adapter).fingerprint, self.encoder.fingerprint]
        if method.scope is not None and method.scope != "oracle":
            scope = self.scope(method.scope)
            parts += [scope.fingerprint, repr(scope.threshold)]
        return hashlib.sha256(json.dumps([method.name, *parts]).encode()).hexdigest()


class Stage:
    """One data set with so many edits. Its memory is filled when it is first needed.

    Args:
        data: the data file.
        cases: its cases.
        stream: how their edits arrive.
        bench: what all data sets share.
        journal: of the run; it says what happened to the edits after the first filling.
        progress: called while edits are written into the weights.
    """

    def __init__(
        self,
        data: DataFile,
        cases: Sequence[Case],
        stream: StreamOrder,
        bench: Workbench,
        journal: Journal,
        *,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.data, self.cases, self.stream = data, cases, stream
        self.edits = len(edits_of(cases))
        self.name = f"{data.name}/{self.edits}"
        self._bench, self._journal, self._progress = bench, journal, progress
        self._filled: FilledMemory | None = None
        self._answerers: dict[str, BareAnswerer] = {}
        self._side: dict[str, SideMemory] = {}

    @property
    def state(self) -> EditedState:
        """What became of the edits."""
        known = self._journal.fact(f"{self.name}/standing")
        if known is None:
            known = list(self.filled().state().standing)
            self._journal.add_fact(f"{self.name}/standing", known)
        return EditedState(tuple(known))

    def filled(self) -> FilledMemory:
        """Return the memory with the edits in it."""
        if self._filled is None:
            self._filled = fill_memory(self.cases, self.stream, self._bench.encoder)
            if self._journal.fact(f"{self.name}/seconds_per_edit") is None:
                self._journal.add_fact(f"{self.name}/seconds_per_edit", list(self._filled.seconds_per_edit))
        return self._filled

    def seconds_per_edit(self, method: Method) -> list[float]:
        """Return the seconds per edit of each chunk of the stream, as first measured.

        That is the time to store it and, for each edit in force, what the method's adapter prepares.
        """
        name = f"{self.name}/seconds_per_edit"
        if self._journal.fact(name) is None:
            self.filled()
        prepared = float(self._journal.fact(self._prepared(method)) or 0.0)
        return [float(value) + prepared for value in self._journal.fact(name)]

    def _prepared(self, method: Method) -> str:
        return f"{self.name}/{method.name}/preparing"

    def answerer(self, method: Method, queries: Queries) -> BareAnswerer:
        """Return the method at work on this data set."""
        if method.is_base:
            return self._bench.base
        if method.name not in self._answerers:
            self._answerers[method.name] = self._edited(method, queries)
        return self._answerers[method.name]

    def _edited(self, method: Method, queries: Queries) -> BareAnswerer:
        filled, bench = self.filled(), self._bench
        fingerprint = bench.fingerprint(method)
        started = time.perf_counter()
        written = None
        if method.weights is not None:
            written = self._write(method, filled)
            if method.adapter is None:
                self._note_seconds(method, started, filled)
                return WeightsAnswerer(bench.base, bench.loaded, written, fingerprint)
        editable = self._editable(method, queries, filled, written)
        editable.prepare()
        self._note_seconds(method, started, filled)
        answerer = EditedAnswerer(bench.loaded, editable, filled.places(), bench.base.end, fingerprint)
        if written is None or written.edits.gated:  # the memory puts its own rows on the weights
            return answerer
        return WeightsAnswerer(answerer, bench.loaded, written, fingerprint)

    def _write(self, method: Method, filled: FilledMemory) -> WrittenWeights:
        """Solve for the edits in force; a memory beside the weights lets those stay there that fail their check."""
        edits = [filled.in_force[edit_id] for edit_id in sorted(filled.in_force)]
        bench = self._bench
        settings = replace(bench.consolidation, method=method.weights or "")
        checked = method.adapter is not None
        written = write_weights(
            filled.memory,
            bench.loaded,
            bench.base,
            edits,
            settings=settings,
            checked=checked,
            progress=self._written(method),
        )
        self._journal.add_fact(f"{self.name}/{method.name}/served_by_weights", len(written.edits))
        return written

    def _written(self, method: Method) -> Callable[[str, int, int], None] | None:
        """Return what tells of a method's weights: they are no requests, whose cost a run's clock knows."""
        report = self._progress
        if report is None:
            return None
        began: dict[str, float] = {}

        def step(what: str, done: int, total: int) -> None:
            spent = time.monotonic() - began.setdefault(what, time.monotonic())
            left = spent * (total - done) / done if spent and done else None
            report(Progress(f"{self.name}/{method.name}/{what}", done, total, left, whole=False))

        return step

    def _note_seconds(self, method: Method, started: float, filled: FilledMemory) -> None:
        name = self._prepared(method)
        if self._journal.fact(name) is None:
            self._journal.add_fact(name, (time.perf_counter() - started) / max(1, len(filled.in_force)))

    def _editable(
        self, method: Method, queries: Queries, filled: FilledMemory, written: WrittenWeights | None
    ) -> "EditableModel":
        from memedit.runtime import EditableModel

        if method.adapter is None or method.scope is None:
            raise ValueError(f"{method.name} has no adapter or no scope")
        oracle = method.scope == "oracle"
        scope: Scope = self._oracle(queries, filled) if oracle else self._bench.scope(method.scope)
        adapter = self._adapter(method.adapter, filled)
        loaded = self._bench.loaded
        return EditableModel.wrap(
            loaded.model, loaded.tokenizer, filled.memory, scope=scope, adapter=adapter, version=written
        )

    def _adapter(self, name: str, filled: FilledMemory) -> Adapter:
        if name in VARIANTS:
            return self._elder(name, filled)
        order = [filled.in_force[edit_id] for edit_id in filled.places() if edit_id in filled.in_force]
        loaded = self._bench.loaded
        if name in SIDE_MEMORIES:
            kind = name.partition(":")[0]
            if kind not in self._side:
                self._side[kind] = trained_memory(kind, loaded, order)
            return side_adapter(name, loaded, self._side[kind])
        made = self._bench.adapter(name)
        return with_codebook(loaded, made, filled.memory, order) if name == GRACE_ALONE else made

    def _elder(self, name: str, filled: FilledMemory) -> Adapter:
        """Train ELDER batch by batch as the stream has it."""
        bench, place = self._bench, f"{self.name}/{name}".replace("/", "-").replace(":", "-")
        folder = self._journal.path.parent / "elder" / place
        trained = train_stream(
            name, bench.loaded, bench.encoder, self.cases, self.stream, target=filled.memory, folder=folder
        )
        fact = f"{self.name}/{name}/training_seconds_per_edit"
        if self._journal.fact(fact) is None:
            self._journal.add_fact(fact, list(trained.seconds_per_edit))
        return trained.adapter

    def _oracle(self, queries: Queries, filled: FilledMemory) -> OracleScope:
        places: dict[str, set[int]] = {}
        for asked in queries.probes:
            if asked.probe.kind in WANTS_TARGET:
                places.setdefault(asked.probe.prompt, set()).update(asked.own)
        by_place = {
            place: filled.in_force[edit_id] for edit_id, place in filled.places().items() if edit_id in filled.in_force
        }
        return OracleScope({prompt: [by_place[p] for p in sorted(own)] for prompt, own in places.items()})

    def close(self) -> None:
        """Give the memory back."""
        self._answerers.clear()
        self._side.clear()
        if self._filled is not None:
            self._filled.memory.close()
            self._filled = None
