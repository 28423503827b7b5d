"""From an encoder's token vectors to the classifier's views, and to bytes that the memory keeps."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedit.scope.classifier.views import EditView, IntArray, TextView, edit_view, text_view
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.types import Edit, Encoding, FloatArray

MAX_TEXTS = 8
"""Texts of an edit that are looked at: its prompt and the first paraphrases."""
_MAGIC = b"MSC1"


def edit_texts(edit: Edit) -> tuple[str, ...]:
    """Return the texts of an edit that a query is compared with."""
    return tuple(dict.fromkeys((edit.prompt, *edit.paraphrases)))[:MAX_TEXTS]


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Projected token vectors of an edit's texts: ``tokens [sum(counts), p]`` float16, ``spans`` their offsets."""

    content_hash: str
    counts: tuple[int, ...]
    spans: IntArray
    tokens: NDArray[np.float16]


class Projection:
    """Makes views: token vectors are projected to their principal directions, words weighed by their rarity."""

    def __init__(self, directions: FloatArray, rarity: WordRarity) -> None:
        self._directions = directions
        self.rarity = rarity

    def view(self, encoding: Encoding) -> TextView:
        """Look at an encoded text."""
        tokens = encoding.tokens.astype(np.float32) @ self._directions
        spans = np.array(encoding.spans, np.int64).reshape(-1, 2)
        return text_view(encoding.text, tokens, spans, self.rarity)

    def pack(self, edit: Edit, encodings: Sequence[Encoding]) -> bytes:
        """Return the projected token vectors (float16) and offsets of an edit's texts as bytes."""
        header = json.dumps({"hash": edit.content_hash, "tokens": [len(e.spans) for e in encodings]}).encode()
        spans = np.concatenate([np.array(e.spans, "<i4").reshape(-1, 2) for e in encodings])
        tokens = np.concatenate([e.tokens.astype(np.float32) @ self._directions for e in encodings]).astype("<f2")
        return b"".join([_MAGIC, struct.pack("<I", len(header)), header, spans.tobytes(), tokens.tobytes()])

    def unpack(self, blob: bytes) -> PackedTokens | None:
        """Read what :meth:`pack` wrote; None when it is damaged or of another width, so that it is made anew."""
        try:
            size = struct.unpack_from("<I", blob, 4)[0]
            header = json.loads(blob[8 : 8 + size])
            counts = [int(count) for count in header["tokens"]]
            total, width = sum(counts), self._directions.shape[1]
            spans = np.frombuffer(blob, "<i4", total * 2, 8 + size).reshape(total, 2)
            tokens = np.frombuffer(blob, "<f2", total * width, 8 + size + spans.nbytes).reshape(total, width)
        except (ValueError, KeyError, TypeError, struct.error):
            return None
        if blob[:4] != _MAGIC or len(blob) != 8 + size + spans.nbytes + tokens.nbytes:
            return None
        return PackedTokens(str(header["hash"]), tuple(counts), spans.astype(np.int64), tokens)

    def edit_views(self, edit: Edit, packed: PackedTokens) -> tuple[EditView, ...]:
        """Make the views of an edit's texts from its packed tokens."""
        ends = np.cumsum(packed.counts)
        views = []
        for text, count, end in zip(edit_texts(edit), packed.counts, ends, strict=True):
            part = slice(end - count, end)
            view = text_view(
                text, packed.tokens[part].astype(np.float32), packed.spans[part], self.rarity, letters=False
            )
            views.append(edit_view(edit, view, self.rarity))
        return tuple(views)
