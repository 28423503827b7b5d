"""RECIPE as an adapter (arXiv 2405.03279): an edit is a few continuous tokens before the query's embeddings."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from memedit.adapters.base import AdapterBatch, Row
from memedit.adapters.blobs import read_tensors
from memedit.adapters.recipe.network import RECORD, fingerprint_of, load_network
from memedit.adapters.recipe.prompts import Spelling
from memedit.encoders.knowledge import knowledge_text
from memedit.errors import InputError
from memedit.models.hooks import EmbeddingOverride, override_embeddings
from memedit.models.shipped import shipped_weights
from memedit.types import Edit

_NAME = "prompt"


class RecipeAdapter:
    """Continuous prompts of the edits that fire, before the row's first token.

    An edit's prompt ``[l, d_model]`` comes from one pass of the knowledge encoder when the edit is added, without any
    gradient step, and is kept as a float16 safetensors blob. A row on which n edits fire gets ``n * l`` placeholder
    ids in front, best edit first, whose embeddings are replaced by the prompts while the row is read; decoding steps
    with a key-value cache never see them again.

    Args:
        model: the frozen base model.
        tokenizer: its tokenizer.
        weights: folder of a trained network (``memedit train recipe``); default: the one that ships for this base.
        encoder: place of the text encoder, when it does not lie under the recorded name.
        batch_size: edits encoded at once.

    Raises:
        ModelNotFoundError: no network in ``weights``, or none ships for this base.
        FingerprintMismatchError: it was trained for another base model, tokenizer or encoder.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        weights: Path | str | None = None,
        encoder: Path | str | None = None,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; encode at least one edit at once")
        folder = Path(weights) if weights is not None else _shipped(model)
        self._network, self._record = load_network(folder, encoder=encoder)
        self._record.base.check(model, tokenizer, f"the RECIPE network in {folder}")
        self._model, self._batch_size = model, batch_size
        self._spelling = Spelling(model, tokenizer, self._record.prompts.tokens)
        self._placeholder = _placeholder(tokenizer)
        self._fingerprint = fingerprint_of(self._network.trained_parameters(), self._record.base.to_json())

    @property
    def name(self) -> str:
        """Registered name."""
        return "recipe"

    @property
    def fingerprint(self) -> str:
        """Hash of the trained network and the base model it is for."""
        return self._fingerprint

    @property
    def prompt_tokens(self) -> int:
        """Continuous tokens per edit (l)."""
        return self._record.prompts.tokens

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return each edit's prompt as safetensors bytes (``prompt``: float16 ``[l, d_model]``), by edit id."""
        made: dict[str, bytes] = {}
        for at in range(0, len(edits), self._batch_size):
            part = edits[at : at + self._batch_size]
            with torch.inference_mode():
                vectors = self._network.encoder.knowledge([knowledge_text(e.prompt, e.target) for e in part])
                spelt = self._spelling.of([edit.target for edit in part]).to(vectors.device)
                prompts = self._network.prompts(vectors, spelt).to(torch.float16)
            made.update({edit.id: save({_NAME: p.clone()}) for edit, p in zip(part, prompts, strict=True)})
        return made

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row with ``l`` placeholder ids per edit in front; its text is unchanged."""
        return replace(row, ids=(self._placeholder,) * (self.prompt_tokens * len(edits)) + row.ids)

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which the placeholders' embeddings are the prompts of the edits that fire.

        Raises:
            InputError: an artefact is damaged, or of another shape than this network's prompts.
        """
        prompts = self._prompts(batch, artefacts)
        overrides = [
            EmbeddingOverride(row=i, start=batch.pad[i], vectors=torch.cat([prompts[edit.id] for edit in edits]))
            for i, edits in enumerate(batch.edits)
            if edits
        ]
        length = max((pad + len(row.ids) for pad, row in zip(batch.pad, batch.rows, strict=True)), default=0)
        return override_embeddings(self._model, overrides, batch=len(batch.rows), length=length)

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return an empty context: the prompts have been read."""
        return nullcontext()

    def model(self) -> Any | None:
        """Return None: the base model itself answers."""
        return None

    def _prompts(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> dict[str, Tensor]:
        """Read the prompts of all edits in the batch; those without an artefact are prepared now."""
        wanted = {edit.id: edit for edits in batch.edits for edit in edits}
        missing = [edit for edit in wanted.values() if edit.id not in artefacts]
        blobs = {**artefacts, **self.prepare(missing)} if missing else artefacts
        return {edit_id: self._read(edit_id, blobs[edit_id]) for edit_id in wanted}

    def _read(self, edit_id: str, blob: bytes) -> Tensor:
        shape = (self.prompt_tokens, self._record.prompts.hidden_size)
        prompt = read_tensors(blob, f"the RECIPE prompt of edit {edit_id} is").get(_NAME)
        if prompt is None or tuple(prompt.shape) != shape:
            found = None if prompt is None else tuple(prompt.shape)
            raise InputError(f"the RECIPE prompt of edit {edit_id} has shape {found}, expected {shape}")
        return prompt.to(self._model.get_input_embeddings().weight.device)


def _shipped(model: Any) -> Path:
    advice = "or train a network with memedit train recipe and pass weights="
    return shipped_weights("recipe", RECORD, model, otherwise=advice)


def _placeholder(tokenizer: Any) -> int:
    """Choose an id whose embedding is never used; not the end token, which logits processors may look for."""
    ends = {tokenizer.eos_token_id}
    for choice in (tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id):
        if choice is not None and choice not in ends:
            return int(choice)
    return 0
