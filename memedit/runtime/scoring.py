"""Teacher forcing: how likely given targets are after prompts, through the same routing as generation."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.errors import InputError
from memedit.runtime.answers import Score
from memedit.runtime.copying import Wanted, mixed
from memedit.runtime.lengths import check_fits, longest
from memedit.runtime.passes import Base, EditedRows
from memedit.runtime.rows import left_pad
from memedit.types import Route

Forced = tuple[list[float], list[int]]
"""Log probabilities of a target's tokens, and the most likely token at each place."""


def target_ids(tokenizer: Any, target: str) -> tuple[int, ...]:
    """Tokenise a target, which follows its prompt as it stands: a leading space is the caller's to give.

    Raises:
        InputError: the target is empty.
    """
    ids = tokenizer(target, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError(f"target {target!r} has no token; there is nothing to score")
    return tuple(int(i) for i in ids)


def score_rows(
    base: Base,
    rows: Sequence[Row],
    targets: Sequence[tuple[int, ...]],
    routes: Sequence[Route],
    *,
    edited: EditedRows | None = None,
    adapter: Adapter | None = None,
) -> list[Score]:
    """Score ``targets`` (token ids) after ``rows``; edited rows run in a pass of their own, under the adapter."""
    touched = set(edited.numbers) if edited is not None else set()
    found: dict[int, Forced] = {}
    plain = [n for n in range(len(rows)) if n not in touched]
    if plain:
        wanted = [targets[n] for n in plain]
        forced = _forced([rows[n] for n in plain], wanted)
        nothing = [None] * len(plain)
        found.update(zip(plain, _forward(base, base.model, forced, wanted, nothing), strict=True))
    if edited is not None and adapter is not None:
        wanted = [targets[n] for n in edited.numbers]
        forced = _forced(edited.rewritten(adapter, base.limit), wanted)
        _, _, pads = left_pad(forced, base.pad, "cpu")
        batch = AdapterBatch(tuple(forced), edited.edits, pads, answers=tuple(map(len, wanted)))
        with adapter.active(batch, edited.artefacts):
            results = _forward(base, adapter.model() or base.model, forced, wanted, edited.wanted)
        found.update(zip(edited.numbers, results, strict=True))
    return [Score(targets[n], tuple(found[n][0]), tuple(found[n][1]), routes[n]) for n in range(len(rows))]


def _forced(rows: Sequence[Row], targets: Sequence[tuple[int, ...]]) -> list[Row]:
    return [replace(row, ids=row.ids + target) for row, target in zip(rows, targets, strict=True)]


@torch.no_grad()
def _forward(
    base: Base,
    model: Any,
    rows: Sequence[Row],
    targets: Sequence[tuple[int, ...]],
    own: Sequence[Wanted | None],
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
