"""ELDER as an adapter: rows on which an edit fires get its mixture, by one decision a sequence."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.base import TARGET_WEIGHT, AdapterBatch, Row
from memedit.adapters.elder.codes import EditCode
from memedit.adapters.elder.deferral import GATES, THRESHOLD, in_reach
from memedit.adapters.elder.files import RECORD, load_mixture
from memedit.adapters.in_context.adapter import InContextAdapter
from memedit.errors import InputError, UnsupportedModelError
from memedit.models.hooks import _module
from memedit.models.mixture_hooks import Mixture, Placement, Weights, mixture_rows
from memedit.models.shipped import shipped_weights
from memedit.types import Edit


class ElderAdapter:
    """A mixture of LoRAs in the MLPs of a few layers, weighted apart for every row (arXiv 2408.11869).

    The codes of edits come from ``memedit train elder`` as artefacts in the memory, under this mixture's fingerprint.
    An edit that has none yet waits for the next pass; until then it is stated in the prompt, as by the in-context
    adapter, so that it is in force at once.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        weights: folder of a trained mixture; None takes the one that ships for this base.
        gate: what lets a mixture act on a row that was routed here: ``"scope"``: the scope has decided; ``"code"``:
            the row's allocation code lies nearer than ``threshold`` to that of any trained edit handed in (the paper's
            deferral); ``"both"``: nearer than ``threshold`` to the code of an edit that fires on it.
        threshold: Hamming distance at which a row is deferred to the bare model.
        stored: all trained codes ``[m, L * N]``, which the gate "code" compares with.

    Raises:
        ModelNotFoundError: no mixture there, or none ships for this base.
        FingerprintMismatchError: the mixture was trained for another base model or tokenizer.
        InputError: an option lies outside its range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        weights: Path | str | None = None,
        gate: str = "scope",
        threshold: int = THRESHOLD,
        stored: Tensor | None = None,
    ) -> None:
        if gate not in GATES or threshold < 0:
            raise InputError(
                f"gate={gate!r}, threshold={threshold}: the gate is one of {GATES}, the threshold not below 0"
            )
        if gate == "code" and stored is None:
            raise InputError("gate='code' compares rows with every trained code; give them as stored")
        folder = Path(weights) if weights is not None else shipped_mixture(model)
        self.mixture, self._record = load_mixture(folder, model, tokenizer)
        self._model, self._gate, self._threshold, self._stored = model, gate, threshold, stored
        self._waiting = InContextAdapter(model, tokenizer)
        self._terms = [_as_fed(model, term) for term in self.mixture.terms()]
        self._known: dict[bytes, EditCode] = {}

    @property
    def name(self) -> str:
        """Registered name."""
        return "elder"

    @property
    def fingerprint(self) -> str:
        """Hash of the mixture's weights and shape and of the base's identity."""
        return self._record.fingerprint

    @property
    def target_weight(self) -> float:
        """Weight of the edit's own next token in decoding; 0 in the published forms, which decide for themselves."""
        return TARGET_WEIGHT if self._fixed else 0.0

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return nothing: codes are made by training passes over batches of edits."""
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it is; edits that wait for training are stated in it."""
        waiting = [edit for edit in edits if edit.id not in artefacts]
        return self._waiting.rewrite(row, waiting, artefacts) if waiting else row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which rows get the mixture of the best trained edit that fires on them.

        Raises:
            InputError: an artefact is damaged, or of another shape than this mixture's.
        """
        chosen = self._chosen(batch, artefacts)
        if not chosen:
            return nullcontext()
        rows, codes = tuple(chosen), list(chosen.values())
        ends = [pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)]
        last = tuple(ends[row] - 1 - (batch.answers[row] if batch.answers else 0) for row in rows)
        starts = tuple(batch.pad[row] for row in rows) if self.mixture.config.span == "all" else last
        place = Placement(rows, starts, len(batch.rows), max(ends), asked=last)
        if self._fixed:
            return mixture_rows(self._model, self._terms, place, weights=self._own(codes))

        def route(states: Tensor, places: tuple[int, ...]) -> Weights:
            return self._routed(states, [codes[at] for at in places])

        return mixture_rows(self._model, self._terms, place, route=route, reads=self.mixture.reads)

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which one token of every row is decoded under its edit's mixture.

        Raises:
            UnsupportedModelError: the mixture depends on the query's state, which a later step no longer sees.
        """
        chosen = self._chosen(batch, artefacts)
        if not chosen:
            return nullcontext()
        if not self._fixed:
            raise UnsupportedModelError(
                f"ELDER with gate {self._gate!r} and allocation {self.mixture.config.allocation!r} decides by the "
                "query's state and cannot decode in a batch whose rows come and go; use gate 'scope' with allocation "
                "by edit"
            )
        place = Placement(tuple(chosen), (0,) * len(chosen), len(batch.rows), 1)
        return mixture_rows(self._model, self._terms, place, weights=self._own(list(chosen.values())))

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None

    @property
    def _fixed(self) -> bool:
        """Whether a row's mixture follows from its edits alone."""
        return self._gate == "scope" and self.mixture.config.allocation == "edit"

    def _chosen(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> dict[int, list[EditCode]]:
        """Return the trained codes of each row on which a trained edit fires, best first."""
        return {row: trained for row, edits in enumerate(batch.edits) if (trained := self._trained(edits, artefacts))}

    def _routed(self, states: Tensor, codes: Sequence[Sequence[EditCode]]) -> Weights:
        """Return the weights of rows by their query states; 0 for those that are deferred to the bare model."""
        mixture = self.mixture
        weights = self._as_terms(mixture.route(states)) if mixture.config.allocation == "router" else self._own(codes)
        if self._gate == "scope":
            return weights
        bits = mixture.codes(states)
        acts = self._acts(bits, codes)
        switch = acts.to(self._terms[0].down.dtype).unsqueeze(1)
        widths = [mixture.config.components if term.up is not None else mixture.width for term in self._terms]
        every = [w if w is not None else switch.new_ones(1, width) for w, width in zip(weights, widths, strict=True)]
        return tuple(w * switch for w in every)

    def _acts(self, bits: Tensor, codes: Sequence[Sequence[EditCode]]) -> Tensor:
        """Say of each row's code ``[n, L * N]`` whether it is near enough to what was trained, ``[n]``."""
        if self._gate == "code" and self._stored is not None:
            return in_reach(bits, self._stored.to(bits.device), self._threshold)
        near = []
        for mine, edits in zip(bits, codes, strict=True):
            own = torch.stack([code.bits for code in edits]).to(bits.device)
            near.append(in_reach(mine.unsqueeze(0), own, self._threshold)[0])
        return torch.stack(near)

    def _own(self, codes: Sequence[Sequence[EditCode]]) -> Weights:
        """Return the weights of rows by the best edit of each."""
        found = self.mixture.own_weights(torch.stack([mine[0].vectors for mine in codes]).to(self.mixture.unit))
        return self._as_terms(found)

    def _as_terms(self, weights: Weights) -> Weights:
        like = self._terms[0].down
        return tuple(None if w is None else w.to(like.device, like.dtype) for w in weights)

    def _trained(self, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> list[EditCode]:
        return [self._code(edit.id, artefacts[edit.id]) for edit in edits if edit.id in artefacts]

    def _code(self, edit_id: str, blob: bytes) -> EditCode:
        if blob not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[blob] = EditCode.parse(blob, self.mixture.config, self.mixture.width, edit_id)
        return self._known[blob]


_KEPT = 4096
"""Codes held in this process, read."""


def shipped_mixture(model: Any) -> Path:
    """Return the folder of the mixture that ships for this model.

    Raises:
        ModelNotFoundError: none does.
    """
    advice = "or train a mixture with memedit train elder and pass its folder as weights"
    return shipped_weights("elder", RECORD, model, otherwise=advice)


def _as_fed(model: Any, term: Mixture) -> Mixture:
    """Place a term on its module's device and in the model's dtype."""
    weight = next(_module(model, term.name).parameters())
    dtype = model.dtype if isinstance(getattr(model, "dtype", None), torch.dtype) else weight.dtype
    up = None if term.up is None else term.up.to(weight.device, dtype)
    return Mixture(term.name, term.down.to(weight.device, dtype), up)
