"""The one road of a planned batch: through the bare model, the adapter, or both, and back into the caller's rows."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memedit.adapters.base import Adapter, Row
from memedit.consolidation.loaded import ModelVersion
from memedit.models.chat import ChatLayout
from memedit.runtime.answers import Answer, Score
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.asked import reworded
from memedit.runtime.base_says import BaseNames
from memedit.runtime.lazy import LazyAdapter
from memedit.runtime.lengths import effective
from memedit.runtime.passes import Base, EditedRows, PassResult, merge, run_edited, with_structure
from memedit.runtime.placing import place_of_target
from memedit.runtime.rows import left_pad
from memedit.runtime.scoring import score_rows
from memedit.runtime.structured import Grammar, Held, StructureKind, placed_targets
from memedit.runtime.target_bias import TargetPrior, target_prior
from memedit.types import BatchPlan, Hit, Route, ScopeDecision

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_OF_ANSWER = ("min_length", "min_new_tokens", "max_length", "return_dict_in_generate")
"""Arguments of ``generate`` about a whole answer, which a part of one has no use for."""


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One call of ``generate`` on its way.

    ``rows`` are what it asks, ``plan`` says who answers each, ``ids [B, T]`` are the prompts as the caller gave them.
    ``options`` are the arguments of ``generate``; ``inputs`` is its first one where ``ids`` came that way. Every answer
    is held to ``grammar``, where there is one.
    """

    rows: Sequence[Row]
    plan: BatchPlan
    ids: Tensor
    options: Mapping[str, Any]
    inputs: Tensor | None = None
    grammar: Grammar | None = None


def applied(decision: ScopeDecision, adapter: Adapter) -> tuple[Hit, ...]:
    """Return the edits that an adapter is to apply: none where the model itself answers what edits were put into.

    Where an adapter answers with a model of its own, that is not the one to leave the question to: it gets the edits.
    """
    return () if decision.by_model and adapter.model() is None else decision.fired


