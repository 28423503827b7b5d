"""The neuron memory as an adapter: located MLP neurons of a few layers are raised on the rows where an edit fires."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.base import AdapterBatch, Row, check_target_weight
from memedit.adapters.neurons.config import NeuronConfig
from memedit.adapters.neurons.fitting import Located, fit_values
from memedit.adapters.neurons.values import NeuronValues
from memedit.adapters.neurons.wordings import fitted_rows, own_texts, queries, reference_texts
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.identity import BaseRecord
from memedit.models.mixture_hooks import Placement
from memedit.models.neuron_hooks import inputs_raised
from memedit.models.neurons import last_activations, neuron_modules
from memedit.models.prepared_tails import prepare_tails
from memedit.models.segments import Segments
from memedit.models.spec import ModelSpec
from memedit.models.training import training_copy
from memedit.types import Edit

_VERSION = 1
"""Raised when values are found differently, so that stored ones are not used again."""
_LEAST_DEVIATION = 1e-3


class NeuronsAdapter:
    """Values of a few MLP neurons for each edit, found when it is added (after LU-LAFN, arXiv 2406.16416).

    Located are the neurons that are more active at the end of the edit's wordings than at the end of other prompts.
    What is added to them is fitted so that the frozen model answers with the target, and takes two bytes a number:
    some 1.7 KB an edit. From the last token of the prompt on, rows on which the edit fires get it; other rows come out
    bit for bit as without. Where several edits fire the best alone is applied: the sum of two would say neither.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        target_weight: how much of the next token's probability the edit itself has a say in, see
            :mod:`memedit.runtime.target_bias`; 0 leaves decoding to the model alone, as published.
        settings: see :class:`~memedit.adapters.neurons.config.NeuronConfig`.

    Raises:
        UnsupportedModelError: the model's layers have no single MLP down-projection.
        InputError: an option is out of its range.
    """

    def __init__(self, model: Any, tokenizer: Any, *, target_weight: float = 0.0, **settings: Any) -> None:
        spec = ModelSpec.of(model)
        if isinstance(settings.get("layers"), list):  # files and command lines give lists
            settings["layers"] = tuple(settings["layers"])
        self._config = NeuronConfig(**settings).for_model(spec)
        self._layers = self._config.layers or ()
        self._modules = neuron_modules(spec, self._layers)
        self._width = int(spec.intermediate_size or 0)
        self._model, self._tokenizer = model, tokenizer
        self._target_weight = check_target_weight(target_weight)
        described = [_VERSION, target_weight, self._config.fingerprint, tokenizer_digest(tokenizer)]
        base = BaseRecord.of(model, tokenizer, "base").to_json()
        self._fingerprint = hashlib.sha256(repr([described, base]).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Registered name."""
        return "neurons"

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the base's identity."""
        return self._fingerprint

    @property
    def target_weight(self) -> float:
        """Weight of the edit's own next token in decoding."""
        return self._target_weight

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return each edit's neurons and values, by edit id."""
        made: dict[str, bytes] = {}
        for at in range(0, len(edits), self._config.batch):
            part = edits[at : at + self._config.batch]
            made.update(zip((edit.id for edit in part), self._fitted(part), strict=True))
        return made

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it is."""
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which rows get the values of the best edit that fires on them.

        Raises:
            InputError: an artefact is damaged, or was made with other settings.
        """
        ends = [pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)]
        answers = batch.answers or (0,) * len(ends)
        starts = [end - 1 - answer for end, answer in zip(ends, answers, strict=True)]
        return self._raised(batch, artefacts, starts, max(ends, default=1))

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which one token of every row is decoded with its edit's values."""
        return self._raised(batch, artefacts, [0] * len(batch.rows), 1)

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None

    def _raised(
        self, batch: AdapterBatch, artefacts: Mapping[str, bytes], starts: Sequence[int], length: int
    ) -> AbstractContextManager[None]:
        rows = tuple(row for row, edits in enumerate(batch.edits) if edits)
        if not rows:
            return nullcontext()
        best = [batch.edits[row][0] for row in rows]
        missing = {edit.id: edit for edit in best if edit.id not in artefacts}
        blobs = {**artefacts, **self.prepare(list(missing.values()))} if missing else artefacts
        shape = (len(self._layers), self._config.neurons)
        found = torch.stack(
            [NeuronValues.parse(blobs[e.id], shape, self._width, e.id).dense(self._width) for e in best]
        )
        found = found.to(self._model.device)
        values = {name: found[:, i] for i, name in enumerate(self._modules)}
        return inputs_raised(
            self._model, values, Placement(rows, tuple(starts[row] for row in rows), len(batch.rows), length)
        )

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fitted(self, edits: Sequence[Edit]) -> list[bytes]:
        which = self._located(edits)
        rows = [fitted_rows(self._tokenizer, edit) for edit in edits]
        owner = torch.tensor([i for i, own in enumerate(rows) for _ in own], device=self._model.device)
        flat = [row for own in rows for row in own]
        tails = prepare_tails(self._segments, flat, first=self._layers[0], pad=self._pad)
        _, _, scale = self._usual
        values = fit_values(
            self._segments, tails, owner, Located(self._modules, which, scale, self._width), self._config
        )
        return [NeuronValues(which[i], values[i]).to_bytes() for i in range(len(edits))]

    def _located(self, edits: Sequence[Edit]) -> Tensor:
        """Return the neurons of each edit ``[E, L, k]``: the highest least score over its own wordings."""
        if self._config.locate == "random":
            return torch.stack([self._drawn(edit) for edit in edits]).to(self._model.device)
        texts = [own_texts(edit) for edit in edits]
        seen = self._activations([text for own in texts for text in own])
        mean, deviation, _ = self._usual
        scores = torch.split((seen.abs() - mean) / deviation, [len(own) for own in texts])
        least = torch.stack([own.min(0).values for own in scores])
        return least.topk(self._config.neurons, dim=-1).indices

    def _drawn(self, edit: Edit) -> Tensor:
        rng = random.Random(edit.content_hash)
        return torch.tensor([rng.sample(range(self._width), self._config.neurons) for _ in self._layers])

    @cached_property
    def _usual(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of ``|activation|`` ``[L, d_in]`` over other prompts, and the layers' scale ``[L]``."""
        seen = self._activations(reference_texts())
        sizes = seen.abs()
        return sizes.mean(0), sizes.std(0) + _LEAST_DEVIATION, seen.square().mean((0, 2)).sqrt()

    def _activations(self, texts: Sequence[str]) -> Tensor:
        ids = queries(self._tokenizer, texts)
        parts = [ids[at : at + 32] for at in range(0, len(ids), 32)]
        return torch.cat([last_activations(self._segments, self._layers, part, pad=self._pad) for part in parts])

    @cached_property
    def _segments(self) -> Segments:
        """A copy: rows may be answered by the base in another thread while values are being found."""
        dtype = "auto" if self._config.dtype == "auto" else str(self._model.dtype).removeprefix("torch.")
        return Segments(training_copy(self._model, dtype, own=True))

    @property
    def _pad(self) -> int:
        return int(self._tokenizer.pad_token_id or 0)
