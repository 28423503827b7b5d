"""Keys and residuals as the layers below leave them: each layer is solved for on the model that carries the others.

MEMIT, arXiv 2210.07229, algorithm 1. What an edit alone would do to its own path (:mod:`memedit.consolidation.keys`) is
stored with it and is right while edits are few. With hundreds, the changes that the lower layers make for all the
others move an edit's keys in the upper ones, so that a weight solved for the stored keys misses. Here keys and what is
still lacking are measured again, all edits at once, on the weights written so far. The result is a function of the set
of edits still: they start from the frozen base and come in the order of their ids.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memedit.consolidation.apply import applied
from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.batch import batches
from memedit.consolidation.contexts import Context, build_contexts
from memedit.consolidation.keys import Passing, at_places
from memedit.consolidation.optimise import mean_by
from memedit.consolidation.rows import EditRow, edit_rows
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments
from memedit.types import WeightDelta, WeightTerm


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of some edits up to their edited position.

    ``places`` ``[E]`` are the edits' places in the whole, ``edit_of_row`` ``[R]`` those of the rows among them, ``at``
    ``[R]`` the edited positions, ``state`` ``[R, t, d_model]`` hidden states in front of the next layer.
    """

    places: list[int]
    edit_of_row: Tensor
    inputs: Inputs
    at: Tensor
    state: Tensor


class Relay:
    """Runs all edits upwards, layer after layer, as weights are written.

    :meth:`close` gives the model its own weights back.

    Args:
        loaded: the frozen base.
        requests: the edits, in the order in which keys are wanted.
        artefacts: their targets by id.
        site: where edits are written; its layers are gone through in order.
        settings: contexts, and how many tokens are run at once.

    Raises:
        InputError: an edit has no target.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        requests: Sequence[EditRequest],
        artefacts: Mapping[str, EditArtefact],
        site: EditSite,
        settings: ConsolidationSettings,
    ) -> None:
        targets = {request.id: _target(artefacts, request.id) for request in requests}
        self._loaded, self._site, self._segments = loaded, site, Segments(loaded.model)
        self._targets = torch.stack(list(targets.values())).to(loaded.model.device)
        contexts = build_contexts(loaded, settings)
        rows = {request.id: edit_rows(loaded.tokenizer, request, contexts) for request in requests}
        place = {request.id: i for i, request in enumerate(requests)}

        def length(row: EditRow) -> int:
            return len(_ids(row, contexts))

        self._batches = [
            self._started([place[edit] for edit in ids], [rows[edit] for edit in ids], contexts)
            for ids in batches(rows, 2 * settings.batch_tokens, length)
        ]
        self._written = ExitStack()

    def close(self) -> None:
        """Give the model its own weights back."""
        self._written.close()

    @torch.no_grad()
    def _started(self, places: list[int], edits: Sequence[Sequence[EditRow]], contexts: Sequence[Context]) -> _Batch:
        tokens = [_ids(row, contexts) for own in edits for row in own]
        device = self._segments.model.device
        inputs = Inputs.of(tokens, device)
        owners = torch.tensor([i for i, own in enumerate(edits) for _ in own], device=device)
        state, _ = self._segments.hidden(inputs, last=self._site.layers[0] - 1)
        return _Batch(places, owners, inputs, inputs.mask.sum(1) - 1, state)

    @torch.no_grad()
    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys ``[n, d_in]`` and residuals ``[n, d_out]`` of a layer, the layers below it being written."""
        parts = [(batch, *self._measured(batch, layer)) for batch in self._batches]
        keys = torch.empty((len(self._targets), parts[0][1].shape[1]))
        residuals = torch.empty((len(self._targets), parts[0][2].shape[1]))
        for batch, own_keys, own_residuals in parts:
            keys[batch.places], residuals[batch.places] = own_keys.cpu(), own_residuals.cpu()
        return keys, residuals

    def _measured(self, batch: _Batch, layer: int) -> tuple[Tensor, Tensor]:
        name, block = self._site.module_name(layer), f"{self._site.spec.layers}.{layer}"
        top = self._site.layers[-1]
        with capture(self._segments.model, [name, block]) as seen:
            behind, _ = self._segments.hidden(batch.inputs, first=layer, last=top, start=batch.state)

        def of_edits(values: Tensor) -> Tensor:
            return mean_by(at_places(values, batch.at).float(), batch.edit_of_row, len(batch.places))

        left = len(self._site.layers) - self._site.layers.index(layer)
        lacking = (self._targets[batch.places] - of_edits(behind)) / left
        passing = Passing(self._segments, name, batch.inputs, layer=layer, start=batch.state, at=batch.at)
        state = at_places(seen.outputs[block][0], batch.at)
        residuals, _ = passing.pull_back(lacking, state, batch.edit_of_row)
        return of_edits(seen.inputs[name][0]), residuals

    @torch.no_grad()
    def write(self, layer: int, term: WeightTerm) -> None:
        """Give a layer, not the last, its new weight until :meth:`close`, and go on to the next edited one."""
        base = self._loaded.fingerprint
        delta = WeightDelta(base, "relay", "", (), {self._site.module_name(layer): term})
        self._written.enter_context(applied(self._loaded, delta))
        above = self._site.layers[self._site.layers.index(layer) + 1]
        self._batches = [self._passed_on(batch, layer, above - 1) for batch in self._batches]

    def _passed_on(self, batch: _Batch, first: int, last: int) -> _Batch:
        state, _ = self._segments.hidden(batch.inputs, first=first, last=last, start=batch.state)
        return replace(batch, state=state)


def _target(artefacts: Mapping[str, EditArtefact], edit: str) -> Tensor:
    target = artefacts[edit].target if edit in artefacts else None
    if target is None:
        raise InputError(f"edit {edit} has no target; compute its keys and target first")
    return torch.from_numpy(target)


def _ids(row: EditRow, contexts: Sequence[Context]) -> tuple[int, ...]:
    return (*contexts[row.context].ids, *row.prefix, row.tail[0])
