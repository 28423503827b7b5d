"""Writing a model and its tokenizer as one GGUF file, which llama.cpp, its servers and transformers read.

Only architectures whose tensors this module knows how to lay out, and tokenizers of byte-level BPE. Matrices are
written in float32 or float16, vectors in float32, as llama.cpp has them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memedit.errors import MissingExtraError, UnsupportedModelError
from memedit.whole_files import write_whole

ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' model types that can be written, and GGUF's names of their architectures."""
_PRE = {"digits": "smollm", "qwen2": "qwen2", "qwen3": "qwen2", "": "gpt-2"}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""GGUF's kinds of tokens."""


def write_gguf(model: Any, tokenizer: Any, path: Path, *, half: bool = False, name: str = "") -> None:
    """Write ``model`` and ``tokenizer`` into the file ``path``, whole or not at all.

    Args:
        model: a causal LM of transformers, of one of :data:`ARCHITECTURES`.
        tokenizer: its fast tokenizer.
        path: the file.
        half: write matrices in float16, not float32.
        name: what the file says that it holds.

    Raises:
        MissingExtraError: the ``gguf`` package is not installed.
        UnsupportedModelError: the model's architecture or its tokenizer cannot be written; says which can.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("gguf", "demo") from error
    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"models of type {config.model_type!r} cannot be written as GGUF here ({', '.join(ARCHITECTURES)} can); "
            "export safetensors, and convert them with llama.cpp's own script"
        )
    words = _Tokenizer(tokenizer)

    def fill(partial: Path) -> None:
        writer = gguf.GGUFWriter(partial, ARCHITECTURES[config.model_type])
        _add_config(writer, config, name or config.model_type)
        words.add_to(writer, config)
        for key, tensor in _tensors(model, gguf):
            writer.add_tensor(key, _array(tensor, half=half))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_whole(path, fill)


def _add_config(writer: Any, config: Any, name: str) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise UnsupportedModelError(f"rotary embeddings of type {rope['rope_type']!r} cannot be written as GGUF here")
    writer.add_rope_freq_base(float(rope.get("rope_theta", getattr(config, "rope_theta", 10000.0))))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _tensors(model: Any, gguf: Any) -> Any:
    """Yield the file's tensors by name, in the model's order."""
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    for own, tensor in model.state_dict().items():
        if config.tie_word_embeddings and own == "lm_head.weight":
            continue
        key = names.get_name(own, try_suffixes=(".weight", ".bias"))
        if key is None:
            raise UnsupportedModelError(f"GGUF has no name for {own!r} of a {config.model_type} model")
        heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
        turned = next((count for part, count in heads.items() if architecture == "llama" and part in key), None)
        yield key, tensor if turned is None else _interleaved(tensor, turned)


def _interleaved(tensor: Tensor, heads: int) -> Tensor:
    """Interleave the rows of each head's two rotary halves, which is where GGUF has them for this architecture."""
    rest = tensor.shape[1:]
    return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *rest).transpose(1, 2).reshape(tensor.shape)


def _array(tensor: Tensor, *, half: bool) -> np.ndarray:
    single = tensor.detach().cpu().to(torch.float16 if half and tensor.dim() > 1 else torch.float32)
    return np.ascontiguousarray(single.numpy())


class _Tokenizer:
    """A byte-level BPE tokenizer in GGUF's terms."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        described = {} if backend is None else json.loads(backend.to_str())
        core = described.get("model", {})
        parts = _parts(described.get("pre_tokenizer"))
        if core.get("type") != "BPE" or not any(part["type"] == "ByteLevel" for part in parts) or not core["merges"]:
            raise UnsupportedModelError(
                "only tokenizers of byte-level BPE can be written as GGUF here; export safetensors, and convert them "
                "with llama.cpp's own script"
            )
        self._tokenizer, self._core = tokenizer, core
        self._added = described.get("added_tokens", [])
        self._digits = any(part["type"] == "Digits" for part in parts)

    def add_to(self, writer: Any, config: Any) -> None:
        """Write it."""
        size = config.vocab_size
        tokens = [f"[PAD{i}]" for i in range(size)]
        kinds = [_UNUSED] * size
        for text, number in self._core["vocab"].items():
            tokens[number], kinds[number] = text, _NORMAL
        for token in self._added:
            tokens[token["id"]] = token["content"]
            kinds[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_PRE["digits" if self._digits else config.model_type if self._has_own(config) else ""])
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in self._core["merges"]])
        for role in ("bos", "eos", "pad", "unk"):
            number = getattr(self._tokenizer, f"{role}_token_id", None)
            if number is not None:
                getattr(writer, f"add_{role}_token_id")(number)
        begins = self._tokenizer.bos_token_id is not None and self._tokenizer("a").input_ids[:1] == [
            self._tokenizer.bos_token_id
        ]
        writer.add_add_bos_token(begins)
        template = getattr(self._tokenizer, "chat_template", None)
        if isinstance(template, str):
            writer.add_chat_template(template)

    def _has_own(self, config: Any) -> bool:
        return config.model_type in _PRE


def _parts(pre: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if pre is None:
        return []
    return list(pre["pretokenizers"]) if pre["type"] == "Sequence" else [pre]
