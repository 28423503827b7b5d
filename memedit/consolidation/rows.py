"""From requests to rows of tokens: what comes before the edited position, and what follows from it on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import Context
from memedit.errors import InputError
from memedit.models import encode_as_data, encode_with_spans


@dataclass(frozen=True, slots=True)
class EditRow:
    """One prompt of one edit under one context.

    ``prefix`` are the prompt's tokens in front of the edited position (behind the context's), ``tail`` those from the
    edited position on: the rest of the prompt and the target without its last token. The tokens ``targets`` are
    predicted at tail positions ``scored .. scored + len(targets) - 1``.
    """

    context: int
    prefix: tuple[int, ...]
    tail: tuple[int, ...]
    scored: int
    targets: tuple[int, ...]


def edit_rows(tokenizer: Any, request: EditRequest, contexts: Sequence[Context]) -> tuple[EditRow, ...]:
    """Return the rows of a request, one a context.

    A row whose edited position would be the very first of the sequence is left out while others are there: models
    park attention on the first token, its key is the same for every text, and changing it would change them all.

    Raises:
        InputError: prompt or target have no tokens.
    """
    rows = []
    for number, context in enumerate(contexts):
        prompt, place = prompt_ids(tokenizer, request, spaced=context.spaced)
        targets = target_ids(tokenizer, request)
        if not prompt or not targets:
            raise InputError(f"edit {request.id}: its {'prompt' if not prompt else 'target'} has no tokens")
        tail = (*prompt[place:], *targets[:-1])
        rows.append(EditRow(number, tuple(prompt[:place]), tail, len(prompt) - place - 1, tuple(targets)))
    inner = tuple(row for row in rows if row.prefix or contexts[row.context].ids)
    return inner or tuple(rows)


def target_ids(tokenizer: Any, request: EditRequest) -> list[int]:
    """Return the tokens of an edit's target, and of what closes it, as they follow the prompt."""
    text = request.target.strip()
    spaced = text if request.prompt[-1:].isspace() else f" {text}"
    parts = [spaced, request.closing] if request.closing else [spaced]
    return [i for part in parts for i in encode_as_data(tokenizer, part)]


def prompt_ids(tokenizer: Any, request: EditRequest, *, spaced: bool) -> tuple[list[int], int]:
    """Return the prompt's tokens and the edited position among them: the last that holds part of the subject."""
    lead = " " if spaced else ""
    text = lead + request.prompt
    ids, spans = encode_with_spans(tokenizer, text)
    end = subject_end(request.prompt, request.subject)
    if end is None:
        return ids, len(ids) - 1
    end += len(lead)
    if spans is None:  # count the tokens of the text up to the subject's end
        inside = encode_as_data(tokenizer, text[:end])
        return ids, min(max(len(inside), 1), len(ids)) - 1
    holding = [i for i, (low, high) in enumerate(spans) if low < end and high > low]
    return ids, holding[-1] if holding else len(ids) - 1


def subject_tokens(tokenizer: Any, request: EditRequest) -> tuple[list[int], list[int]] | None:
    """Return the prompt's tokens and the places of the subject's among them, None when it does not stand there."""
    end = subject_end(request.prompt, request.subject)
    if end is None or request.subject is None:
        return None
    start = end - len(request.subject.strip())
    ids, spans = encode_with_spans(tokenizer, request.prompt)
    places = [i for i, (low, high) in enumerate(spans or ()) if low < end and high > start]
    return (ids, places) if places else None


def subject_end(prompt: str, subject: str | None) -> int | None:
    """Return the character behind the subject's last occurrence in the prompt, None when it does not stand there."""
    if subject is None or not subject.strip():
        return None
    wanted = subject.strip()
    found = prompt.rfind(wanted)
    if found < 0:
        found = prompt.casefold().rfind(wanted.casefold())
        if found >= 0 and len(prompt.casefold()) != len(prompt):
            found = -1  # folding moved the characters
    return None if found < 0 else found + len(wanted)
