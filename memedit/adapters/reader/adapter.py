"""The reader as an adapter: edits as text, the LoRA on just those rows."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memedit.adapters.base import TARGET_WEIGHT, AdapterBatch, Row, check_target_weight
from memedit.adapters.reader.layout import insert_edits
from memedit.adapters.reader.weights import WEIGHTS, load_reader, mismatch, read_record
from memedit.errors import InputError, ModelNotFoundError
from memedit.models.chat import chat_layout
from memedit.models.hooks import LowRank, LowRankGroup, low_rank_rows, shared_inputs, stack_low_rank
from memedit.types import Edit

SHIPPED = Path(__file__).parent / "weights"


class ReaderAdapter:
    """States the matched edits in the prompt and adds a LoRA trained to use them, or to ignore them if off topic.

    The LoRA acts on rows with an edit alone, in one grouped product per shared input; other rows of the same batch
    come out bit for bit as without it.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        weights: folder of a trained reader (PEFT files with ``reader.json``); None takes the one shipped for this
            base.
        max_edits: state at most so many edits, the best first.
        target_weight: how much of the next token's probability the edit itself has a say in where its target is
            surely what is asked for, see :mod:`memedit.runtime.target_bias`; 0 leaves decoding to the model alone.

    Raises:
        ModelNotFoundError: no reader there, or none is shipped for this base.
        FingerprintMismatchError: the reader was trained for another base, tokenizer or prompt layout.
        InputError: ``max_edits`` is below 1.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        weights: Path | str | None = None,
        max_edits: int = 8,
        target_weight: float = TARGET_WEIGHT,
    ) -> None:
        if max_edits < 1:
            raise InputError(f"max_edits={max_edits} is below 1")
        self._target_weight = check_target_weight(target_weight)
        folder = Path(weights) if weights is not None else find_shipped(model, tokenizer)
        if folder is None:
            raise ModelNotFoundError(
                "no reader ships for this base model; train one with `memedit train reader` and pass its folder as "
                "weights, or use the in_context adapter"
            )
        found = load_reader(folder, model, tokenizer)
        self._model, self._tokenizer, self._max_edits = model, tokenizer, max_edits
        self._layout = chat_layout(tokenizer)
        self._groups = placed_groups(model, found.terms)
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes())
        digest.update(
            f"{target_weight}|{found.record['layout']}|{found.record['config']}|{found.record['tokenizer']}".encode()
        )
        self._fingerprint = digest.hexdigest()

    @property
    def name(self) -> str:
        """Registered name."""
        return "reader"

    @property
    def fingerprint(self) -> str:
        """Hash of the trained weights, the target's weight, the prompt layout, and the base's config and tokenizer."""
        return self._fingerprint

    @property
    def target_weight(self) -> float:
        """Weight of the edit's own next token in decoding."""
        return self._target_weight

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return nothing: the reader needs an edit's text alone."""
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row with the edits stated in the place the reader was trained on."""
        pairs = [(edit.prompt, edit.target) for edit in edits[: self._max_edits]]
        return replace(row, ids=insert_edits(self._tokenizer, self._layout, pairs, row.ids))

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which the LoRA acts on the rows that hold edits."""
        rows = [number for number, edits in enumerate(batch.edits) if edits]
        return low_rank_rows(self._model, self._groups, rows=rows, batch=len(batch.rows))

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return the context of :meth:`active`: the LoRA acts on every token of its rows."""
        return self.active(batch, artefacts)

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None


def find_shipped(model: Any, tokenizer: Any) -> Path | None:
    """Return the folder of the reader that ships for this model and tokenizer, None where there is none."""
    for record in sorted(SHIPPED.glob("*/reader.json")):
        if mismatch(record.parent, read_record(record.parent), model, tokenizer) is None:
            return record.parent
    return None


def placed_groups(model: nn.Module, terms: Mapping[str, LowRank]) -> tuple[LowRankGroup, ...]:
    """Stack terms by shared input, each group on its modules' device and in the model's dtype."""
    placed: list[LowRankGroup] = []
    with torch.no_grad():
        for names in shared_inputs(model, list(terms)):
            device = next(model.get_submodule(names[0]).parameters()).device
            placed += stack_low_rank(terms, [names], dtype=_dtype(model), device=device)
    return tuple(placed)


def _dtype(model: nn.Module) -> torch.dtype:
    found = getattr(model, "dtype", None)
    return found if isinstance(found, torch.dtype) else next(model.parameters()).dtype
