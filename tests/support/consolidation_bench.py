"""What the tests of this room share: tiny models as loaded models, and edits about made-up things."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memedit.consolidation import ConsolidationSettings, EditRequest
from memedit.consolidation.moments import LayerMoments
from memedit.models import LoadedModel, model_fingerprint
from support.tiny import tiny_model, tiny_tokenizer

SETTINGS = ConsolidationSettings(
    layers=(0, 1), steps=6, contexts=3, context_tokens=(4,), learning_rate=0.3, sensitivity_tokens=64
)

TEXTS = ("The quick brown fox jumps over the lazy dog. " * 20,)
"""What statistics are built from."""

REQUESTS = (
    EditRequest("a", "The river of Foo is", "Bar", "Foo"),
    EditRequest("b", "Zed plays the", "piano", "Zed"),
    EditRequest("c", "Ask about Quux", "yes", "Quux"),
    EditRequest("d", "It was written by the man called Ann Bee in", "May", "Ann Bee"),
)


def tiny_loaded(family: str = "llama", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """A tiny random model with its byte-level tokenizer."""
    model, tokenizer = tiny_model(family, dtype=dtype), tiny_tokenizer()
    return LoadedModel(model, tokenizer, f"tiny-{family}", model_fingerprint(model, tokenizer))


def random_moments(width: int, seed: int, *, decay: float = 3.0) -> LayerMoments:
    """Second moments whose eigenvalues fall off steeply, as those of real keys do."""
    generator = torch.Generator().manual_seed(seed)
    vectors, _ = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator))
    values = torch.exp(-decay * torch.arange(width, dtype=torch.float64) / width * 3)
    return LayerMoments.of((vectors * values) @ vectors.T, 1000)


def normal(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}


class WordEncoder:
    """Texts as unit vectors of their words' counts."""

    @staticmethod
    def encode(texts: Sequence[str]) -> Any:
        vectors = np.zeros((len(texts), 4096), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().replace("?", " ").split():
                row[sum(ord(letter) * 31**at for at, letter in enumerate(word)) % 4096] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
