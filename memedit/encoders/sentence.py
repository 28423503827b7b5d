"""A sentence-transformers model as an :class:`~memedit.encoders.base.Encoder`."""

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from memedit.encoders.base import Progress
from memedit.encoders.fingerprint import check_weights, encoder_fingerprint
from memedit.encoders.mean_model import load_mean_model
from memedit.encoders.packing import pack_layers
from memedit.errors import InputError, ModelError, UnsupportedModelError
from memedit.types import Encoding, FloatArray

# A token covers a handful of characters; cutting a text at this many characters a token bounds the tokenizer's work on
# megabyte inputs and never touches the tokens that survive truncation of real text.
_CHARS_PER_TOKEN = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


class SentenceEncoder:
    """Text to unit float32 vectors with a sentence-transformers model (transformer, pooling, normalisation).

    Vectors equal those of ``SentenceTransformer.encode`` (to float rounding, 1e-5), whose modules run where the model
    is no BERT with a mean over its tokens; tokenising and batching are ours: one immutable Rust tokenizer shared by all
    threads, batches sorted by length, no per-call set-up. Texts longer than ``max_tokens`` are truncated; see
    :func:`~memedit.encoders.windows.split_long` for looking up every part of one. Lone surrogates are read as U+FFFD.

    Args:
        folder: the model's files, as found by :func:`~memedit.encoders.loading.find_encoder`.
        name: the name it was asked for by.
        device: torch device.
        max_tokens: token limit, special tokens included; default: the model's own (MiniLM: 256).

    Raises:
        UnsupportedModelError: no safetensors, no fast tokenizer, or modules that give no token vectors.
        ModelError: the files are damaged.
        InputError: ``max_tokens`` or ``device`` cannot be used.
    """

    def __init__(
        self, folder: str | Path, *, name: str | None = None, device: str = "cpu", max_tokens: int | None = None
    ) -> None:
        self._folder = Path(folder)
        self._name = name or self._folder.name
        check_weights(self._folder)
        self._device = _device(device)
        self._model = _load_modules(self._folder, self._device)
        own_limit = int(self._model.max_seq_length or 512)
        if max_tokens is not None and not 8 <= max_tokens <= own_limit:
            raise InputError(f"max_tokens={max_tokens} is outside 8..{own_limit}, the limit of encoder {self._name!r}")
        self._override = max_tokens
        self._max_tokens = max_tokens or own_limit
        self._tokenizer = _frozen_tokenizer(self._model.tokenizer, self._max_tokens, self._name)
        self._inputs = set(self._model.tokenizer.model_input_names)
        self._pad_id = int(self._model.tokenizer.pad_token_id or 0)
        self._pad_left = self._model.tokenizer.padding_side == "left"
        self._prompt = _default_prompt(self._model)
        self._prompt_length = _length_before_text(self._tokenizer, self._prompt)
        self._dimension = int(self._model.get_embedding_dimension())
        self._fingerprint: str | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name it was loaded by."""
        return self._name

    @property
    def folder(self) -> Path:
        """Folder of the model's files."""
        return self._folder

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        return self._dimension

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read, special tokens included; the rest is cut off."""
        return self._max_tokens

    @property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, pooling and token limit; the files are read once, at first use."""
        with self._lock:
            if self._fingerprint is None:
                self._fingerprint = encoder_fingerprint(self._folder, max_tokens=self._override)
            return self._fingerprint

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None) -> FloatArray:
        """Return float32 ``[n, d]`` with unit rows, in input order (``[0, d]`` for no texts).

        Raises:
            InputError: ``texts`` is a single string or holds something else than strings; ``batch_size`` < 1.
        """
        out = np.zeros((len(texts), self._dimension), dtype=np.float32)
        done = 0
        for rows, _, features in self._batches(texts, batch_size):
            out[rows] = _unit(features["sentence_embedding"])
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
        return out

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        """Return sentence vector, token vectors and their character spans of each text, from one forward pass.

        Raises:
            InputError: as for :meth:`encode`.
        """
        out: dict[int, Encoding] = {}
        for rows, pieces, features in self._batches(texts, batch_size):
            vectors = _unit(features["sentence_embedding"])
            tokens = features["token_embeddings"].float().cpu().numpy()
            for i, row in enumerate(rows):
                out[row] = self._encoding(texts[row], vectors[i], tokens[i], pieces[i])
        return [out[i] for i in range(len(texts))]

    def _encoding(self, text: str, vector: FloatArray, tokens: FloatArray, piece: Any) -> Encoding:
        shift = len(self._prompt)
        start = tokens.shape[0] - len(piece.ids) if self._pad_left else 0
        spans: dict[int, tuple[int, int]] = {}
        for i, (special, (begin, end)) in enumerate(zip(piece.special_tokens_mask, piece.offsets, strict=True)):
            span = _trimmed(text, max(begin - shift, 0), end - shift)
            if not special and span[1] > span[0]:
                spans[i] = span
        kept = [start + i for i in spans]
        return Encoding(text=text, vector=vector.copy(), tokens=tokens[kept], spans=tuple(spans.values()))

    def _batches(self, texts: Sequence[str], batch_size: int) -> Iterator[tuple[list[int], list[Any], dict[str, Any]]]:
        """Yield (row numbers, tokenised rows, model output) for batches of similar length, longest first."""
        _check_texts(texts, batch_size)
        cut = self._max_tokens * _CHARS_PER_TOKEN
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            pieces = self._tokenizer.encode_batch([self._prompt + readable(texts[i][:cut]) for i in rows])
            with torch.inference_mode():
                features = self._model(self._features(pieces))
            yield rows, pieces, features

    def _features(self, pieces: list[Any]) -> dict[str, Any]:
        """Pad token ids ``[b, t]`` on the tokenizer's own side; this is what sentence-transformers' modules take."""
        width = max(len(piece.ids) for piece in pieces)
        ids = np.full((len(pieces), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(pieces), width), dtype=np.int64)
        for i, piece in enumerate(pieces):
            at = slice(width - len(piece.ids), width) if self._pad_left else slice(0, len(piece.ids))
            ids[i, at], mask[i, at] = piece.ids, 1
        features: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if "token_type_ids" in self._inputs:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        features = {key: value.to(self._device) for key, value in features.items()}
        if self._prompt_length:
            features["prompt_length"] = self._prompt_length
        return features


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is not a torch device; use 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} asked for, but torch finds no CUDA device; use 'cpu'")
    return device


