"""Teacher forcing: how likely given targets are after prompts, through the same routing as generation."""

import inspect
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.errors import InputError
from memedit.runtime.answers import Score
from memedit.runtime.lengths import check_fits, longest
from memedit.runtime.passes import Base, EditedRows
from memedit.runtime.rows import left_pad
from memedit.runtime.target_bias import Prior, mixed
from memedit.types import BatchPlan

_CLOSING = ",.;:!?%'\u2026\u3001\u3002\uff0c"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Scripts without blanks between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""

Forced = tuple[list[float], list[int]]
"""Log probabilities of a target's tokens, and the most likely token at each place."""


OnWeights = Callable[[Sequence[int], int], AbstractContextManager[None]]


def _as_loaded(rows: Sequence[int], batch: int) -> AbstractContextManager[None]:
    return nullcontext()


def target_ids(tokenizer: Any, row: Row, target: str, *, as_is: bool = False) -> tuple[int, ...]:
    """Tokenise a target as it follows its row: behind a blank where the row's language puts one, unless ``as_is``.

    Raises:
        InputError: the target is empty.
    """
    blank = "" if as_is or row.messages is not None or not _apart(row.text, target) else " "
    ids = tokenizer(f"{blank}{target}", add_special_tokens=False)["input_ids"] if target else []
    if not ids:
        raise InputError(f"target {target!r} has no token; there is nothing to score")
    return tuple(int(i) for i in ids)


def _apart(text: str, target: str) -> bool:
    """Whether a target is a word of its own behind the text: no comma, nothing in a script that writes no blanks."""
    last, first = text[-1:], target[:1]
    if not last or not first or last.isspace() or first.isspace():
        return False
    closes = first in _CLOSING or unicodedata.category(first) in ("Pe", "Pf", "Mn", "Mc")
    opens = unicodedata.category(last) in ("Ps", "Pi")
    return not (closes or opens or _UNSPACED.match(last) or _UNSPACED.match(first))


def score_rows(
    base: Base,
    rows: Sequence[Row],
    targets: Sequence[tuple[int, ...]],
    plan: BatchPlan,
    *,
    edited: EditedRows | None = None,
    adapter: Adapter | None = None,
    on_weights: OnWeights = _as_loaded,
) -> list[Score]:
    """Score ``targets`` (token ids) after ``rows``; edited rows run in a pass of their own, under the adapter.

    ``on_weights`` puts chosen rows of so many on edited weights, and all others on the base's.
    """
    touched = set(edited.numbers) if edited is not None else set()
    found: dict[int, Forced] = {}
    plain = [n for n in range(len(rows)) if n not in touched]
    if plain:
        wanted = [targets[n] for n in plain]
        forced = _forced([rows[n] for n in plain], wanted)
        nothing = [None] * len(plain)
        weighted = set(plan.weight_rows)
        with on_weights([place for place, n in enumerate(plain) if n in weighted], len(plain)):
            found.update(zip(plain, _forward(base, base.model, forced, wanted, nothing), strict=True))
    if edited is not None and adapter is not None:
        wanted = [targets[n] for n in edited.numbers]
        forced = _forced(edited.rewritten(adapter, base.limit), wanted)
        _, _, pads = left_pad(forced, base.pad, "cpu")
        batch = AdapterBatch(tuple(forced), edited.edits, pads, answers=tuple(map(len, wanted)))
        with on_weights((), 1), adapter.active(batch, edited.artefacts):
            results = _forward(base, adapter.model() or base.model, forced, wanted, edited.priors)
        found.update(zip(edited.numbers, results, strict=True))
    return [Score(targets[n], tuple(found[n][0]), tuple(found[n][1]), plan.routes[n]) for n in range(len(rows))]


def _forced(rows: Sequence[Row], targets: Sequence[tuple[int, ...]]) -> list[Row]:
    return [replace(row, ids=row.ids + target) for row, target in zip(rows, targets, strict=True)]


@torch.no_grad()
def _forward(
    base: Base,
    model: Any,
    rows: Sequence[Row],
    targets: Sequence[tuple[int, ...]],
    own: Sequence[Prior | None],
) -> list[Forced]:
    check_fits(longest(rows), base.limit)
    ids, mask, _ = left_pad(rows, base.pad, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    extra = {"position_ids": positions} if _takes_positions(model) else {}
    kept = max(len(target) for target in targets) + 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, -kept:-1]
    scores = []
    for row, target in enumerate(targets):
        wanted = torch.tensor(target, device=logits.device)
        steps = logits[row, -len(target) :].float()
        said = [target[:at] for at in range(len(target))]
        steps = mixed(steps, [own[row]] * len(target), said).log_softmax(-1)
        logprobs = steps.gather(-1, wanted[:, None])[:, 0]
        scores.append((logprobs.tolist(), steps.argmax(-1).tolist()))
    return scores


def _takes_positions(model: Any) -> bool:
    return "position_ids" in inspect.signature(model.forward).parameters
