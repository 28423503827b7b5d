"""Texts in front of a prompt, so that an edit holds wherever its subject turns up and not on the bare prompt alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memedit.consolidation.base import ConsolidationSettings
from memedit.models import LoadedModel, encode_as_data

_STARTS = ("The", "Therefore", "Because", "I", "You", "In", "However", "It")
_TOP = 5


@dataclass(frozen=True, slots=True)
class Context:
    """A text in front of prompts: its token ids, special ones included; ``spaced`` says that a prompt behind it needs
    a leading space.
    """

    text: str
    ids: tuple[int, ...]
    spaced: bool


def build_contexts(loaded: LoadedModel, settings: ConsolidationSettings) -> tuple[Context, ...]:
    """Return the empty context and texts that the model itself writes, in MEMIT's manner (arXiv 2210.07229).

    The texts are sampled from the five likeliest tokens, by the seed; they depend on nothing but model and settings.
    """
    opening = opening_ids(loaded.tokenizer)
    found = [Context("", opening, spaced=False)]
    generator = torch.Generator().manual_seed(settings.seed)
    for number in range(settings.contexts - 1):
        length = settings.context_tokens[number % len(settings.context_tokens)]
        start = [*opening, *encode_as_data(loaded.tokenizer, _STARTS[number % len(_STARTS)])]
        ids = _continue(loaded, start, length, generator)[len(opening) :]
        text = " ".join(str(loaded.tokenizer.decode(ids, skip_special_tokens=True)).split()) + "."
        found.append(Context(text, (*opening, *encode_as_data(loaded.tokenizer, text)), spaced=True))
    return tuple(found)


def opening_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens that the tokenizer puts in front of every text (a BOS token, or none)."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for count in range(len(whole) - len(bare) + 1):
        if whole[count : count + len(bare)] == bare:
            return tuple(int(i) for i in whole[:count])
    return ()


@torch.no_grad()
def _continue(loaded: LoadedModel, start: Sequence[int], length: int, generator: torch.Generator) -> list[int]:
    ids = list(start)
    special = [i for i in loaded.tokenizer.all_special_ids if i is not None]
    for _ in range(length):
        logits = loaded.model(input_ids=torch.tensor([ids], device=loaded.model.device), use_cache=False).logits
        scores = logits[0, -1].float().cpu()
        scores[special] = float("-inf")
        best = scores.topk(min(_TOP, len(scores)))
        choice = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
        ids.append(int(best.indices[choice]))
    return ids
