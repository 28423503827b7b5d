"""Text that a model writes when nobody asks: its own idea of the text it was trained on."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache

from memedit.consolidation.contexts import opening_ids
from memedit.models import LoadedModel
from memedit.models.kv_cache import cache_argument

_ROWS = 32
_TEMPERATURE = 1.0


@torch.no_grad()
def own_samples(
    loaded: LoadedModel, *, tokens: int, window: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> list[list[int]]:
    """Sample windows of ``window`` tokens from the model, ``tokens`` tokens in all (the last window may be shorter).

    Each begins with the tokens that open a text and one ordinary token drawn at random from the vocabulary, so that
    topics differ; the rest is sampled at temperature 1, without special tokens. Depends on model, seed and sizes only.
    """
    generator = torch.Generator().manual_seed(seed)
    opening = list(opening_ids(loaded.tokenizer))
    special = [i for i in loaded.tokenizer.all_special_ids if i is not None]
    ordinary = torch.ones(len(loaded.tokenizer))
    ordinary[[i for i in special if i < len(ordinary)]] = 0.0
    windows: list[list[int]] = []
    total = 0
    while total < tokens:
        rows = min(_ROWS, max(1, -(-(tokens - total) // window)))
        first = torch.multinomial(ordinary, rows, replacement=True, generator=generator)
        start = torch.tensor([[*opening, int(token)] for token in first])
        for row in _sample(loaded, start, window, special, generator):
            kept = row[: tokens - total]
            windows.append(kept)
            total += len(kept)
        windows = [row for row in windows if len(row) > 1]
        if progress is not None:
            progress(min(total, tokens), tokens)
    return windows


def _sample(
    loaded: LoadedModel, start: Tensor, length: int, special: list[int], generator: torch.Generator
) -> list[list[int]]:
    options = {"use_cache": True, "logits_to_keep": 1, **cache_argument(loaded.model, DynamicCache())}
    ids, fed = start, start
    while ids.shape[1] < length:
        fed = fed.to(loaded.model.device)
        logits = loaded.model(input_ids=fed, **options).logits[:, -1]
        scores = logits.float().cpu() / _TEMPERATURE
        scores[:, special] = float("-inf")
        fed = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, fed], 1)
    found: list[list[int]] = ids[:, :length].tolist()
    return found
