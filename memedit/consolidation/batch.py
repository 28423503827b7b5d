"""A batch of edits on the model: everything that does not depend on the targets, computed once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from memedit.consolidation.contexts import Context
from memedit.consolidation.rows import EditRow
from memedit.consolidation.site import EditSite
from memedit.models.segments import Inputs, KeyValues, Segments, pad_left, pad_right, select_rows

Row = TypeVar("Row")


def batches(rows: Mapping[str, Sequence[Row]], tokens: int, length: Callable[[Row], int]) -> Iterator[list[str]]:
    """Yield edits with rows of like length together, at most ``tokens`` positions (padding included) at once."""

    def width(edit: str) -> int:
        return max(length(row) for row in rows[edit])

    order = sorted(rows, key=lambda edit: (width(edit), edit))
    batch: list[str] = []
    count = 0
    for edit in order:
        count += len(rows[edit])
        if batch and count * width(edit) > tokens:
            yield batch
            batch, count = [], len(rows[edit])
        batch.append(edit)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class ContextCache:
    """Keys and values of all contexts ``[contexts, heads, t, d_head]``, which every edit's rows start from.

    ``mask`` ``[contexts, t]`` says which of them are padding, ``lengths`` ``[contexts]`` how many are not; ``pad`` is
    the token to pad with.
    """

    past: KeyValues | None
    mask: Tensor
    lengths: Tensor
    pad: int


@torch.no_grad()
def cache_contexts(segments: Segments, contexts: Sequence[Context], pad: int) -> ContextCache:
    """Run the contexts through the model once."""
    lengths = torch.tensor([len(context.ids) for context in contexts])
    device = segments.model.device
    if int(lengths.max()) == 0:
        nothing = torch.zeros((len(contexts), 0), dtype=torch.long, device=device)
        return ContextCache(None, nothing, lengths.to(device), pad)
    ids, mask = pad_left([context.ids for context in contexts], pad)
    ids, mask = ids.to(device), mask.to(device)
    _, past = segments.hidden(Inputs(ids, (mask.cumsum(1) - 1).clamp(min=0), mask), keep=True)
    return ContextCache(past, mask, lengths.to(device), pad)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """Rows of some edits, ready for the layers above the top edited one.

    Attributes:
        edit_of_row: ``[R]``: place in the batch of the edit each row belongs to.
        tail: tokens from the edited position on, ``[R, t]``, with the keys and values of all that comes before.
        entry: hidden states ``[R, d_model]`` at the edited position in front of the first edited layer.
        top: hidden states ``[R, t, d_model]`` behind the top edited layer.
        places: rows and tail positions ``[n]`` at which target tokens are predicted; ``wanted`` ``[n]`` those tokens.
        first_rows: ``[E]``: first row of each edit.
        free: ``[E]``: whether the edited position of that row predicts no target token, so that what it predicts
            should stay as it is.
    """

    edit_of_row: Tensor
    tail: Inputs
    entry: Tensor
    top: Tensor
    places: tuple[Tensor, Tensor]
    wanted: Tensor
    first_rows: Tensor
    free: Tensor

    def to(self, dtype: torch.dtype) -> "PreparedBatch":
        """Return it with hidden states, keys and values in another dtype."""
        past = self.tail.past
        cast = None if past is None else [(keys.to(dtype), values.to(dtype)) for keys, values in past]
        return replace(self, tail=replace(self.tail, past=cast), top=self.top.to(dtype))

    @property
    def edits(self) -> int:
        """Number of edits."""
        return len(self.first_rows)


@torch.no_grad()
def prepare_batch(
    segments: Segments, site: EditSite, cache: ContextCache, edits: Sequence[Sequence[EditRow]]
) -> PreparedBatch:
    """Run everything in front of the edited positions, and the tails up to the top edited layer."""
    rows = [row for own in edits for row in own]
    device = segments.model.device
    contexts = torch.tensor([row.context for row in rows], device=device)
    lengths = cache.lengths[contexts]
    past, known = _prefixes(segments, cache, rows, contexts)
    ids, mask = pad_right([row.tail for row in rows], cache.pad)
    ids, mask = ids.to(device), mask.to(device)
    starts = lengths + torch.tensor([len(row.prefix) for row in rows], device=device)
    positions = starts[:, None] + torch.arange(ids.shape[1], device=device)
    tail = Inputs(ids, positions, torch.cat([known, mask], 1), past)
    first, last = site.layers[0], site.layers[-1]
    below, _ = segments.hidden(tail, last=first - 1)
    top, _ = segments.hidden(tail, first=first, last=last, start=below)
    return PreparedBatch(
        torch.tensor([i for i, own in enumerate(edits) for _ in own], device=device),
        tail,
        below[:, 0],
        top,
        *_scored(rows, device),
        *_free(edits, device),
    )


def _prefixes(
    segments: Segments, cache: ContextCache, rows: Sequence[EditRow], contexts: Tensor
) -> tuple[KeyValues | None, Tensor]:
    """Return keys and values of context and prefix of each row, and the mask ``[R, past]`` of what exists of them."""
    known = cache.mask[contexts]
    past = None if cache.past is None else select_rows(cache.past, contexts)
    if not any(row.prefix for row in rows):
        return past, known
    ids, mask = pad_left([row.prefix for row in rows], cache.pad)
    ids, mask = ids.to(known.device), mask.to(known.device)
    positions = cache.lengths[contexts][:, None] + (mask.cumsum(1) - 1).clamp(min=0)
    known = torch.cat([known, mask], 1)
    _, past = segments.hidden(Inputs(ids, positions, known, past), keep=True)
    return past, known


def _scored(rows: Sequence[EditRow], device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor]:
    numbers = [i for i, row in enumerate(rows) for _ in row.targets]
    positions = [row.scored + j for row in rows for j in range(len(row.targets))]
    wanted = [token for row in rows for token in row.targets]
    return (torch.tensor(numbers, device=device), torch.tensor(positions, device=device)), torch.tensor(
        wanted, device=device
    )


def _free(edits: Sequence[Sequence[EditRow]], device: torch.device) -> tuple[Tensor, Tensor]:
    counts = torch.tensor([len(own) for own in edits])
    first = counts.cumsum(0) - counts
    return first.to(device), torch.tensor([own[0].scored > 0 for own in edits], device=device)
