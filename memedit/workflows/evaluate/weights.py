"""Edits written into the weights, as methods of an evaluation: alone, or with the memory for what they leave over."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from memedit.consolidation import applied
from memedit.consolidation.apply import edited_weights
from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import SolvedEdit
from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.datasets import file_sha256
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.models.weights import WeightOverlay
from memedit.types import Edit, WeightDelta
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.building import solved_edit
from memedit.workflows.consolidate.selecting import Selection
from memedit.workflows.consolidate.settings import JobSettings
from memedit.workflows.consolidate.solving import artefacts_of, settle, solution, statistics_of

SOLVING = "solving and checking"


def job_description(settings: JobSettings) -> dict[str, Any]:
    """Return the settings on which the weights and the edits left to them depend, as plain values."""
    text = settings.statistics_text
    return {
        "solver": asdict(settings.solver),
        "check": settings.check.value,
        "chat": settings.chat,
        "closing": settings.closing,
        "rounds": settings.rounds,
        "scope": settings.scope.value,
        "wordings": settings.wordings,
        "least_right": settings.least_right,
        "statistics": "own samples" if text is None else {"file": text.name, "sha256": file_sha256(text)},
        "statistics_tokens": settings.statistics_tokens,
    }


def job_fingerprint(settings: JobSettings) -> str:
    """Return a hash of :func:`job_description`."""
    return hashlib.sha256(json.dumps(job_description(settings), sort_keys=True).encode()).hexdigest()


class WrittenWeights:
    """A solution for a model that has the base's weights.

    Args:
        delta: the change; None changes nothing.
        edits: those that the weights answer.
    """

    def __init__(self, delta: WeightDelta | None, edits: EditsInWeights) -> None:
        self.delta, self.edits = delta, edits
        self._overlay: WeightOverlay | None = None

    @contextmanager
    def as_base(self, model: Any) -> Iterator[None]:
        """Yield: outside of an answer the model has the base's weights anyway."""
        yield

    @contextmanager
    def on_rows(self, model: Any, rows: Sequence[int], batch: int) -> Iterator[None]:
        """Let chosen rows of a batch meet the edited weights inside."""
        if self.delta is None or not rows:
            yield
            return
        if self._overlay is None:
            self._overlay = WeightOverlay(edited_weights(model, self.delta))
        with self._overlay.on_rows(model, rows, batch):
            yield


def write_weights(
    memory: EditMemory,
    loaded: LoadedModel,
    answerer: BareAnswerer,
    edits: Sequence[Edit],
    *,
    settings: JobSettings,
    checked: bool,
    progress: Callable[[str, int, int], None] | None = None,
) -> WrittenWeights:
    """Solve for edits; with ``checked`` every edit is asked, as a consolidation job does, else all are left in.

    ``progress`` is called with (what is done, how much of it, of how much).
    """

    def told(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else partial(progress, what)

    selection = Selection(tuple(edits), (), tuple(edit.id for edit in edits), ())
    statistics = statistics_of(loaded, settings, told("key statistics"))
    artefacts = artefacts_of(memory, loaded, selection, settings, told("keys and targets"))
    if not checked:
        requests = selection.requests(closing=settings.closing)
        delta = solution(loaded, requests, artefacts, statistics=statistics, settings=settings, progress=told(SOLVING))
        return WrittenWeights(delta, EditsInWeights([SolvedEdit(e.id, e.content_hash, True) for e in edits]))
    solved = settle(
        loaded, answerer, edits, artefacts, statistics=statistics, settings=settings, progress=told(SOLVING)
    )
    if solved is None:
        return WrittenWeights(None, EditsInWeights())
    return WrittenWeights(solved.delta, EditsInWeights([solved_edit(c) for c in solved.checks], settings.scope))


class WeightsAnswerer(BareAnswerer):
    """Another answerer with edited weights under it, for as long as each batch takes.

    Args:
        inner: the bare model, or the model with its memory.
        loaded: the base model.
        written: what its weights are to be.
        fingerprint: hash of everything the outputs depend on.
    """

    def __init__(self, inner: BareAnswerer, loaded: LoadedModel, written: WrittenWeights, fingerprint: str) -> None:
        super().__init__(replace(loaded, fingerprint=fingerprint), inner.end)
        self._inner, self._loaded, self._written = inner, loaded, written

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        with self._edited():
            return self._inner.generate(prompts, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline)

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Samples`."""
        with self._edited():
            return self._inner.sample(prompts, max_new_tokens=max_new_tokens, seed=seed)

    @property
    def delta(self) -> WeightDelta | None:
        """What the weights are changed by."""
        return self._written.delta

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        with self._edited():
            return self._inner.score(prompts, targets)

    @contextmanager
    def _edited(self) -> Iterator[None]:
        if self._written.delta is None:
            yield
            return
        with applied(self._loaded, self._written.delta):
            yield