def _load_modules(folder: Path, device: torch.device) -> Any:
    try:
        model = load_mean_model(folder) or _foreign_modules(folder)
    except Exception as error:  # damaged files surface as many kinds of error
        raise ModelError(f"encoder folder {folder} cannot be loaded: {type(error).__name__}: {error}") from error
    model.to(device).float().eval().requires_grad_(False)
    if device.type == "cpu":
        pack_layers(model)
    return model


def _foreign_modules(folder: Path) -> Any:
    """Return sentence-transformers' model; importing that takes seconds."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as hf_logging

    bars = hf_logging.is_progress_bar_enabled()
    remarks = logging.getLogger("sentence_transformers.base.model")  # on the default prompt, which is wanted here
    level = remarks.level
    try:
        remarks.setLevel(logging.ERROR)
        hf_logging.disable_progress_bar()  # loading takes under a second; the caller's terminal is not ours
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    finally:
        remarks.setLevel(level)
        if bars:
            hf_logging.enable_progress_bar()


def _frozen_tokenizer(tokenizer: Any, max_tokens: int, name: str) -> Tokenizer:
    """Copy the Rust tokenizer with truncation set once: setting it per call is not safe across threads."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UnsupportedModelError(
            f"encoder {name!r} has no fast tokenizer with character offsets ({type(tokenizer).__name__}); "
            "choose a sentence-transformers model that ships tokenizer.json"
        )
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_padding()
    copy.enable_truncation(max_length=max_tokens)
    return copy


def _default_prompt(model: Any) -> str:
    """Text that the model wants in front of every input, as sentence-transformers would put it there."""
    prompts = getattr(model, "prompts", None) or {}
    return str(prompts.get(getattr(model, "default_prompt_name", None), "") or "")


def _length_before_text(tokenizer: Tokenizer, prompt: str) -> int:
    """Count the tokens of the prompt, leading special tokens included: some models leave them out of the pooling."""
    if not prompt:
        return 0
    piece = tokenizer.encode(prompt)
    return len(piece.ids) - piece.special_tokens_mask[-1]


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """Leave out the white space at both ends of a span: SentencePiece counts the space before a word into its token."""
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    return begin, end


def _check_texts(texts: Sequence[str], batch_size: int) -> None:
    if isinstance(texts, str):
        raise InputError("texts is a single string; pass a list of strings")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} is below 1")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is {type(text).__name__} ({text!r:.80}), not a string")


def readable(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8 form; character offsets stay the same."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _unit(vectors: torch.Tensor) -> FloatArray:
    """Scale rows ``[n, d]`` to length one; a zero row (never seen from a real model) stays zero."""
    rows = vectors.float().cpu().numpy()
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.maximum(norms, np.float32(1e-12))
    return unit
