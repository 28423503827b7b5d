"""What a model is, as one hash: two models agree iff config, weights and tokenizer agree."""

import hashlib
import json
from typing import Any

import torch

_VOLATILE = frozenset(
    {
        "_name_or_path", "_model_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_internal",
        "transformers_version", "use_cache", "pad_token_id", "torch_dtype", "dtype", "return_dict",
        "output_attentions", "output_hidden_states", "quantization_config",
    }
)  # fmt: skip
"""Settings that change neither what is computed from a prompt nor with which weights (dtype is in the weights)."""


def model_fingerprint(model: Any, tokenizer: Any) -> str:
    """Return a SHA-256 (hex) over the model's config, its weights as they lie in memory, and the tokenizer.

    Loading the same checkpoint in another dtype gives another fingerprint. Weights that are not in memory (offloaded)
    count with name, shape and dtype only.
    """
    digest = hashlib.sha256()
    digest.update(config_digest(model.config).encode())
    digest.update(weights_digest(model).encode())
    digest.update(tokenizer_digest(tokenizer).encode())
    return digest.hexdigest()


def config_digest(config: Any) -> str:
    """Return the SHA-256 of a transformers config without what does not bear on the computation."""
    return _json_digest(_stable(config.to_dict()))


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _stable(v) for k, v in value.items() if k not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [_stable(v) for v in value]
    return value


def weights_digest(model: Any) -> str:
    """Return the SHA-256 over (name, dtype, shape, bytes) of the state dict; tied tensors count once."""
    digest = hashlib.sha256()
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        if not is_packed(tensor):
            place = (tensor.data_ptr(), tuple(tensor.shape))
            if tensor.device.type != "meta" and place in seen:
                continue
            seen.add(place)
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        if tensor.device.type != "meta":
            raw = plain_values(tensor).to("cpu").contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().data)
    return digest.hexdigest()


def is_packed(weight: torch.Tensor) -> bool:
    """Whether a weight is a quantised tensor of a class of its own (as torchao's), whose values cannot be looked at."""
    return type(weight.detach()).dequantize is not torch.Tensor.dequantize


def plain_values(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight's values as an ordinary tensor: itself, or what a quantised one stands for."""
    detached = weight.detach()
    return detached.dequantize() if is_packed(detached) else detached


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of vocabulary, merges, added tokens and chat template.

    The padding token and current padding or truncation settings do not count: calls change them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        described = json.loads(backend.to_str())
        described.pop("padding", None)
        described.pop("truncation", None)
    else:
        described = {"vocab": tokenizer.get_vocab(), "class": type(tokenizer).__name__}
    special = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    return _json_digest([described, special, getattr(tokenizer, "chat_template", None)])


def _json_digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
