"""Running only the upper layers of a causal LM, on hidden states that the frozen lower ones computed before."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memedit.models.spec import ModelSpec


class UpperLayers:
    """The layers of a causal LM from ``first`` on, as a model of their own.

    What comes before the layers (embedding, masks, rotary positions) and behind them runs as ever, so ids, mask and
    positions are given as for the whole model.
    """

    def __init__(self, model: Any, first: int) -> None:
        self.model, self.first = model, first
        self._spec = ModelSpec.of(model)
        self._layer = self._spec.layer(model, first)
        self._tuples = _returns_tuple(model, self._layer)

    @contextmanager
    def recorded(self) -> Iterator[list[Tensor]]:
        """Record what the first of these layers is fed, one detached ``[B, T, d_model]`` a call."""
        record: list[Tensor] = []

        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            record.append((args[0] if args else kwargs["hidden_states"]).detach())

        handle = self._layer.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield record
        finally:
            handle.remove()

    @contextmanager
    def entered(self, hidden: Tensor) -> Iterator[None]:
        """Let forward passes begin here, on ``hidden [B, T, d_model]``; the layers below compute nothing.

        They leave a key-value cache as it is.
        """
        with ExitStack() as stack:
            for below in range(self.first):
                _skip(stack, self._spec.layer(self.model, below), tuples=self._tuples)
            stack.callback(self._layer.register_forward_pre_hook(_feeding_hook(hidden), with_kwargs=True).remove)
            yield

    def cached(self, cache: Any, columns: int) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values ``[B, heads, columns, d]`` of these layers from a cache, the first columns only."""
        return [
            (layer.keys[:, :, :columns].clone(), layer.values[:, :, :columns].clone())
            for layer in cache.layers[self.first : self._spec.n_layers]
        ]

    def cache(self, layers: Sequence[tuple[Tensor, Tensor]]) -> Any:
        """Return a key-value cache that holds what :meth:`cached` gave.

        The layers below share the first pair. Nothing reads it there, but transformers takes the length of what is
        cached from the lowest layer.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for number in range(self.first):
            cache.update(*layers[0], number)
        for number, (keys, values) in enumerate(layers):
            cache.update(keys, values, self.first + number)
        return cache


def _returns_tuple(model: Any, layer: nn.Module) -> bool:
    """Say whether layers return tuples (GPT-J) or tensors, by one pass over two tokens."""
    seen: list[bool] = []
    handle = layer.register_forward_hook(lambda _m, _a, output: seen.append(isinstance(output, tuple)))
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        handle.remove()
    return seen[-1]


def _skip(stack: ExitStack, module: nn.Module, *, tuples: bool) -> None:
    """Make a layer hand its input on, as the tuple or tensor that its model expects."""

    def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        return (hidden_states, None) if tuples else hidden_states

    own = module.__dict__.get("forward")  # device placement sets one, for instance
    module.__dict__["forward"] = forward

    def restore() -> None:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    stack.callback(restore)


def _feeding_hook(hidden: Tensor) -> Callable[[nn.Module, Any, Any], tuple[Any, Any]]:
    def hook(_module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    return hook
