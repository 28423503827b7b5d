"""RECIPE's knowledge sentinel as a scope (arXiv 2405.03279, section 3.2)."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memedit.encoders.base import Encoder
from memedit.encoders.knowledge import knowledge_text
from memedit.encoders.knowledge_files import RECORD, open_knowledge_encoder
from memedit.errors import InputError, ModelNotFoundError
from memedit.models.shipped import no_shipped, shipped_folders
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, scope_fingerprint
from memedit.types import Candidate, Edit, Encoding, FloatArray, Hit, ScopeDecision


class SentinelScope:
    """An edit fires on a query iff it is nearer to it than the knowledge sentinel: ``r_q . r_k > r_q . r_sentinel``.

    Score = ``sigmoid((r_q . r_k - r_q . r_sentinel) / sqrt(r))``, so the paper's rule is the threshold 0.5, and the
    sentinel sets the bar for each query by itself. Of several edits above it the best fires (the paper retrieves one);
    with ``margin`` those within it fire too. The paper ranks all stored knowledge; here the candidates are those that
    the memory found.

    Args:
        encoder: the memory's encoder; must be the one the network was trained over.
        weights: folder with a trained knowledge encoder, or the name of a base model whose RECIPE network ships.
        threshold: scores at or above it fire; 0.5 is the sentinel itself.
        band: see :class:`~memedit.scope.decision.FiringRule`.
        margin: see :class:`~memedit.scope.decision.FiringRule`.
        cache_size: knowledge vectors kept, least recently used go first.

    Raises:
        ModelNotFoundError: there is no such network.
        FingerprintMismatchError: it was trained over another encoder.
        InputError: an option is out of its range.
    """

    DEFAULT_THRESHOLD = 0.5
    DEFAULT_WEIGHTS = "smollm2-135m-instruct"

    def __init__(
        self,
        encoder: Encoder,
        *,
        weights: Path | str | None = None,
        threshold: float | None = None,
        band: float = 0.0,
        margin: float = 0.0,
        cache_size: int = 20_000,
    ) -> None:
        if cache_size < 1:
            raise InputError(f"cache_size is {cache_size}; keep at least one vector")
        self._rule = FiringRule(check_threshold(threshold, self.DEFAULT_THRESHOLD), band, margin)
        folder = find_weights(self.DEFAULT_WEIGHTS if weights is None else weights)
        self._network = open_knowledge_encoder(folder, fingerprint=encoder.fingerprint)
        with torch.inference_mode():
            self._sentinel = self._network.sentinel()[0].numpy()
        self._knowledge = _VectorCache(self._network.knowledge, cache_size)
        self._fingerprint = scope_fingerprint(self.name, encoder.fingerprint, weights=self._network.weights_digest())

    @property
    def name(self) -> str:
        """Registered name."""
        return "sentinel"

    @property
    def threshold(self) -> float:
        """Scores at or above it fire."""
        return self._rule.threshold

    @property
    def fingerprint(self) -> str:
        """Hash of everything the scores depend on: the encoder's fingerprint and the trained weights."""
        return self._fingerprint

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Judge each query's candidates; queries without any cost nothing."""
        rule = self._rule.at(threshold)
        asked = [i for i, row in enumerate(candidates) if row]
        vectors: dict[int, FloatArray] = {}
        if asked:
            with torch.inference_mode():
                found = self._network.queries([queries[i].text for i in asked]).numpy()
            vectors = dict(zip(asked, found, strict=True))
        knowledge = self._knowledge.of({_text(c.edit) for row in candidates for c in row})
        return [
            decide_query(self.name, query, self._judge(vectors[i], row, knowledge) if row else [], rule)
            for i, (query, row) in enumerate(zip(queries, candidates, strict=True))
        ]

    def _judge(
        self, query: FloatArray, candidates: Sequence[Candidate], knowledge: dict[str, FloatArray]
    ) -> list[ScoredCandidate]:
        scale = self._network.scale
        bar = float(query @ self._sentinel) * scale
        scored = []
        for candidate in candidates:
            relevance = float(query @ knowledge[_text(candidate.edit)]) * scale
            reasons = {"relevance": relevance, "sentinel": bar, "similarity": candidate.similarity}
            hit = Hit(candidate.edit, _sigmoid(relevance - bar), candidate.similarity, reasons)
            scored.append(ScoredCandidate(hit, None))
        return scored


def find_weights(weights: Path | str) -> Path:
    """Return the folder of a trained knowledge encoder: a path, or the name of a base whose RECIPE network ships.

    Raises:
        ModelNotFoundError: neither exists.
    """
    shipped = {folder.name: folder for folder in shipped_folders("recipe", RECORD)}
    for folder in (Path(weights).expanduser(), shipped.get(str(weights))):
        if folder is not None and (folder / RECORD).is_file():
            return folder
    raise ModelNotFoundError(
        f"no trained knowledge encoder at {str(weights)!r} ({no_shipped('recipe', RECORD)}); make one with "
        "memedit train recipe"
    )


class _VectorCache:
    """Vectors of texts, least recently used dropped first; safe to share between threads."""

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], size: int) -> None:
        self._encode, self._size = encode, size
        self._kept: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, texts: set[str]) -> dict[str, FloatArray]:
        """Return the vector of each text."""
        with self._lock:
            found = {text: self._kept[text] for text in texts if text in self._kept}
            for text in found:
                self._kept.move_to_end(text)
        missing = sorted(texts - found.keys())
        if missing:
            with torch.inference_mode():
                made = self._encode(missing).numpy().astype(np.float32)
            found.update(zip(missing, made, strict=True))
            with self._lock:
                self._kept.update((text, found[text]) for text in missing)
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
        return found


def _text(edit: Edit) -> str:
    return knowledge_text(edit.prompt, edit.target)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else math.exp(value) / (1.0 + math.exp(value))
