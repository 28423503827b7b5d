"""A small real encoder (hashed words, no model) and makers of edits and candidates."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from memedit.types import Candidate, Edit, EditKind, EditState, Encoding, FloatArray

START = datetime(2026, 1, 1, tzinfo=UTC)


class HashedWords:
    """Each word is a fixed random unit vector; a text is the normalised mean of its words."""

    name = "hashed-words"
    dimension = 48
    fingerprint = "hashed-words-48"

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, progress: object = None) -> FloatArray:
        return np.stack([e.vector for e in self.encode_tokens(texts)]) if texts else np.zeros((0, 48), np.float32)

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Encoding:
        words = list(re.finditer(r"\w+", text))
        tokens = np.zeros((len(words), self.dimension), np.float32)
        for row, word in enumerate(words):
            seed = int.from_bytes(hashlib.sha256(word.group().lower().encode()).digest()[:8], "big")
            vector = np.random.default_rng(seed).standard_normal(self.dimension)
            tokens[row] = vector / np.linalg.norm(vector)
        total = tokens.sum(0)
        norm = float(np.linalg.norm(total)) or 1.0
        return Encoding(text, (total / norm).astype(np.float32), tokens, tuple(word.span() for word in words))


@dataclass
class Bench:
    """Edits in memory and the candidates that a flat search and a plain subject search find."""

    encoder: HashedWords = field(default_factory=HashedWords)
    count: int = 0

    def edit(self, prompt: str, target: str = "x", subject: str | None = None, **changes: object) -> Edit:
        self.count += 1
        values: dict[str, object] = {
            "id": f"edit{self.count:04d}",
            "namespace": "default",
            "prompt": prompt,
            "target": target,
            "subject": subject,
            "paraphrases": (),
            "ground_truth": None,
            "kind": EditKind.FACT,
            "metadata": {},
            "source": None,
            "created_at": START + timedelta(minutes=self.count),
            "expired_at": None,
            "valid_at": None,
            "invalid_at": None,
            "version": 1,
            "state": EditState.ACTIVE,
            "content_hash": hashlib.sha256(f"{prompt}|{target}|{subject}".encode("utf-8", "surrogatepass")).hexdigest(),
        }
        return Edit(**(values | changes))  # type: ignore[arg-type]

    def ask(self, text: str, edits: Sequence[Edit]) -> tuple[Encoding, list[Candidate]]:
        query = self.encoder.encode_tokens([text])[0]
        found = []
        for edit in edits:
            texts = [edit.prompt, *edit.paraphrases]
            similarity = float(np.max(self.encoder.encode(texts) @ query.vector))
            place = text.casefold().find((edit.subject or "\0").casefold())
            span = (place, place + len(edit.subject or "")) if place >= 0 else None
            found.append(Candidate(edit, similarity, span))
        return query, found
