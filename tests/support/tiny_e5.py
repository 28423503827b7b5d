"""A tiny random model in the layout of the packaged multilingual-e5-small, and its tokenizer."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = [*SPECIALS, "▁", *"abcdefghijklmnopqrstuvwxyz:?日本局", "▁the", "▁city", "ing", "<mask>"]
SIZES = HIDDEN, LAYERS, HEADS, FEED_FORWARD, VOCABULARY, POSITIONS, TYPES = 32, 2, 2, 64, 48, 24, 2


def quantise(values: np.ndarray) -> bytes:
    """Q4_0: 32 values become a float16 scale and 32 nibbles, low ones first."""
    blocks = values.astype(np.float32).reshape(-1, 32)
    extreme = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(1)]
    scales = (extreme / -8).astype("<f2")
    divisor = np.where(scales == 0, 1, scales.astype(np.float32))[:, None]
    nibbles = np.clip(np.floor(blocks / divisor + 8.5), 0, 15).astype(np.uint8)
    packed = nibbles[:, :16] | nibbles[:, 16:] << 4
    return np.concatenate([scales.view(np.uint8).reshape(-1, 2), packed], axis=1).tobytes()


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN),
        "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,),
    }  # fmt: skip
    for n in range(LAYERS):
        for part, shape in (("q", (HIDDEN, HIDDEN)), ("k", (HIDDEN, HIDDEN)), ("v", (HIDDEN, HIDDEN)),
                            ("ao", (HIDDEN, HIDDEN)), ("fi", (FEED_FORWARD, HIDDEN)), ("fo", (HIDDEN, FEED_FORWARD)),
                            ("aln", (HIDDEN,)), ("oln", (HIDDEN,))):  # fmt: skip
            shapes[f"l{n}.{part}.w"] = shape
            shapes[f"l{n}.{part}.b"] = shape[:1]
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@dataclass
class TinyE5:
    """What is written; tests change a field and look at what the reader makes of it."""

    magic: bytes = b"E5S1"
    version: int = 1
    sizes: list[int] = field(default_factory=lambda: list(SIZES))
    epsilon: float = 1e-12
    block: int = 32
    specials: list[int] = field(default_factory=lambda: [0, 2, 1, 3])
    pieces: list[str] = field(default_factory=lambda: list(PIECES))
    bounds: list[int] | None = None
    tensors: dict[str, np.ndarray] = field(default_factory=random_tensors)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of a directory entry (name, kind, count, offset, size) that are written wrongly, by tensor."""

    def bytes(self) -> bytes:
        head = self._head()
        start = len(head) + 4 + sum(2 + len(name) + 21 for name in self.tensors)
        directory, data = [struct.pack("<i", len(self.tensors))], b""
        for name, values in self.tensors.items():
            four_bits = name == "emb.word" or (name.endswith(".w") and values.ndim == 2)
            raw = quantise(values) if four_bits else values.tobytes()
            entry = {"name": name, "kind": int(four_bits), "count": values.size,
                     "offset": start + len(data), "size": len(raw), **self.entries.get(name, {})}  # fmt: skip
            stored = entry["name"].encode()
            directory.append(struct.pack("<H", len(stored)) + stored)
            directory.append(struct.pack("<BIQQ", *(entry[key] for key in ("kind", "count", "offset", "size"))))
            data += raw
        return head + b"".join(directory) + data

    def _head(self) -> bytes:
        pieces = [piece.encode() for piece in self.pieces]
        bounds = np.cumsum([0, *map(len, pieces)]).tolist() if self.bounds is None else self.bounds
        blob, rules = b"".join(pieces), b"\1\0\0\0\2\0\0\0"
        return b"".join([
            self.magic, struct.pack("<I7ifi", self.version, *self.sizes, self.epsilon, self.block),
            struct.pack("<5iQ", len(pieces), *self.specials, len(blob)),
            np.array(bounds, "<u4").tobytes(), np.zeros(len(pieces), "<f4").tobytes(), blob,
            struct.pack("<iI", 1, len(rules)), rules,
        ])  # fmt: skip

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes())
        return path


def write_tokenizer(path: Path, pieces: list[str] | None = None) -> Path:
    """A unigram tokenizer that counts the space before a word into its token, as the real one does."""
    used = PIECES if pieces is None else pieces
    special = [{"id": used.index(one), "content": one, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for one in (*SPECIALS, "<mask>") if one in used]  # fmt: skip
    around = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "</s>", "type_id": 0}}]  # fmt: skip
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
        "post_processor": {
            "type": "TemplateProcessing", "single": around, "pair": around,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": False,
                  "vocab": [[piece, -float(8 - len(piece))] for piece in used]},
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
