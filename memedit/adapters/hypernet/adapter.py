"""MEND as an adapter: an edit's gradient, made into low-rank factors when it is added, applied where it fires."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.base import AdapterBatch, Row
from memedit.adapters.hypernet.factors import EditFactors
from memedit.models.gradients import ScoredRows, capture_gradients
from memedit.models.hypernet.files import RECORD, load_network, network_fingerprint
from memedit.models.hypernet.knowledge_editor import KnowledgeEditor, read_text
from memedit.models.hypernet.network import compressed, scored
from memedit.models.mixture_hooks import Mixture, Placement, mixture_rows
from memedit.models.segments import Segments
from memedit.models.shipped import shipped_weights
from memedit.models.token_rows import answer_ids, query_ids
from memedit.types import Edit


class MendAdapter:
    """Low-rank factors of the edits that fire, added to the MLP outputs of the last layers (arXiv 2110.11309).

    An edit's factors are a function of the frozen base and the edit alone: one pass over its prompt and target, one
    gradient, one pass of the network. Later edits change nothing in them. Published MEND adds them to the weights, edit
    after edit; here the scope decides on which rows they act, and other rows stay the bare model's bit for bit.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        weights: folder of a trained network (``memedit train hypernet``); default: the one that ships for this base.

    Raises:
        ModelNotFoundError: no network in ``weights``, or none ships for this base.
        FingerprintMismatchError: it was trained for another base model or tokenizer.
    """

    method = "mend"

    def __init__(self, model: Any, tokenizer: Any, *, weights: Path | str | None = None) -> None:
        folder = Path(weights) if weights is not None else _shipped(self.method, model)
        self._network, self._record = load_network(folder, model, tokenizer)
        self._model, self._tokenizer, self._segments = model, tokenizer, Segments(model)
        self._modules = self._record.config.modules(self._segments.spec)
        self._fingerprint = network_fingerprint(self._network, self._record.base)

    @property
    def name(self) -> str:
        """Registered name."""
        return self.method

    @property
    def fingerprint(self) -> str:
        """Hash of the trained network and the base model it is for."""
        return self._fingerprint

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return each edit's factors by its id, one edit at a time: what is beside an edit leaves its bits alone.

        An edit without a target has none. The model must not run elsewhere meanwhile.
        """
        made = ((edit.id, self._factors(edit)) for edit in edits)
        return {edit_id: factors.to_bytes() for edit_id, factors in made if factors is not None}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it is."""
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which rows get the factors of every edit that fires on them, at all their tokens.

        Raises:
            InputError: an artefact is damaged, or of another shape than this network's.
        """
        ends = [pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)]
        return self._mixed(batch, artefacts, max(ends, default=1))

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which one token of every row is decoded with its edits' factors."""
        return self._mixed(batch, artefacts, 1)

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None

    def _factors(self, edit: Edit) -> EditFactors | None:
        query, target = query_ids(self._tokenizer, edit.prompt, chat=False), edit.target.strip()
        if not query or not target:
            return None
        answer = answer_ids(self._tokenizer, edit.prompt, target, chat=False, ends=True)
        with torch.inference_mode(False):
            rows = ScoredRows.of([scored(query, answer, self._record.config.inner)], self._model.device)
            found = capture_gradients(self._segments, self._modules, rows).modules
            inputs = torch.stack([found[name].inputs for name in self._modules])
            gradients = torch.stack([found[name].gradients for name in self._modules])
            with torch.no_grad():
                down, up = self._made(query, answer, inputs, gradients)
        return EditFactors(*compressed(down, up, self._record.config.factors))

    def _made(
        self, query: Sequence[int], answer: Sequence[int], inputs: Tensor, gradients: Tensor
    ) -> tuple[Tensor, Tensor]:
        if isinstance(self._network, KnowledgeEditor):
            return self._network(inputs, gradients, read_text(self._model, query, answer))
        return self._network(inputs, gradients)

    def _mixed(self, batch: AdapterBatch, artefacts: Mapping[str, bytes], length: int) -> AbstractContextManager[None]:
        """Return a context in which each row gets its own edits' factors, out of one product for all rows."""
        fired = {
            row: ids for row, edits in enumerate(batch.edits) if (ids := [e.id for e in edits if e.id in artefacts])
        }
        if not fired:
            return nullcontext()
        known = {edit_id: self._read(edit_id, artefacts[edit_id]) for ids in fired.values() for edit_id in ids}
        terms = self._terms(list(known.values()))
        place = Placement(tuple(fired), (0,) * len(fired), len(batch.rows), length)
        if all(set(ids) == set(known) for ids in fired.values()):
            return mixture_rows(self._model, terms, place, weights=(None,) * len(terms))
        owners = [edit_id for edit_id, factors in known.items() for _ in range(factors.down.shape[1])]
        switch = torch.tensor([[owner in ids for owner in owners] for ids in fired.values()]).to(terms[0].down)
        return mixture_rows(self._model, terms, place, weights=(switch,) * len(terms))

    def _terms(self, factors: Sequence[EditFactors]) -> list[Mixture]:
        """Stack the factors of edits, one mixture a map."""
        terms = []
        for number, name in enumerate(self._modules):
            down = torch.cat([own.down[number] for own in factors]).to(self._model.device, self._model.dtype)
            up = torch.cat([own.up[number] for own in factors]).to(self._model.device, self._model.dtype)
            terms.append(Mixture(name, down, up.T.contiguous()))
        return terms

    def _read(self, edit_id: str, blob: bytes) -> EditFactors:
        network = self._network
        return EditFactors.parse(blob, maps=len(self._modules), d_in=network.d_in, d_out=network.d_out, edit_id=edit_id)


class KnowledgeEditorAdapter(MendAdapter):
    """As :class:`MendAdapter`, the edit's text deciding how its gradient is used (after arXiv 2104.08164)."""

    method = "knowledge_editor"


class PropMendAdapter(MendAdapter):
    """As :class:`MendAdapter`, with a network trained for what follows from an edit (PropMEND, arXiv 2506.08920)."""

    method = "propmend"


def _shipped(method: str, model: Any) -> Path:
    advice = "or train a network with memedit train hypernet and pass weights="
    return shipped_weights(method, RECORD, model, otherwise=advice)
