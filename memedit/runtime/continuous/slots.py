"""A key-value cache of slots: each row of the batch has one, of its own length, and can come and go alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_STEP = 64
"""Columns are added in steps of this size at least, and a quarter of what is there."""


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, ``[rows, heads, columns, width]``; row i's tokens stand in its first columns.

    Space is reserved ahead, so that a decoding step writes one column in place, where a cache that grows by
    concatenation copies everything.
    """

    is_sliding = False

    def __init__(self, places: "Places") -> None:
        super().__init__()
        self._places = places

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make empty space shaped like these states."""
        self.keys = key_states.new_empty((0, key_states.shape[1], 0, key_states.shape[3]))
        self.values = value_states.new_empty((0, value_states.shape[1], 0, value_states.shape[3]))
        self.is_initialized = True

    def reserve(self, rows: int, columns: int) -> None:
        """Have room for so many rows and columns; what is there is kept."""
        assert self.keys is not None
        if self.keys.shape[0] < rows or self.keys.shape[2] < columns:
            self.keys, self.values = _grown(self.keys, rows, columns), _grown(self.values, rows, columns)

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Write the states ``[heads, t, width]`` of a row's first t tokens."""
        assert self.keys is not None
        assert self.values is not None
        self.keys[slot, :, : keys.shape[1]] = keys
        self.values[slot, :, : values.shape[1]] = values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row's first ``length`` columns over another's."""
        assert self.keys is not None
        assert self.values is not None
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one token of each row, ``[rows, heads, 1, width]``, and return all that is to be attended to."""
        assert self.keys is not None
        assert self.values is not None
        places, rows = self._places, key_states.shape[0]
        if places.same is not None:
            self.keys[:rows, :, places.same] = key_states[:, :, 0]
            self.values[:rows, :, places.same] = value_states[:, :, 0]
        else:
            self.keys[places.index, :, places.columns] = key_states[:, :, 0]
            self.values[places.index, :, places.columns] = value_states[:, :, 0]
        return self.keys[:rows, :, : places.width], self.values[:rows, :, : places.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns that are attended to, and 0."""
        return self._places.width, 0

    def get_seq_length(self) -> int:
        """Return the columns before the one being written."""
        return self._places.width - 1

    def get_max_length(self) -> int:
        """Return -1: it grows."""
        return -1


class Places:
    """Where the next token of each row goes. ``same`` is that column when it is one for all."""

    def __init__(self) -> None:
        self.width = 0
        self.same: int | None = None
        self.index = self.columns = torch.zeros(0, dtype=torch.long)

    def set(self, lengths: Sequence[int], device: Any) -> None:
        """Point behind the tokens that each row has."""
        self.width = max(lengths) + 1
        self.same = lengths[0] if len(set(lengths)) == 1 else None
        self.index = torch.arange(len(lengths), device=device)
        self.columns = torch.tensor(lengths, device=device)


class SlotCache(Cache):
    """The slots of all layers; layers appear when the first prompt is stored."""

    def __init__(self) -> None:
        self.places = Places()
        self.layers: list[Any] = []
        super().__init__(layers=self.layers)

    def store(self, slot: int, source: Cache, row: int, length: int) -> None:
        """Copy the first ``length`` columns of row ``row`` of another cache into ``slot``, which has been reserved."""
        for layer, other in zip(self.layers, source.layers, strict=True):
            layer.put(slot, other.keys[row, :, :length], other.values[row, :, :length])

    def reserve(self, rows: int, columns: int, like: Cache) -> None:
        """Have room; layers are shaped like those of ``like``, the cache of a prompt."""
        if not self.layers:
            self.layers = [SlotLayer(self.places) for _ in like.layers]
            for layer, other in zip(self.layers, like.layers, strict=True):
                layer.lazy_initialization(other.keys, other.values)
        for layer in self.layers:
            layer.reserve(rows, columns)

    def extend(self, columns: int) -> None:
        """Have room for so many columns in all rows."""
        for layer in self.layers:
            layer.reserve(layer.keys.shape[0], columns)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one slot over another."""
        for layer in self.layers:
            layer.move(source, target, length)

    def clear(self) -> None:
        """Give all space back."""
        self.layers = []


def _grown(old: Tensor, rows: int, columns: int) -> Tensor:
    """Copy into space for at least so many rows and columns."""
    have = old.shape[2]
    wanted = have if columns <= have else max(columns, have + max(_STEP, have // 4))
    height = old.shape[0] if rows <= old.shape[0] else max(rows, 2 * old.shape[0])
    new = old.new_zeros((height, old.shape[1], wanted, old.shape[3]))
    new[: old.shape[0], :, :have] = old
    return new
