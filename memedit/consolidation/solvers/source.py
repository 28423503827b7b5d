"""Keys and residuals of all edits, layer by layer, in the order of the edits' ids."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.makers.gradient import asked
from memedit.consolidation.relay import Relay
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.running import RunningMoments
from memedit.types import FloatArray, WeightTerm


class Source:
    """Keys and residuals: measured again for ``requests``, else as they are stored or made of stored gradients.

    Args:
        loaded: the frozen base.
        artefacts: what each edit asks for, by id.
        site: the layers that are solved for.
        settings: dtype of the solve, and how far gradients ask to go.
        requests: edits to measure again, each with a target.
        normaliser: see :func:`~memedit.consolidation.makers.gradient.asked`.

    Raises:
        InputError: an edit has no keys for a layer, or some edits have targets and others gradients.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        artefacts: Mapping[str, EditArtefact],
        site: EditSite,
        settings: ConsolidationSettings,
        requests: Sequence[EditRequest],
        *,
        normaliser: RunningMoments | None = None,
    ) -> None:
        self._artefacts, self._top = artefacts, site.layers[-1]
        self._ids = sorted(artefacts)
        self._dtype = torch.float64 if settings.solve_dtype == "float64" else torch.float32
        self._whole = len(site.layers) == 1
        ordered = sorted(requests, key=lambda request: request.id)
        place = {edit: number for number, edit in enumerate(self._ids)}
        self._again = [place[request.id] for request in ordered]
        by_gradient = {artefacts[edit].by_gradient for edit in self._ids}
        if len(by_gradient) > 1:
            raise InputError("some edits ask by gradients and others do not; compute them with the same maker")
        self._asked: dict[int, Tensor] = {}
        if by_gradient == {True}:
            stored = {layer: self._stored(layer) for layer in site.layers}
            weights = {layer: site.weight(loaded.model, layer).float().cpu() for layer in site.layers}
            self._asked = asked(stored, weights, settings.gradient_step, normaliser)
        self._relay = Relay(loaded, ordered, artefacts, site, settings) if ordered else None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._relay is not None:
            self._relay.close()

    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys ``[d_in, n]`` and residuals ``[d_out, n]``, ``n`` being the key rows of all edits."""
        keys, residuals = self._stored(layer)
        residuals = self._asked.get(layer, residuals)
        if self._relay is not None:  # edits with a target have one row each
            keys[self._again], residuals[self._again] = self._relay.at(layer)
        return keys.T.to(self._dtype), residuals.T.to(self._dtype)

    def _stored(self, layer: int) -> tuple[Tensor, Tensor]:
        edits = [self._artefacts[edit] for edit in self._ids]
        missing = next((edit for edit, found in zip(self._ids, edits, strict=True) if layer not in found.keys), None)
        if missing is not None:
            raise InputError(
                f"edit {missing} has keys for layers {self._artefacts[missing].layers}, not for layer {layer}: they "
                "were computed with other settings; compute them anew"
            )
        keys = [torch.from_numpy(edit.keys[layer]) for edit in edits]
        return torch.cat(keys), torch.cat([torch.from_numpy(self._lacking(edit, layer)) for edit in edits])

    def _lacking(self, edit: EditArtefact, layer: int) -> FloatArray:
        if self._whole and edit.target is not None and edit.hidden is not None:
            whole: FloatArray = (edit.target - edit.hidden)[None]
            return whole
        return edit.residuals[layer]

    def write(self, layer: int, term: WeightTerm) -> None:
        """Let what is measured from here on know of a layer's new weight."""
        if self._relay is not None and layer != self._top:
            self._relay.write(layer, term)
