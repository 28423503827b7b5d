"""Running some layers of a causal LM only, on hidden states one has already, by way of the model's own forward pass.

What does not change from one pass to the next (everything under an edited layer, everything in front of an edited
position) is computed once. The model's own code makes masks, rotary embeddings and logits, so no list of architectures
is needed. As in :mod:`memedit.models.hooks`, every change to live modules is a context that takes itself away.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from memedit.errors import UnsupportedModelError
from memedit.models.kv_cache import cache_argument
from memedit.models.spec import ModelSpec

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, ``[B, heads, t, d_head]``."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a pass is fed.

    ``ids`` ``[B, t]`` are the new tokens, ``positions`` ``[B, t]`` their positions, ``mask`` ``[B, past + t]`` which of
    the cached and new tokens exist (1) and which are padding (0); ``past`` the cached keys and values of all layers.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    past: KeyValues | None = None

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device, *, pad: int = 0) -> "Inputs":
        """Return whole rows of token ids, aligned at their starts, with nothing cached."""
        ids, mask = (tensor.to(device) for tensor in pad_right(rows, pad))
        return cls(ids, torch.arange(ids.shape[1], device=device).expand_as(ids), mask)

    def rows(self, index: Tensor) -> "Inputs":
        """Return the chosen rows."""
        past = None if self.past is None else select_rows(self.past, index)
        return Inputs(self.ids[index], self.positions[index], self.mask[index], past)


def select_rows(past: KeyValues, index: Tensor) -> KeyValues:
    """Return cached keys and values of the rows ``index``, in that order; rows may repeat."""
    return [(keys.index_select(0, index), values.index_select(0, index)) for keys, values in past]


class Segments:
    """A model whose layers can be run in part.

    Args:
        model: a causal LM; it must accept ``position_ids`` and a key-value cache.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.spec = ModelSpec.of(model)
        self._stack: nn.ModuleList = model.get_submodule(self.spec.layers)
        self._tuples = self._layers_return_tuples()

    @torch.no_grad()
    def _layers_return_tuples(self) -> bool:
        seen: list[Any] = []
        handle = self._stack[0].register_forward_hook(lambda _m, _a, output: seen.append(output))
        try:
            ids = torch.zeros((1, 2), dtype=torch.long, device=self.model.device)
            self.model(input_ids=ids, use_cache=False)
        finally:
            handle.remove()
        if not seen:
            raise UnsupportedModelError(f"{type(self.model).__name__} does not call its layers one by one")
        return isinstance(seen[0], tuple)

    def hidden(
        self,
        inputs: Inputs,
        *,
        first: int = 0,
        last: int | None = None,
        start: Tensor | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, KeyValues | None]:
        """Run layers ``first`` to ``last`` (the model's last by default) and return the hidden states behind them.

        Args:
            inputs: tokens; only their shape counts when ``start`` is given.
            first: first layer that runs; the ones before it are passed through.
            last: last layer that runs.
            start: hidden states ``[B, t, d_model]`` in front of ``first``; None takes the embeddings.
            keep: return keys and values of all layers too (those of layers that did not run hold the past alone).

        Returns:
            hidden states ``[B, t, d_model]`` behind ``last`` (in front of the final norm), and the keys and values.
        """
        last = self.spec.n_layers - 1 if last is None else last
        found: list[Tensor] = []
        cache = self._cache(inputs.past, keep=keep)
        with ExitStack() as stack:
            stack.enter_context(self._only(first, last))
            if start is not None:
                stack.enter_context(_input_replaced(self._stack[first], start))
            stack.enter_context(_output_seen(self._stack[last], found))
            self._body()(
                input_ids=inputs.ids,
                attention_mask=inputs.mask,
                position_ids=inputs.positions,
                use_cache=cache is not None,
                **cache_argument(self._body(), cache),
            )
        kept = None
        if keep and cache is not None:
            kept = [(layer.keys, layer.values) for layer in cache.layers]
        return found[0], kept

    def logits(self, inputs: Inputs, places: tuple[Tensor, Tensor], *, first: int, start: Tensor) -> Tensor:
        """Run the layers from ``first`` on and return logits at chosen places only.

        Args:
            inputs: as in :meth:`hidden`.
            places: rows ``[n]`` and positions in the row ``[n]``.
            first: first layer that runs.
            start: hidden states ``[B, t, d_model]`` in front of it; may require gradients.

        Returns:
            logits ``[n, vocabulary]``.
        """
        head = self.model.get_output_embeddings()
        if head is None:
            raise UnsupportedModelError(f"{type(self.model).__name__} names no output layer")
        rows, positions = places
        cache = self._cache(inputs.past, keep=False)

        def gather(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0][rows, positions].unsqueeze(0), *args[1:])

        with ExitStack() as stack:
            stack.enter_context(self._only(first, self.spec.n_layers - 1))
            stack.enter_context(_input_replaced(self._stack[first], start))
            stack.callback(head.register_forward_pre_hook(gather).remove)
            found: Tensor = self.model(
                input_ids=inputs.ids,
                attention_mask=inputs.mask,
                position_ids=inputs.positions,
                use_cache=cache is not None,
                **cache_argument(self.model, cache),
            ).logits
        return found[0]

    def _body(self) -> Any:
        """Return the model without its head."""
        body = getattr(self.model, self.model.base_model_prefix, None)
        return self.model if body is None else body

    def _cache(self, past: KeyValues | None, *, keep: bool) -> Any:
        if past is None:
            return DynamicCache() if keep else None
        return DynamicCache(past)

    @contextmanager
    def _only(self, first: int, last: int) -> Iterator[None]:
        """Let layers outside ``first .. last`` pass hidden states through untouched."""
        skipped = [layer for i, layer in enumerate(self._stack) if not first <= i <= last]
        with ExitStack() as stack:
            for layer in skipped:
                stack.enter_context(_forward_replaced(layer, self._pass))
            yield

    def _pass(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states,) if self._tuples else hidden_states


