"""A second look at close calls: the sentence encoder's transformer, with low-rank changes, reads both texts at once.

Token vectors made apart know nothing of each other. Where the edit's subject stands in the query and the score is
near the threshold, query and edit go through the transformer together (a cross-encoder; Nogueira & Cho, 2019, arXiv
1901.04085), with the subject masked in both, and what it says moves the logit. Most queries need no such look.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.scope.classifier.head import asks_shortly
from memedit.scope.classifier.views import BoolArray, Span, find_span, masked_from
from memedit.types import FloatArray

MASK = "X"
MAX_TOKENS = 96
RANK, SCALE = 16, 2.0
"""Rank of the low-rank changes, and what their product is multiplied by."""
SHARPNESS = 4.0
"""What the linear read-out is multiplied by, so that it can be small."""
WEIGHT, REACH = 1.0, 4.0
"""What a logit of the cross-encoder counts, and by how much it may move the classifier's."""

Pair = tuple[str, str]
"""A query and the text of an edit, both with the subject masked."""


def masked_pair(query: str, span: Span, text: str, subject: str) -> Pair:
    """Return the query from the sentence of its subject on, and the edit's text, both with the subject masked."""
    own = find_span(text, subject)
    masked = text if own is None else text[: own[0]] + MASK + text[own[1] :]
    return masked_from(query, span, MASK), masked


def is_close(logits: FloatArray, features: FloatArray, undecided: float) -> BoolArray:
    """Say where a second look may change the decision: logits ``[n]`` within :data:`REACH` of the threshold's."""
    return asks_shortly(features) & (np.abs(logits - np.float32(undecided)) < REACH)


def moved(logits: FloatArray, cross: FloatArray) -> FloatArray:
    """Return the classifier's logits ``[n]``, moved by what the cross-encoder says ``[n]``."""
    return logits + np.clip(np.float32(WEIGHT) * cross, -REACH, REACH)


class CrossEncoder:
    """Says of pairs of masked texts whether they ask the same. Safe to use from several threads.

    Args:
        folder: files of the sentence encoder.
        weights: ``out.weight [d]``, ``out.bias [1]``, and for linear layers of its transformer ``NAME.a [r, d_in]`` and
            ``NAME.b [d_out, r]``, whose product is added to the weight.
    """

    def __init__(self, folder: Path, weights: Mapping[str, FloatArray]) -> None:
        self._folder, self._weights = folder, weights
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def logits(self, pairs: Sequence[Pair], *, batch_size: int = 64) -> FloatArray:
        """Return logits ``[n]``; the transformer is loaded at first use.

        Raises:
            InputError: the weights are those of another transformer.
        """
        import torch

        if not pairs:
            return np.zeros(0, np.float32)
        model, tokenizer = self._parts()
        out = []
        with torch.inference_mode():
            for start in range(0, len(pairs), batch_size):
                with self._lock:  # it sets its padding and truncation when called
                    read = tokenised(tokenizer, pairs[start : start + batch_size])
                pooled = pool(model, read)
                out.append(pooled.float().numpy() @ self._weights["out.weight"] + self._weights["out.bias"])
        return np.float32(SHARPNESS) * np.concatenate(out)

    def _parts(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                model, tokenizer = load_transformer(self._folder)
                _merge(model, self._weights)
                self._loaded = model, tokenizer
            return self._loaded


def cross_encoder_of(weights: Mapping[str, FloatArray] | None, encoder: Encoder) -> CrossEncoder | None:
    """Return the cross-encoder with these weights over the files of ``encoder``, None where there are none."""
    folder = getattr(encoder, "folder", None)
    return None if weights is None or folder is None else CrossEncoder(folder, weights)


def load_transformer(folder: Path) -> tuple[Any, Any]:
    """Return a fresh copy of the encoder's transformer, in float32 on the processor, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes a moment; the caller's terminal is not ours
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True).float().eval().requires_grad_(False)
        return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)
    finally:
        if bars:
            logging.enable_progress_bar()


def tokenised(tokenizer: Any, pairs: Sequence[Pair]) -> Any:
    """Return pairs as the transformer reads them, padded; not safe to use from several threads at once."""
    from memedit.encoders.sentence import readable

    first, second = zip(*((readable(query), readable(text)) for query, text in pairs), strict=True)
    return tokenizer(
        [*first], [*second], return_tensors="pt", padding=True, truncation="longest_first", max_length=MAX_TOKENS
    )


def pool(model: Any, read: Any) -> Any:
    """Return the mean of the token vectors of each pair, ``[n, d]``."""
    tokens = model(**read).last_hidden_state
    mask = read["attention_mask"].unsqueeze(-1)
    return (tokens * mask).sum(1) / mask.sum(1)


def _merge(model: Any, weights: Mapping[str, FloatArray]) -> None:
    """Add the changes to the transformer's weights.

    Raises:
        InputError: they are those of another transformer.
    """
    from memedit.encoders.packing import pack_linears

    try:
        _add_changes(model, weights)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the scope classifier's cross-encoder does not fit the encoder's transformer: {error}; restore its files "
            "or train it again (memedit train scope)"
        ) from error
    pack_linears(model)


def _add_changes(model: Any, weights: Mapping[str, FloatArray]) -> None:
    import torch

    for name in sorted(key.removesuffix(".a") for key in weights if key.endswith(".a")):
        change = SCALE * weights[f"{name}.b"].astype(np.float32) @ weights[f"{name}.a"].astype(np.float32)
        model.get_submodule(name).weight.add_(torch.from_numpy(change))
    if weights["out.weight"].shape != (model.config.hidden_size,) or weights["out.bias"].shape != (1,):
        raise ValueError(f"its read-out is {weights['out.weight'].shape} and {weights['out.bias'].shape}")
