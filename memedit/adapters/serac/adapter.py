"""SERAC as an adapter (arXiv 2206.06520): edited rows are answered by a counterfactual model that reads the edit."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.adapters.serac.files import RECORD, WEIGHTS, load_counterfactual
from memedit.adapters.serac.layout import counterfactual_row
from memedit.errors import InputError
from memedit.models.shipped import shipped_weights
from memedit.types import Edit


class SeracAdapter:
    """Routes rows on which an edit fires to a counterfactual model; the scope is the paper's scope classifier.

    With ``counterfactual="small"`` that is a model cut from the base (:mod:`~.counterfactual`), which reads the best
    edit and the query; its rows form a ``generate`` call of their own. With ``"reader"`` it is the base itself with
    the reader's LoRA on those rows.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        counterfactual: "small" or "reader".
        weights: folder of a trained counterfactual model (``memedit train serac``) or reader; None takes the one that
            ships for this base.

    Raises:
        InputError: ``counterfactual`` is neither.
        ModelNotFoundError: there are no such weights, or none ship for this base.
        FingerprintMismatchError: they were trained for another base model or tokenizer.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, counterfactual: str = "small", weights: Path | str | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._reader: Adapter | None = None
        self._small: Any | None = None
        if counterfactual == "reader":
            from memedit.adapters.reader.adapter import ReaderAdapter

            self._reader = ReaderAdapter(model, tokenizer, weights=weights)
            self._fingerprint = hashlib.sha256(f"serac|{self._reader.fingerprint}".encode()).hexdigest()
        elif counterfactual == "small":
            folder = Path(weights) if weights is not None else _shipped(model)
            self._small, record = load_counterfactual(folder, model, tokenizer)
            digest = hashlib.sha256((folder / WEIGHTS).read_bytes())
            digest.update(json.dumps(record.base.to_json(), sort_keys=True).encode())
            self._fingerprint = digest.hexdigest()
        else:
            raise InputError(f"counterfactual is {counterfactual!r}; choose 'small' or 'reader'")

    @property
    def name(self) -> str:
        """Registered name."""
        return "serac"

    @property
    def fingerprint(self) -> str:
        """Hash of the counterfactual model's trained weights and of its base."""
        return self._fingerprint

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return nothing: the counterfactual model reads the edit's text."""
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return what the counterfactual model is fed: the best edit, then the query (of a chat its last user turn).

        With the reader all edits stand in the prompt.
        """
        if self._reader is not None:
            return self._reader.rewrite(row, edits, artefacts)
        return counterfactual_row(self._tokenizer, row, edits[0])

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return the reader's context; nothing has to be switched for a model of its own."""
        return nullcontext() if self._reader is None else self._reader.active(batch, artefacts)

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return the context of :meth:`active`."""
        return self.active(batch, artefacts)

    def model(self) -> Any | None:
        """Return the counterfactual model, None when it is the base itself with the reader."""
        return self._small


def _shipped(model: Any) -> Path:
    advice = "or train one with memedit train serac and pass weights=, or use counterfactual='reader'"
    return shipped_weights("serac", RECORD, model, otherwise=advice)
