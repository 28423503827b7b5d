"""The judge's network: the sentence encoder's transformer, trained on, with two heads.

As a *relation encoder* it maps a text with its subject masked to a unit vector; two texts ask the same where the scaled
product of their vectors is high (sigmoid loss over all pairs; Zhai et al. 2023, arXiv 2303.15343). As a *cross-encoder*
(Nogueira & Cho 2019, arXiv 1901.04085) it reads a query beside an edit. Both heads share every layer.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from memedit.encoders.sentence import readable

MASK = "[MASK]"
"""What stands for the subject in the texts given to the network."""
TEXT_TOKENS = 64
PAIR_TOKENS = 160

Tokens = tuple[Tensor, Tensor, Tensor]
"""Token ids, attention mask and segment of each token, each ``[n, t]``."""


class JudgeNetwork(nn.Module):
    """Relation encoder and cross-encoder over one transformer of width ``d``."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        width = int(transformer.config.hidden_size)
        self.transformer = transformer
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.shift = nn.Parameter(torch.tensor(-6.0))
        self.head = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, 2))

    def vectors(self, tokens: Tokens) -> Tensor:
        """Return unit vectors ``[n, d]`` of texts."""
        _, mask, _ = tokens
        return nn.functional.normalize(_mean(self._hidden(tokens), mask), dim=-1)

    def similarity_logits(self, products: Tensor) -> Tensor:
        """Return logits for products of vectors, of any shape."""
        return self.scale.exp() * products + self.shift

    def pair_logits(self, tokens: Tokens) -> Tensor:
        """Return two logits a pair ``[n, 2]``: the edit answers the query; its target, as it is, is the answer."""
        _, mask, segment = tokens
        hidden = self._hidden(tokens)
        query, edit = _mean(hidden, mask * (1 - segment)), _mean(hidden, mask * segment)
        logits: Tensor = self.head(torch.cat([query, edit, query * edit, (query - edit).abs()], -1))
        return logits

    def _hidden(self, tokens: Tokens) -> Tensor:
        ids, mask, segment = tokens
        hidden: Tensor = self.transformer(input_ids=ids, attention_mask=mask, token_type_ids=segment).last_hidden_state
        return hidden.float()


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class JudgeTokenizer:
    """Tokenises texts and pairs for the network. Safe to use from several threads.

    Args:
        tokenizer: a fast tokenizer of the Hugging Face kind.
        positions: the most tokens that the transformer reads.
    """

    def __init__(self, tokenizer: Any, positions: int = 512) -> None:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        self._backend, self._mask, self._pad = backend, str(tokenizer.mask_token), int(tokenizer.pad_token_id or 0)
        self._text, self._pair = min(TEXT_TOKENS, positions), min(PAIR_TOKENS, positions)
        self._cls, self._sep = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)

    def texts(self, texts: Sequence[str]) -> Tokens:
        """Return padded tokens of texts; each is cut to its first and last tokens where it is too long."""
        ids = [[self._cls, *_ends(piece, self._text - 2), self._sep] for piece in self._pieces(texts)]
        return self._padded(ids, [len(row) for row in ids])

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> Tokens:
        """Return padded tokens of pairs of a query and an edit; a long query keeps its end, a long edit its ends."""
        queries = self._pieces([query for query, _ in pairs])
        edits = self._pieces([edit for _, edit in pairs])
        rows, starts = [], []
        for query, edit in zip(queries, edits, strict=True):
            stored = _ends(edit, min(self._text, self._pair // 2) - 2)
            asked = query[-(self._pair - 3 - len(stored)) :]
            rows.append([self._cls, *asked, self._sep, *stored, self._sep])
            starts.append(len(asked) + 2)
        return self._padded(rows, starts)

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        shown = [readable(text).replace(MASK, self._mask) for text in texts]
        return [piece.ids for piece in self._backend.encode_batch(shown, add_special_tokens=False)]

    def _padded(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Tokens:
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)
        mask, segment = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
            segment[i, start : len(row)] = 1
        return ids, mask, segment


def _ends(ids: Sequence[int], limit: int) -> list[int]:
    """Cut the middle out of what is too long."""
    if len(ids) <= limit:
        return list(ids)
    return [*ids[: limit // 4], *ids[len(ids) - (limit - limit // 4) :]]
