"""GRACE as an adapter (arXiv 2211.11031): an edit's value replaces one layer's output at the prompt's last token."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.base import AdapterBatch, Row
from memedit.adapters.grace.codebook import Codebook, Entry
from memedit.errors import InputError
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.identity import BaseRecord
from memedit.models.mixture_hooks import Placement
from memedit.models.neurons import last_activations, late_layer, neuron_modules
from memedit.models.prepared_tails import TailRow, prepare_tails
from memedit.models.replaced_outputs import Choose, output_replaced
from memedit.models.segments import Segments
from memedit.models.spec import ModelSpec
from memedit.models.token_rows import answer_ids, query_ids
from memedit.models.training import training_copy
from memedit.types import Edit

EPSILON, STEPS, RATE = 1.0, 50, 1.0
"""The published radius, steps and learning rate."""
_BATCH = 32


class GraceAdapter:
    """A codebook at the MLP's down-projection of one late layer.

    An edit's key is what that map is fed at the last token of its prompt; its value, trained from a random start by
    Adam until the frozen model answers with the target, replaces what the map puts out there. Nothing is done at
    other tokens ("replace last").

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        layer: the layer; None: the published one, by depth.
        steps: of Adam.
        learning_rate: of Adam.
        codebook: what lets a value act: None: the best edit that fires on a row, the scope has decided; a codebook:
            the nearest of all its keys, where the row's lies within the radius, whatever fires (the paper's router).

    Raises:
        UnsupportedModelError: the model's layers have no single MLP down-projection.
        InputError: an option is out of its range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        layer: int | None = None,
        steps: int = STEPS,
        learning_rate: float = RATE,
        codebook: Codebook | None = None,
    ) -> None:
        spec = ModelSpec.of(model)
        self.layer = late_layer(spec) if layer is None else layer
        (self._module,) = neuron_modules(spec, (self.layer,))
        if steps < 1 or learning_rate <= 0:
            raise InputError(f"steps={steps}, learning_rate={learning_rate}: at least one step of a length above 0")
        self._shape = (int(spec.intermediate_size or 0), spec.hidden_size)
        self._model, self._tokenizer = model, tokenizer
        self._steps, self._rate, self._codebook = steps, learning_rate, codebook
        described = [self.layer, steps, learning_rate, tokenizer_digest(tokenizer)]
        base = BaseRecord.of(model, tokenizer, "base").to_json()
        self._fingerprint = hashlib.sha256(repr(["grace", described, base]).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Registered name."""
        return "grace"

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the base's identity."""
        return self._fingerprint

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return each edit's key and value, by edit id."""
        made: dict[str, bytes] = {}
        for at in range(0, len(edits), _BATCH):
            part = edits[at : at + _BATCH]
            made.update({edit.id: entry.to_bytes() for edit, entry in zip(part, self._trained(part), strict=True)})
        return made

    def entries(self, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> list[Entry]:
        """Return the entries of edits, for a codebook.

        Raises:
            InputError: an artefact is damaged, or was made for another layer.
        """
        return [Entry.parse(artefacts[edit.id], self._shape, edit.target, edit.id) for edit in edits]

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it is."""
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which the layer's output at the last token of the rows' prompts is replaced.

        Raises:
            InputError: an artefact is damaged, or was made for another layer.
        """
        rows = tuple(row for row, edits in enumerate(batch.edits) if edits)
        if not rows:
            return nullcontext()
        answers = batch.answers or (0,) * len(batch.rows)
        ends = [pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)]
        starts = tuple(ends[row] - 1 - answers[row] for row in rows)
        best = [batch.edits[row][0] for row in rows]
        choose = self._by_scope(best, artefacts) if self._codebook is None else _by_key(self._codebook)
        return output_replaced(self._model, self._module, Placement(rows, starts, len(batch.rows), max(ends)), choose)

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return an empty context: what was replaced is in the keys and values of the layers above."""
        return nullcontext()

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None

    def _by_scope(self, best: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Choose:
        missing = list({edit.id: edit for edit in best if edit.id not in artefacts}.values())
        blobs = {**artefacts, **self.prepare(missing)} if missing else artefacts
        values = torch.stack([entry.value for entry in self.entries(best, blobs)]).to(self._model.device)

        def choose(keys: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            return torch.ones(len(keys), dtype=torch.bool, device=keys.device), values[list(places)]

        return choose

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _trained(self, edits: Sequence[Edit]) -> list[Entry]:
        ids = [query_ids(self._tokenizer, edit.prompt, chat=False) for edit in edits]
        texts = [answer_ids(self._tokenizer, edit.prompt, edit.target.strip(), chat=False, ends=True) for edit in edits]
        pad = int(self._tokenizer.pad_token_id or 0)
        keys = last_activations(self._segments, (self.layer,), ids, pad=pad)[:, 0]
        rows = [TailRow.of(query, answer) for query, answer in zip(ids, texts, strict=True)]
        tails = prepare_tails(self._segments, rows, first=self.layer, pad=pad)
        values = torch.stack([self._start(edit) for edit in edits]).to(keys.device).requires_grad_()
        descent = torch.optim.Adam([values], self._rate)
        place = Placement(tuple(range(len(rows))), (0,) * len(rows), len(rows), tails.inputs.ids.shape[1])
        every = torch.ones(len(rows), dtype=torch.bool, device=keys.device)
        for _ in range(self._steps):
            with output_replaced(self._segments.model, self._module, place, lambda _, at: (every, values[list(at)])):
                loss = tails.losses(self._segments).sum()
            (values.grad,) = torch.autograd.grad(loss, values)
            descent.step()
        found = zip(keys, values.detach(), edits, strict=True)
        return [Entry(key, value, edit.target) for key, value, edit in found]

    def _start(self, edit: Edit) -> Tensor:
        """Draw where an edit's value starts ("cold": uniform in [0, 1)), by its content."""
        rng = random.Random(edit.content_hash)
        return torch.tensor([rng.random() for _ in range(self._shape[1])])

    @cached_property
    def _segments(self) -> Segments:
        """A copy: rows may be answered by the base in another thread while values are being trained."""
        return Segments(training_copy(self._model, str(self._model.dtype).removeprefix("torch."), own=True))


def _by_key(codebook: Codebook) -> Choose:
    def choose(keys: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        found, nearest = codebook.find(keys)
        if not len(codebook.radii):
            return found, keys
        return found, codebook.values.to(keys.device)[nearest]

    return choose