class Generator:
    """Runs planned batches over a model, one pass at a time.

    Args:
        model: a transformers causal LM.
        tokenizer: its tokenizer.
        layout: of its chat turns, None where it has none.
        adapter: makes the model follow the edits that fire.
        artefacts: what the adapter prepared for them.
        lock: held during passes.
        version: the consolidated edits that the model answers. Where it is gated, rows of them meet their weights and
            all others the frozen base's.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: Any,
        layout: ChatLayout | None,
        *,
        adapter: LazyAdapter,
        artefacts: Artefacts,
        lock: Any,
        version: ModelVersion | None = None,
    ) -> None:
        self._model, self._tokenizer, self._layout = model, tokenizer, layout
        self._adapter, self._artefacts, self._lock, self._version = adapter, artefacts, lock, version
        self.names = BaseNames(
            tokenizer,
            lambda options: self.bare(None, options),
            device=lambda: model.device,
            pad=lambda: self.base.pad,
        )
        """Says what the bare model takes something for, see :class:`~memedit.runtime.base_says.BaseNames`."""

    @property
    def base(self) -> Base:
        """The bare model with the id that it pads with and the most tokens that it reads."""
        given = self._model.generation_config.pad_token_id
        config = self._model.config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        found = getattr(config, "max_position_embeddings", None)
        pad = int(self._tokenizer.pad_token_id if given is None else given)
        return Base(self._model, pad, int(found) if found is not None else None)

    def batch(
        self, rows: Sequence[Row], plan: BatchPlan, options: Mapping[str, Any], grammar: Grammar | None = None
    ) -> PlannedBatch:
        """Return rows that did not come as tensors as a batch, padded on the left."""
        ids, mask, _ = left_pad(rows, self.base.pad, self._model.device)
        if "stop_strings" in options:
            options = {"tokenizer": self._tokenizer, **options}
        arguments = {**options, "input_ids": ids, "attention_mask": mask}
        return PlannedBatch(rows, plan, ids, arguments, grammar=grammar)

    def run(self, batch: PlannedBatch) -> Any:
        """Generate a batch as planned; the result is what ``generate`` returns for the caller's own rows."""
        edited = self.edited(batch.rows, batch.plan, batch.grammar)
        options, grammar, width = batch.options, batch.grammar, batch.ids.shape[1]
        if grammar is not None:  # for the rows of the bare model; those of edited rows hold their targets too
            options = with_structure(options, [lambda: Held(grammar.constraint())] * len(batch.rows), width)
        weighted, count = batch.plan.weight_rows, len(batch.rows)
        if edited is None:
            return self.bare(batch.inputs, options, weighted, count)
        adapter = self._adapter.get()
        with self._lock, torch.no_grad():
            bare = None
            if len(edited.numbers) < count:
                found = self.bare(batch.inputs, options, weighted, count)
                bare = PassResult(found, width, tuple(range(count)))
            with self.on_weights():
                result = run_edited(self.base, adapter, edited, batch.ids, batch.options)
        return merge(bare, result, batch.ids, self.base.pad)

    def answers(self, batch: PlannedBatch) -> list[Answer]:
        """Generate a batch and read its answers, row by row."""
        return self.read(batch, self.run(batch))

    def read(self, batch: PlannedBatch, sequences: Tensor) -> list[Answer]:
        """Read the answers in what ``generate`` returned for a batch, ``[rows * n, width + new]``."""
        repeats = sequences.shape[0] // len(batch.rows)
        answers = []
        for number, new in enumerate(sequences[:, batch.ids.shape[1] :].tolist()):
            kept = self._until_end(new, batch.options)
            text = self._tokenizer.decode(kept, skip_special_tokens=True)
            answers.append(Answer(text=text, token_ids=tuple(kept), route=batch.plan.routes[number // repeats]))
        return answers

    def on_weights(self, rows: Sequence[int] = (), batch: int = 1) -> AbstractContextManager[None]:
        """Let these rows of a batch meet the edited weights inside and all others the base's, where that is wished."""
        if self._version is None or not self._version.edits.gated:
            return nullcontext()
        return self._version.on_rows(self._model, rows, batch)

    def bare(
        self, inputs: Tensor | None, options: Mapping[str, Any], weighted: Sequence[int] = (), batch: int = 1
    ) -> Any:
        """Call the model's own ``generate`` with the caller's own arguments; ``weighted`` rows by edited weights."""
        with self._lock, self.on_weights(weighted, batch):
            return self._model.generate(**options) if inputs is None else self._model.generate(inputs, **options)

    def edited(self, rows: Sequence[Row], plan: BatchPlan, grammar: Grammar | None = None) -> EditedRows | None:
        """Return the rows on which edits fire, with what is needed to run them; None when there are none."""
        numbers = plan.edited_rows
        if not numbers:
            return None
        adapter = self._adapter.get()
        fired = [applied(plan.routes[n].decision, adapter) for n in numbers]
        edits = tuple(tuple(hit.edit for hit in hits) for hits in fired)
        with self._lock:  # an adapter may run the model to make what is missing
            found = self._artefacts.of(adapter, [edit for group in edits for edit in group])
        chosen = tuple(self.asked(rows[n], plan.routes[n].decision) for n in numbers)
        pairs = list(zip(chosen, fired, strict=True))
        if grammar is not None:
            held = tuple(partial(self.held, grammar, row, own) for row, own in pairs)
            return EditedRows(numbers, chosen, edits, found, (None,) * len(chosen), held)
        return EditedRows(numbers, chosen, edits, found, tuple(self.target_prior(row, own) for row, own in pairs))

    def go_on(self, row: Row, said: Sequence[int], route: Route, options: Mapping[str, Any], *, room: int) -> list[int]:
        """Go on with an answer that has said something; return the new ids, its end token included.

        Args:
            row: the prompt as the caller gave it.
            said: the answer so far.
            route: of the row.
            options: arguments of ``generate``.
            room: so many tokens the whole answer may have.
        """
        if len(said) >= room:
            return []
        adapter = self._adapter.get()
        edits = tuple(hit.edit for hit in applied(route.decision, adapter)) if route.fired else ()
        with self._lock:
            found = self._artefacts.of(adapter, edits)
        asked = self.asked(row, route.decision)
        edited = EditedRows((0,), (asked,), (edits,), found, (None,), said=(tuple(said),))
        weighted = (0,) if not route.fired and route.decision.in_weights else ()
        ids = torch.tensor([[*row.ids, *said]], device=self._model.device)
        own = {key: value for key, value in options.items() if key not in _OF_ANSWER}
        own |= {"max_new_tokens": room - len(said), "num_return_sequences": 1}
        with self._lock, self.on_weights(weighted), torch.no_grad():
            result = run_edited(self.base, adapter, edited, ids, own)
        return self._until_end(result.sequences[0, result.width :].tolist(), options)

    def place(
        self, row: Row, hits: Sequence[Hit], said: Sequence[int], start: int, artefacts: Artefacts | None = None
    ) -> int | None:
        """Return the token of an answer before which the first edit's target would be said.

        ``artefacts`` are those of the row's namespace, None for the model's own.
        """
        adapter, edits = self._adapter.get(), tuple(hit.edit for hit in hits)
        with self._lock, self.on_weights():
            found = (artefacts or self._artefacts).of(adapter, edits)
            return place_of_target(
                self.base, adapter, self._tokenizer, row, edits, said=said, start=start, artefacts=found
            )

    def ends(self, options: Mapping[str, Any]) -> frozenset[int]:
        """Return the ids that end an answer."""
        ends = effective(dict(options), self._model, "eos_token_id")
        return frozenset([ends] if isinstance(ends, int) else ends or ())

    def room(self, batch: PlannedBatch) -> int:
        """Return how many tokens an answer to a batch may have."""
        options = dict(batch.options)
        new = effective(options, self._model, "max_new_tokens")
        total = effective(options, self._model, "max_length")
        return int(new) if new is not None else max(int(total or 20) - batch.ids.shape[1], 0)

    def asked(self, row: Row, decision: ScopeDecision) -> Row:
        """Return a row as the model is asked: with what edits say put into its question, where a decision says so."""
        if decision.asked is None:
            return row
        return reworded(self._tokenizer, self._layout, row, decision.asked)

    def target_prior(self, row: Row, fired: Sequence[Hit]) -> TargetPrior | None:
        """Return what the decoding of a row is mixed with when the edits of ``fired`` apply to it."""
        return target_prior(self._adapter.get(), self._tokenizer, row, fired, chat=self.is_chat(row))

    def held(self, grammar: Grammar, row: Row, fired: Sequence[Hit]) -> Held:
        """Return what one answer to a row is held to, and mixed with where edits fire on it."""
        constraint = grammar.constraint()
        if not fired:
            return Held(constraint)
        if grammar.structure.kind is StructureKind.MIXED:
            return Held(constraint, self.target_prior(row, fired))
        return Held(constraint, placed_targets(constraint, grammar.structure, self._adapter.get(), row, fired))

    def is_chat(self, row: Row) -> bool:
        """Whether a row ends in a chat's turn, so that its answer begins one of its own."""
        if row.messages is not None:
            return True
        return self._layout is not None and self._layout.last_user_span(row.ids) is not None

    def scores(self, rows: Sequence[Row], targets: Sequence[tuple[int, ...]], plan: BatchPlan) -> list[Score]:
        """Score ``targets`` (token ids) after rows, under the routing of a plan."""
        edited = self.edited(rows, plan)
        adapter = None if edited is None else self._adapter.get()
        with self._lock:
            return score_rows(
                self.base, rows, targets, plan, edited=edited, adapter=adapter, on_weights=self.on_weights
            )

    def _until_end(self, ids: list[int], options: Mapping[str, Any]) -> list[int]:
        """Cut after the first end-of-text token; what follows it is padding."""
        known = self.ends(options)
        at = next((i for i, token in enumerate(ids) if token in known), len(ids) - 1)
        return ids[: at + 1]
