"""Mixtures of low-rank terms on live modules: one grouped product, weighted apart for every row of a batch.

Like :mod:`memedit.models.hooks`, everything here is a context manager that takes its hooks away again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.hooks import ChosenRows, _module


@dataclass(frozen=True, slots=True)
class Mixture:
    """Rank-one components of one module, stacked: ``output += ((x @ down.T) * weights) @ up.T``.

    ``down`` is ``[K, d_in]`` and ``up`` ``[d_out, K]`` for K components (N LoRAs of rank r make N*r); a row's weights
    ``[K]`` say how much of each component it gets, None means all of all. Without ``up`` there is one component, and
    its up-projection is the row's own: the row's weights are that vector, ``[d_out]``.
    """

    name: str
    down: Tensor
    up: Tensor | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Which rows of a batch of ``batch`` rows a mixture acts on, and from which column of the fed ids each.

    ``starts[i]`` is the column, padding included, from which ``rows[i]`` is acted on: 0 for the whole row. ``asked[i]``
    is the column at which a router reads it; empty: where it starts.
    """

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    batch: int
    length: int
    asked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        fits = len(self.rows) == len(self.starts) and list(self.rows) == sorted(set(self.rows))
        fits &= len(self.asked) in (0, len(self.rows))
        if not fits or any(not 0 <= column < self.length for column in (*self.starts, *self.asked)):
            raise InputError(
                f"rows {self.rows} from columns {self.starts} do not fit a batch of {self.batch} rows by {self.length} "
                "columns; name each row once, in order, with a column inside the batch"
            )


Weights = tuple[Tensor | None, ...]
"""For each of several mixtures the weights of n rows, ``[n, K]`` (``[n, d_out]``: see :class:`Mixture`), or None."""

Route = Callable[[Tensor, tuple[int, ...]], Weights]
"""Query states ``[n, d_model]`` of the rows at these places of the placement, to their weights."""


@contextmanager
def mixture_rows(
    model: nn.Module,
    mixtures: Sequence[Mixture],
    placement: Placement,
    *,
    weights: Weights | None = None,
    route: Route | None = None,
    reads: str | None = None,
) -> Iterator[None]:
    """Add mixtures to the outputs of their modules on the rows of ``placement``; other rows stay bit for bit.

    The weights are the caller's, for the rows and mixtures in order, or come from ``route``, once for every sequence:
    the state that module ``reads`` is fed at the row's asked column decides, and the decision holds through decoding.
    Rows that are acted on before they are asked have to be fed in one piece. Steps with a key-value cache and prompts
    fed in chunks count on from the last call; a call of at least ``length`` tokens starts again from column 0, so
    running without a cache works too.

    Raises:
        InputError: rows lie outside the batch, or neither or both of ``weights`` and ``route`` are given.
        UnsupportedModelError: a module does not exist, or folds rows together.
    """
    if (weights is None) == (route is None) or (route is not None and reads is None):
        raise InputError("give either weights, or route with the module it reads")
    selection = ChosenRows(placement.rows, placement.batch)
    if not placement.rows:
        yield
        return
    held = _Held(weights, placement, selection)
    with ExitStack() as stack:
        if route is not None and reads is not None:
            pre = _reading_hook(held, route)
            stack.callback(_module(model, reads).register_forward_pre_hook(pre, with_kwargs=True).remove)
        for number, mixture in enumerate(mixtures):
            hook = _mixing_hook(held, mixture, number)
            stack.callback(_module(model, mixture.name).register_forward_hook(hook).remove)
        yield


class _Columns:
    """Follows which columns of the batch a module is being fed."""

    def __init__(self, length: int) -> None:
        self._length, self._next = length, 0

    def first(self, width: int) -> int:
        """Return the column of the first token of a call of ``width`` tokens."""
        if width > self._length or (width == self._length and self._length > 1):
            self._next = 0
        first, self._next = self._next, self._next + width
        return first


