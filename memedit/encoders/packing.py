"""Transformer layers for one short text on a CPU: weights packed once for oneDNN, eight operations a layer.

Ordinary linear layers hand the matrix library a plain weight, which it rearranges at every call, and a layer of the
library makes some forty calls of Python; for one query of a dozen tokens both cost more than the work itself.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """``x W^T + b`` in float32 with ``W`` in oneDNN's own layout; the same up to float rounding.

    ``gelu``: the exact GELU of it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self._bias = None if bias is None else bias.detach()
        self._after: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., d_out]`` for ``x [..., d_in]``."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._after)
        return out


class PackedLayer(nn.Module):
    """A layer of BERT (Devlin et al. 2019, arXiv 1810.04805) for inference: post-norm, exact GELU."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, out = layer.attention.self, layer.attention.output
        parts = (attention.query, attention.key, attention.value)
        self._heads = int(attention.num_attention_heads)
        self._in = PackedLinear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        self._out, self._out_norm = PackedLinear(out.dense.weight, out.dense.bias), out.LayerNorm
        self._up = PackedLinear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True)
        self._down = PackedLinear(layer.output.dense.weight, layer.output.dense.bias)
        self._down_norm = layer.output.LayerNorm

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Return ``[n, t, d]`` for ``hidden [n, t, d]``; the mask is added to the scores, or says what is seen."""
        n, t, d = hidden.shape
        query, key, value = self._in(hidden).view(n, t, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        hidden = self._out_norm(self._out(mixed.transpose(1, 2).reshape(n, t, d)) + hidden)
        packed: Tensor = self._down_norm(self._down(self._up(hidden)) + hidden)
        return packed


def pack_layers(model: Any) -> int:
    """Replace the BERT layers inside ``model`` by packed ones, and then other linear layers; return how many were.

    Those stay that a packed one does not equal on this processor and in this torch.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    return _replaced(model, "BertLayer", _packed_layer) + _replaced(model, "Linear", _packed_linear)


def _replaced(model: Any, kind: str, make: Callable[[Any], nn.Module]) -> int:
    replaced = 0
    for parent in [module for module in model.modules() if not isinstance(module, PackedLayer)]:
        for name, child in list(parent.named_children()):
            if type(child).__name__ == kind and next(child.parameters()).dtype == torch.float32:
                made = _if_equal(child, make)
                if made is not None:
                    setattr(parent, name, made)
                    replaced += 1
    return replaced


def _if_equal(module: Any, make: Callable[[Any], nn.Module]) -> nn.Module | None:
    """Return the packed form of a module, None where it does not do the same: torch does not promise its operators."""
    try:
        made = make(module)
        width = next(module.parameters()).shape[-1]
        sample = torch.linspace(-1, 1, 6 * width).reshape(2, 3, width)
        mask = torch.zeros(2, 1, 1, 3)
        mask[1, ..., 2] = torch.finfo(torch.float32).min
        inputs = (sample, mask) if isinstance(made, PackedLayer) else (sample,)
        with torch.inference_mode():
            plain = module(*inputs)
            plain = plain[0] if isinstance(plain, tuple) else plain
            return made if torch.allclose(made(*inputs), plain, atol=1e-4) else None
    except (AttributeError, RuntimeError, TypeError, StopIteration):
        return None


def _packed_layer(layer: Any) -> nn.Module:
    return PackedLayer(layer)


def _packed_linear(linear: Any) -> nn.Module:
    return PackedLinear(linear.weight, linear.bias)
