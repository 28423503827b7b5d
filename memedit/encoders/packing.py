"""Transformer layers for one short text on a CPU: weights packed once, eight operations a layer.

Ordinary linear layers hand the matrix library a plain weight, which it rearranges at every call, and a layer of the
library makes some forty calls of Python; for one query of a dozen tokens both cost more than the work itself. Weights
that were stored in eight bits stay so: what such a query waits for is the memory that weights are read from.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """``x W^T + b`` in float32 with ``W`` in oneDNN's own layout; the same up to float rounding.

    ``gelu``: the exact GELU of it. Rows are filled up to one of a few numbers: for each number of rows that it meets
    oneDNN compiles a program of half a MB, and keeps it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self._bias = None if bias is None else bias.detach()
        self._after: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., d_out]`` for ``x [..., d_in]``."""
        flat = x.reshape(-1, x.shape[-1])
        rows = flat.shape[0]
        filled = nn.functional.pad(flat, (0, 0, 0, filled_up(rows) - rows))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(filled, self._weight, self._bias, *self._after)
        return out[:rows].view(*x.shape[:-1], -1)


def filled_up(rows: int) -> int:
    """Return the number of rows that so many are filled up to: at most an eighth more, from 64 on, and few of them."""
    step = 8 if rows <= 64 else 1 << (rows - 1).bit_length() - 4
    return -(-rows // step) * step


_STEPS, _ROUGHER_STEPS = 127, 63
_ROUNDING = 1 / _ROUGHER_STEPS, _ROUGHER_STEPS + 1
"""Size of the steps that -1 to 1 is rounded to, and which of them is zero."""
_CLOSE = 0.2
"""Share of the length of what comes out by which a layer of eight-bit weights may be off on made-up input, at most."""


class EightBitLinear(nn.Module):
    """``x W^T + b`` where the rows of ``W`` are whole numbers of -127..127 times a scale, kept as such.

    Rows of ``x`` are rounded to seven bits of their own largest entry (per-token quantisation; Yao et al. 2022, arXiv
    2206.01861): of eight, sums of two products overflow where a processor adds these in 16 bits. A row comes out the
    same whatever its company. Takes a quarter of :class:`PackedLinear`'s memory and, of a dozen tokens, a third of its
    time.

    Raises:
        ValueError: the weight is no such matrix.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, gelu: bool = False) -> None:
        super().__init__()
        scales = weight.detach().abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _STEPS
        whole = (weight.detach() / scales[:, None]).round()
        if not torch.allclose(whole * scales[:, None], weight, rtol=1e-6, atol=0):
            raise ValueError("the weight was not stored in eight bits")
        self._multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        self._weight, self._bias, self._gelu = _eight_bits(weight.detach(), scales), bias.detach(), gelu

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., d_out]`` for ``x [..., d_in]``."""
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        out = torch.addcmul(self._bias, self._multiply(x / largest, *_ROUNDING, self._weight), largest)
        return nn.functional.gelu(out) if self._gelu else out


def _eight_bits(weight: Tensor, scales: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch means to take these out; see _if_equal
        zeros = torch.zeros(len(scales), dtype=torch.long)
        rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(rounded, None)


def _linear(weight: Tensor, bias: Tensor, *, gelu: bool = False) -> nn.Module:
    """Return the packed form of a layer's linear map: in eight bits where nothing of the weight is lost."""
    try:
        return EightBitLinear(weight, bias, gelu=gelu)
    except (ValueError, RuntimeError, AttributeError):  # another weight, or a torch without these operators
        pass
    return PackedLinear(weight, bias, gelu=gelu)


class PackedLayer(nn.Module):
    """A layer of BERT (Devlin et al. 2019, arXiv 1810.04805) for inference: post-norm, exact GELU."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, out = layer.attention.self, layer.attention.output
        parts = (attention.query, attention.key, attention.value)
        self._heads = int(attention.num_attention_heads)
        self._in = _linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        self._out, self._out_norm = _linear(out.dense.weight, out.dense.bias), out.LayerNorm
        self._up = _linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True)
        self._down = _linear(layer.output.dense.weight, layer.output.dense.bias)
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
            off = made(*inputs) - plain
            in_eight_bits = any(isinstance(part, EightBitLinear) for part in made.modules())
            return made if off.abs().max() < 1e-4 or (in_eight_bits and off.norm() < _CLOSE * plain.norm()) else None
    except (AttributeError, RuntimeError, TypeError, StopIteration):
        return None


def _packed_layer(layer: Any) -> nn.Module:
    return PackedLayer(layer)


def _packed_linear(linear: Any) -> nn.Module:
    return PackedLinear(linear.weight, linear.bias)
