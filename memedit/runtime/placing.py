"""Where in an answer a target would be said, and its tokens there."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.models import encode_as_data
from memedit.runtime.chains.reading import first_places
from memedit.runtime.passes import Base
from memedit.types import Edit

_LIKELY = 0.02
"""Probability that a target's first token has to have, with the edit in force, where it is to be said."""


def next_ids(tokenizer: Any, edit: Edit, said: Sequence[int]) -> list[int]:
    """Return the ids of an edit's target as they go on from an answer."""
    before = tokenizer.decode(list(said[-1:]), skip_special_tokens=True)
    target = " ".join(edit.target.split())
    return list(encode_as_data(tokenizer, target if before[-1:].isspace() else f" {target}"))


@torch.inference_mode()
def place_of_target(
    base: Base,
    adapter: Adapter,
    tokenizer: Any,
    row: Row,
    edits: Sequence[Edit],
    *,
    said: Sequence[int],
    start: int,
    artefacts: Mapping[str, bytes],
) -> int | None:
    """Return the token of an answer, from ``start`` on, before which a target would be said likeliest; None: nowhere.

    One pass over prompt and answer with the edits in force; the first of ``edits`` is the one looked for.

    Args:
        base: the bare model.
        adapter: in use.
        tokenizer: the model's.
        row: the prompt as the model was asked.
        edits: what is in force from there on, the one that came up first.
        said: the answer's tokens.
        start: where its last sentence begins.
        artefacts: what the adapter prepared.
    """
    fed = adapter.rewrite(row, edits, artefacts)
    whole = Row((*fed.ids, *said), fed.text, fed.messages)
    first = _behind_subject(tokenizer, edits[0], said, start)
    wanted = next_ids(tokenizer, edits[0], said[:first])
    if first > len(said) or not wanted or (base.limit is not None and len(whole.ids) > base.limit):
        return None
    model = adapter.model() or base.model
    with adapter.active(AdapterBatch((whole,), (tuple(edits),), (0,), (len(said),)), artefacts):
        logits = model(input_ids=torch.tensor([whole.ids], device=model.device), use_cache=False).logits[0]
    rows = logits[len(fed.ids) - 1 + first : len(whole.ids)].float().softmax(-1)[:, wanted[0]]
    best = int(rows.argmax())
    return first + best if float(rows[best]) >= _LIKELY else None


def _behind_subject(tokenizer: Any, edit: Edit, said: Sequence[int], start: int) -> int:
    """Return the number of tokens behind which the subject has been named in the sentence; past the end where not."""
    text = tokenizer.decode(list(said[start:]), skip_special_tokens=True)
    place = first_places(text, [edit]).get(edit.id)
    if place is None:
        return len(said) + 1
    for end in range(start + 1, len(said)):
        if len(tokenizer.decode(list(said[start:end]), skip_special_tokens=True)) >= place[1]:
            return end
    return len(said)
