"""Rows of one model that are decoded together."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from memedit.adapters.base import Adapter, AdapterBatch, DecodesInSteps
from memedit.errors import UnsupportedModelError
from memedit.models.kv_cache import cache_name
from memedit.models.weights import weights_by_row
from memedit.runtime.continuous.jobs import Job
from memedit.runtime.continuous.slots import SlotCache

_PREFILL_TOKENS = 2048
"""Tokens read at once, padding included; a longer prompt is read alone."""


class DecodeBatch:
    """A running batch of one model.

    Prompts are read padded on the right: causal attention then needs no mask, and no token of a row sees the padding.
    Rows stand in the slots ``0 .. len(jobs) - 1`` of the cache; the last one moves where one leaves.

    Args:
        model: a causal LM whose layers all attend with keys and values.
        pad: id to pad with.
        exchanged: rows meet the weights that their jobs name; False where these are another model's.

    Raises:
        UnsupportedModelError: its forward pass takes no positions, or its attention cannot be masked row by row.
    """

    def __init__(self, model: Any, pad: int, *, exchanged: bool = True) -> None:
        takes = inspect.signature(model.forward).parameters
        missing = [name for name in ("position_ids", "attention_mask") if name not in takes]
        missing += [] if cache_name(model) else ["key-value cache"]
        attention = getattr(model.config, "_attn_implementation", None)
        if missing or attention not in ("sdpa", "eager"):
            raise UnsupportedModelError(
                f"{type(model).__name__} cannot be decoded in a running batch: "
                + (f"its forward pass takes no {missing[0]}" if missing else f"attention {attention!r}")
            )
        self.model, self._pad, self._exchanged = model, pad, exchanged
        self._keeps = "logits_to_keep" in takes
        self._cache_name = cache_name(model) or ""
        self._windows = _windows(model.config)
        self._additive = attention == "eager"
        self._cache = SlotCache()
        self.jobs: list[Job] = []
        self._lengths: list[int] = []

    @property
    def columns(self) -> int:
        """Columns that the longest row may come to need."""
        return max((job.longest for job in self.jobs), default=0)

    def prefill(self, groups: Sequence[Sequence[Job]], adapter: Adapter | None) -> Tensor:
        """Read prompts and take their jobs in; return the logits ``[n, v]`` of every job's first token.

        Each group of jobs shares one prompt, which is read once; the result has a row a job, in order.
        """
        sizes = [len(group[0].fed.ids) for group in groups]
        order = sorted(range(len(groups)), key=sizes.__getitem__)
        found: dict[int, Tensor] = {}
        try:
            for chunk in _chunks(order, sizes):
                found.update(zip(chunk, self._read([groups[i] for i in chunk], adapter), strict=True))
        except Exception:
            del self._lengths[len(self.jobs) :]  # the slots of those who did not come in
            raise
        # slots were given in the order of reading
        self.jobs.extend(job for i in order for job in groups[i])
        return torch.stack([found[i] for i, group in enumerate(groups) for _ in group])

    def _read(self, groups: Sequence[Sequence[Job]], adapter: Adapter | None) -> Tensor:
        """Run the model on some prompts and store their states; return last-token logits ``[groups, v]``."""
        rows = [group[0].fed for group in groups]
        said = tuple(len(group[0].tokens) for group in groups)
        lengths = [len(row.ids) for row in rows]
        width = max(lengths)
        padded = [[*row.ids, *([self._pad] * (width - len(row.ids)))] for row in rows]
        batch = AdapterBatch(tuple(rows), tuple(group[0].edits for group in groups), (0,) * len(rows), said)
        cache = DynamicCache()
        lasts = sorted({length - 1 for length in lengths})
        device = self.model.device
        options: dict[str, Any] = {self._cache_name: cache, "use_cache": True}
        if self._keeps:
            options["logits_to_keep"] = torch.tensor(lasts, device=device)
        with self._on_weights([group[0] for group in groups]), _active(adapter, batch, groups):
            ids = torch.tensor(padded, device=device)
            logits = self.model(input_ids=ids, **options).logits
        at = [lasts.index(length - 1) if self._keeps else length - 1 for length in lengths]
        self._store(groups, lengths, cache)
        return logits[torch.arange(len(rows), device=logits.device), torch.tensor(at, device=logits.device)]

    def _store(self, groups: Sequence[Sequence[Job]], lengths: Sequence[int], cache: DynamicCache) -> None:
        slot = len(self._lengths)
        count = sum(map(len, groups))
        self._cache.reserve(slot + count, max([*lengths, *self._lengths]) + 1, cache)
        for row, (group, length) in enumerate(zip(groups, lengths, strict=True)):
            for _ in group:
                self._cache.store(slot, cache, row, length)
                self._lengths.append(length)
                slot += 1

    def decode(self, adapter: Adapter | None) -> Tensor:
        """Feed every row its newest token; return the logits ``[rows, v]`` of the next."""
        device = self.model.device
        lengths = self._lengths
        self._cache.places.set(lengths, device)
        self._cache.extend(self._cache.places.width)
        ids = torch.tensor([[job.tokens[-1]] for job in self.jobs], device=device)
        positions = self._cache.places.columns.unsqueeze(1)
        with self._on_weights(self.jobs), self._decoding(adapter):
            logits = self.model(
                input_ids=ids,
                attention_mask=self._mask(device),
                position_ids=positions,
                use_cache=True,
                **{self._cache_name: self._cache},
            ).logits
        self._lengths = [length + 1 for length in lengths]
        return logits[:, -1]

    def _decoding(self, adapter: Adapter | None) -> AbstractContextManager[None]:
        if adapter is None or not any(job.edits for job in self.jobs):
            return nullcontext()
        assert isinstance(adapter, DecodesInSteps)
        batch = AdapterBatch(
            tuple(job.row for job in self.jobs), tuple(job.edits for job in self.jobs), (0,) * len(self.jobs)
        )
        return adapter.decoding(batch, _artefacts(self.jobs))

    def _on_weights(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """Let each row meet its weights inside; to be entered before an adapter, which adds to what they say."""
        return weights_by_row(self.model, [job.weights for job in jobs]) if self._exchanged else nullcontext()

    def leave(self, jobs: Sequence[Job]) -> None:
        """Take jobs out; the last rows move into their slots."""
        for job in jobs:
            slot, last = self.jobs.index(job), len(self.jobs) - 1
            if slot != last:
                self._cache.move(last, slot, self._lengths[last])
                self.jobs[slot], self._lengths[slot] = self.jobs[last], self._lengths[last]
            self.jobs.pop()
            self._lengths.pop()
        if not self.jobs:
            self._cache.clear()

    def clear(self) -> None:
        """Drop all jobs, in whatever state a failed pass has left them."""
        self.jobs, self._lengths = [], []
        self._cache.clear()

    def _mask(self, device: Any) -> Any:
        """Return which columns each row sees, as this model takes it; None when all see all."""
        full = self._visible(None, device)
        if len(self._windows) <= 1:
            window = next(iter(self._windows.values()), None)
            return full if window is None else self._visible(window, device)
        masks = {kind: self._visible(window, device) for kind, window in self._windows.items()}
        return None if all(mask is None for mask in masks.values()) else masks

    def _visible(self, window: int | None, device: Any) -> Tensor | None:
        """Return the mask ``[rows, 1, 1, columns]`` of a layer that sees its last ``window`` tokens (None: all)."""
        places = self._cache.places
        if places.same is not None and (window is None or places.width <= window):
            return None
        columns = torch.arange(places.width, device=device)
        seen = columns <= places.columns[:, None]
        if window is not None:
            seen &= columns > places.columns[:, None] - window
        mask = seen[:, None, None, :]
        if not self._additive:
            return mask
        dtype = self.model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, torch.finfo(dtype).min)


def _windows(config: Any) -> dict[str, int | None]:
    """Return the attention window of each kind of layer; one entry when all layers are alike."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    window = getattr(config, "sliding_window", None)
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or ()))
    if not kinds:
        return {"all": window}
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}


def _active(adapter: Adapter | None, batch: AdapterBatch, groups: Sequence[Sequence[Job]]) -> Any:
    if adapter is None or not any(batch.edits):
        return nullcontext()
    return adapter.active(batch, _artefacts([group[0] for group in groups]))


def _artefacts(jobs: Sequence[Job]) -> dict[str, bytes]:
    return {edit_id: blob for job in jobs for edit_id, blob in job.artefacts.items()}


def _chunks(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Group prompts, sorted by length, so that at most half of what is read is padding and none reads too much."""
    chunks: list[list[int]] = []
    for i in order:
        short = chunks and 2 * lengths[chunks[-1][0]] >= lengths[i]
        if short and (len(chunks[-1]) + 1) * lengths[i] <= _PREFILL_TOKENS:
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks
