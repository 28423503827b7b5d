"""Copying a GGUF checkpoint into safetensors files tensor by tensor.

transformers dequantises the whole file before it makes a model of it, so that twice the model lies in memory; here
never more than one file's worth does. Only for architectures whose tensors stand in a GGUF file as transformers has
them: it rearranges or rescales those of others on the way.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from memedit.errors import ModelError
from memedit.models.aliases import Progress

UNCHANGED = frozenset({"qwen2", "qwen3"})
"""Architectures whose tensors GGUF keeps as they are."""

_FILE_BYTES = 256 << 20
_ROWS = 4096
_HEAD, _EMBEDDING = "output.weight", "token_embd.weight"


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor of the file and what it is called in transformers."""

    name: str
    tensor: Any

    @property
    def values(self) -> int:
        return int(self.tensor.n_elements)


def architecture(gguf: Path) -> str | None:
    """Return the architecture that a GGUF file names first, as all do; None when it is no such file."""
    with gguf.open("rb") as source:
        head = source.read(4096)
    key = b"general.architecture"
    start = 24 + 8 + len(key) + 4  # magic, version, two counts; the key's length, the key, its type
    if head[:4] != b"GGUF" or head[32 : 32 + len(key)] != key:
        return None
    size = int.from_bytes(head[start : start + 8], "little")
    return head[start + 8 : start + 8 + size].decode("utf-8", "replace")


def copy_model(gguf: Path, folder: Path, *, dtype: torch.dtype, tied: bool, progress: Progress | None = None) -> None:
    """Write config and weights of a GGUF file into ``folder``; files that stand there already are whole and are kept.

    Args:
        gguf: the file, of an architecture in :data:`UNCHANGED`.
        folder: where to write.
        dtype: of the copy.
        tied: the model as published has one matrix for embedding and head, and the file has it twice: keep the head's,
            which is quantised more finely.
        progress: called with (values copied, values in all).

    Raises:
        ModelError: the file lacks a tensor of the model.
    """
    from gguf import GGUFReader

    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    reader = GGUFReader(gguf)
    config.tie_word_embeddings = bool(config.tie_word_embeddings or tied)
    if (width := reader.fields.get(f"{config.model_type}.attention.key_length")) is not None:
        config.head_dim = int(width.contents())  # transformers takes its default for the file's
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    config.architectures, config.dtype = [type(model).__name__], dtype
    sources = _sources(model, reader, config)
    total, done = sum(source.values for source in sources), 0
    files = _files(sources, _FILE_BYTES // dtype.itemsize)
    places: dict[str, str] = {}
    for number, group in enumerate(files, start=1):
        path = folder / f"model-{number:05d}-of-{len(files):05d}.safetensors"
        if not path.is_file():
            _write(path, {source.name: _dequantised(source, dtype) for source in group})
        places |= {source.name: path.name for source in group}
        done += sum(source.values for source in group)
        if progress is not None:
            progress(done, total)
    index = {"metadata": {"total_size": total * dtype.itemsize}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)


def _sources(model: Any, reader: Any, config: Any) -> list[_Source]:
    """Return the file's tensor for each of the model's, in the model's order."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    there = {tensor.name: tensor for tensor in reader.tensors}
    tied = config.tie_word_embeddings
    found = []
    for name in model.state_dict():
        wanted = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if wanted == _HEAD and tied:
            continue
        if wanted == _EMBEDDING and tied and _HEAD in there:
            wanted = _HEAD
        if wanted not in there:
            raise ModelError(f"the GGUF file has no tensor {wanted!r} for {name!r} of a {config.model_type} model")
        found.append(_Source(name, there[wanted]))
    return found


def _files(sources: Sequence[_Source], most: int) -> list[list[_Source]]:
    """Share tensors out to files of at most so many values, in order; a larger tensor has its own."""
    files: list[list[_Source]] = [[]]
    for source in sources:
        if files[-1] and sum(other.values for other in files[-1]) + source.values > most:
            files.append([])
        files[-1].append(source)
    return files


def _dequantised(source: _Source, dtype: torch.dtype) -> Tensor:
    """Return a tensor's values, dequantised a few rows at a time."""
    shape = tuple(int(size) for size in reversed(source.tensor.shape))
    found = torch.empty(shape, dtype=dtype)
    flat = found.view(-1, shape[-1])
    for start, rows in _rows(source.tensor):
        flat[start : start + len(rows)] = rows
    return found


def _rows(tensor: Any) -> Iterator[tuple[int, Tensor]]:
    from gguf import dequantize

    data = tensor.data.reshape(-1, tensor.data.shape[-1])
    for start in range(0, len(data), _ROWS):
        part = dequantize(data[start : start + _ROWS], tensor.tensor_type)
        yield start, torch.from_numpy(part.astype("float32", copy=True))


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file whole: it has its name once it is on disk."""
    partial = path.with_suffix(".partial")
    save_file(dict(tensors), partial, metadata={"format": "pt"})
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)
