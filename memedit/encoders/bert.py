"""BERT for inference (Devlin et al. 2019, arXiv 1810.04805), read from the files of a Hugging Face ``BertModel``.

The libraries that hold every model take longer to import than all else that a look-up needs at the start.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_FIXED = {
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
    "add_cross_attention": False,
}  # fmt: skip
"""What a configuration must say of its model, or leave out."""


Stored = Mapping[str, Tensor]


class Bert(nn.Module):
    """Token ids to states. Its parts are named as those of ``BertModel``, which has a pooler besides.

    Args:
        stored: parameters by name.
        config: ``num_hidden_layers``, ``num_attention_heads``, ``layer_norm_eps`` and further figures of the model.

    Raises:
        KeyError: a parameter is absent.
    """

    def __init__(self, stored: Stored, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(stored, config.layer_norm_eps)
        names = (f"encoder.layer.{n}." for n in range(config.num_hidden_layers))
        self.encoder = _parts(layer=nn.ModuleList(BertLayer(stored, name, config) for name in names))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return states ``[n, t, d]`` of ids ``[n, t]``; the mask ``[n, t]`` is 0 where there is no token."""
        hidden: Tensor = self.embeddings(input_ids, token_type_ids)
        absent = None
        if not bool(attention_mask.all()):
            absent = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        layers: Any = self.encoder.layer
        for layer in layers:
            hidden = layer(hidden, absent)
        return hidden


class Embeddings(nn.Module):
    """The sum of what word, place and text embed to, normalised."""

    def __init__(self, stored: Stored, eps: float) -> None:
        super().__init__()
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            weight = stored[f"embeddings.{name}.weight"].float()
            self.add_module(name, nn.Embedding(len(weight), weight.shape[1], _weight=weight))
        self.LayerNorm = _norm(stored, "embeddings.LayerNorm", eps)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return ``[n, t, d]``."""
        parts: Any = self
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        hidden = parts.word_embeddings(input_ids) + parts.token_type_embeddings(types)
        normed: Tensor = self.LayerNorm(hidden + parts.position_embeddings.weight[: input_ids.shape[1]])
        return normed


class BertLayer(nn.Module):
    """A layer: post-norm, exact GELU."""

    def __init__(self, stored: Stored, at: str, config: SimpleNamespace) -> None:
        super().__init__()

        def dense(name: str) -> nn.Linear:
            return _linear(stored, at + name)

        def closing(name: str) -> nn.Module:
            return _parts(
                dense=dense(f"{name}.dense"), LayerNorm=_norm(stored, f"{at}{name}.LayerNorm", config.layer_norm_eps)
            )

        seen = _parts(**{name: dense(f"attention.self.{name}") for name in ("query", "key", "value")})
        seen.num_attention_heads = config.num_attention_heads
        self.attention = _parts(self=seen, output=closing("attention.output"))
        self.intermediate, self.output = _parts(dense=dense("intermediate.dense")), closing("output")

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return ``[n, t, d]`` for ``hidden [n, t, d]``; the mask is added to the scores."""
        n, t, d = hidden.shape
        own: Any = self.attention.self
        out: Any = self.attention.output
        inner: Any = self.intermediate.dense
        last: Any = self.output
        query, key, value = (
            part(hidden).view(n, t, own.num_attention_heads, -1).transpose(1, 2)
            for part in (own.query, own.key, own.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        hidden = out.LayerNorm(out.dense(mixed.transpose(1, 2).reshape(n, t, d)) + hidden)
        states: Tensor = last.LayerNorm(last.dense(nn.functional.gelu(inner(hidden))) + hidden)
        return states


def load_bert(folder: Path) -> Bert | None:
    """Return the model in a folder, in float32; None where its files are of another kind.

    Raises:
        OSError: a file cannot be read; further errors of JSON and safetensors where it is damaged.
    """
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    if not weights.is_file() or any(described.get(name, value) != value for name, value in _FIXED.items()):
        return None
    try:
        return Bert(load_file(weights), SimpleNamespace(**described))
    except KeyError:  # its parts have other names
        return None


def _linear(stored: Stored, name: str) -> nn.Linear:
    """Return a stored linear map; made small, since drawing its numbers first takes longer than reading them."""
    linear = nn.Linear(1, 1)
    linear.weight = nn.Parameter(stored[f"{name}.weight"].float())
    linear.bias = nn.Parameter(stored[f"{name}.bias"].float())
    linear.out_features, linear.in_features = linear.weight.shape
    return linear


def _norm(stored: Stored, name: str, eps: float) -> nn.LayerNorm:
    weight, bias = stored[f"{name}.weight"].float(), stored[f"{name}.bias"].float()
    norm = nn.LayerNorm(len(weight), eps=eps)
    norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(bias)
    return norm


def _parts(**parts: nn.Module) -> nn.Module:
    whole = nn.Module()
    for name, part in parts.items():
        whole.add_module(name, part)
    return whole