class _Held:
    """The rows' weights while a context lasts, expanded for repeated rows."""

    def __init__(self, weights: Weights | None, placement: Placement, selection: ChosenRows) -> None:
        self.weights, self.placement, self.selection = weights, placement, selection
        self.earliest, self.latest = min(placement.starts), max(placement.starts)
        self._repeated: dict[tuple[int, int], Tensor] = {}

    def put(self, places: tuple[int, ...], weights: Weights) -> None:
        """Set the weights of some rows; those of rows whose turn has not come are 0."""
        count = len(self.placement.rows)
        held = self.weights if self.weights is not None else (None,) * len(weights)
        self.weights = tuple(_placed(old, new, places, count) for old, new in zip(held, weights, strict=True))
        self._repeated.clear()

    def of(self, number: int, count: int) -> Tensor | None:
        """Return the weights ``[rows * repeats, 1, K]`` of one mixture for a tensor of ``count`` rows."""
        if self.weights is None:
            raise UnsupportedModelError("a mixture was reached before the module that its router reads")
        mine = self.weights[number]
        if mine is None:
            return None
        repeats = count // self.placement.batch
        if (number, repeats) not in self._repeated:
            whole = mine.repeat_interleave(repeats, dim=0) if repeats > 1 else mine
            self._repeated[number, repeats] = whole.unsqueeze(1)
        return self._repeated[number, repeats]


def columns_from(placement: Placement, first: int, width: int, count: int, like: Tensor) -> Tensor:
    """Return 1 where a row is acted on and 0 before its start, ``[rows * repeats, width, 1]``.

    ``first`` is the column of the first of ``width`` tokens that a tensor of ``count`` rows holds.
    """
    starts = torch.tensor(placement.starts, device=like.device)
    starts = starts.repeat_interleave(count // placement.batch)
    columns = torch.arange(first, first + width, device=like.device)
    return (columns[None, :] >= starts[:, None]).to(like.dtype).unsqueeze(-1)


def _mixing_hook(held: _Held, mixture: Mixture, number: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    columns = _Columns(held.placement.length)

    def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.dim() != 3:
            raise UnsupportedModelError(f"{mixture.name} folds rows together: its output has shape {output.shape}")
        count, width = output.shape[0], output.shape[1]
        first = columns.first(width)
        skip = max(0, held.earliest - first)
        if skip >= width:
            return output
        index = held.selection.indices(count, output.device)
        source = args[0][:, skip:] if skip else args[0]
        source = source if index is None else source.index_select(0, index)
        read, weights = nn.functional.linear(source, mixture.down), held.of(number, count)
        if first + skip < held.latest:
            read = read * columns_from(held.placement, first + skip, width - skip, count, read)
        if mixture.up is None:
            terms = read if weights is None else read * weights
        else:
            terms = nn.functional.linear(read if weights is None else read * weights, mixture.up)
        return _added(output, terms, index, skip)

    return hook


def _added(output: Tensor, terms: Tensor, index: Tensor | None, skip: int) -> Tensor:
    """Add ``terms`` to the columns of ``output`` from ``skip`` on, in place where nothing is differentiated."""
    if output.requires_grad or terms.requires_grad:
        terms = nn.functional.pad(terms, (0, 0, skip, 0)) if skip else terms
        return output + terms if index is None else output.index_add(0, index, terms)
    target = output[:, skip:] if skip else output
    if index is None:
        target.add_(terms)
    else:
        target.index_add_(0, index, terms)
    return output


def _reading_hook(held: _Held, route: Route) -> Callable[[nn.Module, Any, Any], None]:
    columns = _Columns(held.placement.length)
    asked = held.placement.asked or held.placement.starts

    def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        count, width = hidden.shape[0], hidden.shape[1]
        first = columns.first(width)
        repeats = count // held.placement.batch
        started = [
            (place, row * repeats, start - first)
            for place, (row, start) in enumerate(zip(held.placement.rows, asked, strict=True))
            if first <= start < first + width
        ]
        if started:
            states = torch.stack([hidden[row, column] for _, row, column in started])
            places = tuple(place for place, _, _ in started)
            held.put(places, route(states, places))

    return hook


def _placed(old: Tensor | None, new: Tensor | None, places: tuple[int, ...], count: int) -> Tensor | None:
    """Put the weights of the rows at ``places`` among those of ``count`` rows."""
    if new is None or len(places) == count:
        return new
    whole = new.new_zeros((count, *new.shape[1:])) if old is None else old
    return whole.index_copy(0, torch.tensor(places, device=new.device), new)