@contextmanager
def outputs_patched(model: nn.Module, patches: Mapping[str, Tensor], positions: Tensor) -> Iterator[None]:
    """Replace what modules put out at one position of each row.

    ``patches`` are the new outputs ``[R, d]`` by module name, ``positions`` ``[R]`` where they go.
    """

    def hook_for(values: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            whole = output[0] if isinstance(output, tuple) else output
            changed = whole.clone()
            changed[torch.arange(len(positions), device=whole.device), positions] = values.to(whole)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    with ExitStack() as stack:
        for name, values in patches.items():
            stack.callback(model.get_submodule(name).register_forward_hook(hook_for(values)).remove)
        yield


@contextmanager
def output_raised(module: nn.Module, change: Tensor) -> Iterator[None]:
    """Add ``change`` ``[B, t, d]`` to what a module puts out; it may require gradients."""
    handle = module.register_forward_hook(lambda _module, _args, output: output + change)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter want gradients inside: what is differentiated is computed with respect to inputs only."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = "forward" in module.__dict__
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own:
            module.__dict__["forward"] = before
        else:
            del module.__dict__["forward"]


@contextmanager
def _input_replaced(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    def hook(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _output_seen(module: nn.Module, found: list[Tensor]) -> Iterator[None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def pad_left(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Return ids ``[B, t]`` and mask ``[B, t]`` of rows aligned at their ends; at least one column wide."""
    width = max(1, *(len(row) for row in rows))
    ids = torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def unpadded(ids: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the rows of ids ``[B, t]`` that were aligned at their starts, each ``lengths`` ``[B]`` long."""
    return [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]


def pad_right(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Return ids ``[B, t]`` and mask ``[B, t]`` of rows aligned at their starts."""
    width = max(1, *(len(row) for row in rows))
    ids = torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask
