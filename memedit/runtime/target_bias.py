"""Saying a target to the letter: a row's next-token distribution, mixed with what its edit says next.

As long as an answer is the beginning of its edit's target, ``p = (1 - w) p_model + w p_edit``, where ``p_edit`` is
certain of the target's next token, and of the end token behind the last one: kNN-LM's interpolation (arXiv
1911.00172, equation 3) with the fired edit as the one neighbour. ``w`` is the adapter's weight times the scope's
probability that the target is what is asked for: it settles what the model is undecided about ("Christian faith" for
"Christianity") and leaves it free where the answer is to follow from the edit. An answer that begins otherwise is the
model's own from there on. For a verbatim prompt there is nothing to be undecided about: the target follows. Nor does
an answer that an edit is to give begin by ending or with a new line, as models like to go on from a bare question.

A target with a layout (line breaks, tabs, runs of blanks) is long, and a model that reads it on one line says it on one
line. What the model would put in the place of a line break (one blank, nothing, the end of the answer) therefore counts
as saying it. And ``w`` follows what has been said, by Bayes' rule: the less likely the model held it, the surer it is
that the target is being said, so that it is said whole with at least its first weight, however long it is. An answer
that has come through a line break or a run of blanks of its target is that target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import LogitsProcessor

from memedit.adapters.base import Adapter, MixesTargets, Row
from memedit.models import encode_as_data
from memedit.models.token_rows import answer_ids
from memedit.runtime.layout import has_layout, same_but_for_layout
from memedit.scope.identity import is_verbatim
from memedit.scope.text import folded_text
from memedit.types import Hit

VERBATIM = 0.99
"""Weight of the edit where the query is its own prompt or a stored paraphrase."""

_BLANKS = (" ", "  ", "\t", "\n", "\n\n", "\n\n\n", " \n", " \n\n", "\r\n")
SUREST = 1.0 - 1e-6
"""No weight is more than this: what the model holds never counts for nothing."""

_HELD_BACK = 20.0
"""Nats by which an answer is kept from beginning with nothing; finite, so that a caller who allows nothing else can."""


@dataclass(frozen=True, slots=True)
class Due:
    """The token that a target asks for next.

    ``barred`` are tokens that are not to come here; ``meant`` count as the token, and do not come either.
    """

    token: int
    barred: Sequence[int] = ()
    meant: Sequence[int] = ()


class Prior(Protocol):
    """What the decoding of one answer is mixed with."""

    def due(self, said: Sequence[int]) -> Due | None:
        """Return what is due behind the answer so far, None for nothing."""

    def hear(self, at: int, logprob: float) -> None:
        """Take down how likely (nats) the model held the token that was due behind ``at`` tokens."""

    def weight_at(self, at: int) -> float:
        """Return the weight in (0, 1) of the token that is due behind ``at`` tokens."""


@dataclass(frozen=True, slots=True)
class TargetPrior:
    """What a row's decoding is mixed with.

    ``ids`` are the token ids of a target as they follow the prompt, end token included; ``weight`` in (0, 1) is the
    edit's before anything is said; ``blanks`` are tokens that no answer is to begin with; ``meant`` holds, by place,
    tokens that say the same as the target's, but for its layout. With ``laid_out`` the weight follows what has been
    said; ``heard`` keeps how likely the model held each token of the target (nats) once it has come to it.
    """

    ids: tuple[int, ...]
    weight: float
    blanks: tuple[int, ...] = ()
    meant: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    laid_out: bool = False
    heard: dict[int, float] = field(default_factory=dict, compare=False)

    def next(self, said: Sequence[int]) -> int | None:
        """Return the token that follows the answer so far, None when that is no beginning of the target."""
        at = len(said)
        return self.ids[at] if at < len(self.ids) and tuple(said) == self.ids[:at] else None

    def due(self, said: Sequence[int]) -> Due | None:
        """Return what is due behind the answer so far."""
        token, at = self.next(said), len(said)
        if token is None:
            return None
        return Due(token, () if at else self.blanks, self.meant.get(at, ()))

    def hear(self, at: int, logprob: float) -> None:
        """Take down how likely the model held the target's token at this place."""
        self.heard[at] = logprob

    def weight_at(self, at: int) -> float:
        """Return the edit's weight once the first ``at`` tokens of the target have been said."""
        if not self.laid_out:
            return self.weight
        first = max(self.weight, VERBATIM) if any(place < at for place in self.meant) else self.weight
        alone = math.exp(sum(self.heard.get(place, 0.0) for place in range(at)))
        return min(first / (first + (1.0 - first) * alone), SUREST)


def mixed(scores: Tensor, rows: Sequence[Prior | None], said: Sequence[Sequence[int]]) -> Tensor:
    """Return scores ``[n, v]`` with each row's target mixed in, as log probabilities.

    Args:
        scores: logits or log probabilities; they are left as they are.
        rows: what each row is mixed with, None for nothing.
        said: the ids of each row's answer so far.

    Rows whose answer has left its target come out as they went in, and so does a token that the caller has ruled out
    (a score of -inf).
    """
    asked = [(row, own, own.due(said[row])) for row, own in enumerate(rows) if own is not None]
    places = [(row, own, due) for row, own, due in asked if due is not None]
    if not places:
        return scores
    at, tokens = [row for row, *_ in places], [due.token for *_, due in places]
    found = scores[at].float()
    for number, (_, _, due) in enumerate(places):
        if due.barred:
            found[number, list(due.barred)] -= _HELD_BACK
    found = found.log_softmax(-1)
    for number, (_, _, due) in enumerate(places):
        if due.meant:
            _count_as(found[number], due.token, due.meant)
    alone = found[range(len(at)), tokens]
    for (row, own, _), logprob in zip(places, alone.tolist(), strict=True):
        own.hear(len(said[row]), logprob)
    share = torch.tensor([own.weight_at(len(said[row])) for row, own, _ in places], device=scores.device)
    found += torch.log1p(-share)[:, None]
    kept = torch.logaddexp(alone + torch.log1p(-share), share.log())
    found[range(len(at)), tokens] = torch.where(alone.isneginf(), alone, kept)
    changed = scores.clone()
    changed[at] = found.to(scores.dtype)
    return changed


def _count_as(logprobs: Tensor, token: int, others: Sequence[int]) -> None:
    """Give what ``others`` have of a distribution to ``token``, in place, unless the caller has ruled that one out."""
    if not bool(logprobs[token].isneginf()):
        logprobs[token] = logprobs[[token, *others]].logsumexp(0)
        logprobs[list(others)] = float("-inf")


def target_prior(adapter: Adapter, tokenizer: Any, row: Row, fired: Sequence[Hit], *, chat: bool) -> TargetPrior | None:
    """Return what a row is to be mixed with; None unless just one edit fires, under an adapter that mixes targets.

    Args:
        adapter: the adapter in use.
        tokenizer: the model's tokenizer.
        row: the row as the caller gave it.
        fired: what fires on it.
        chat: whether the answer begins a turn of its own, so that no space comes before it.
    """
    if len(fired) != 1 or not isinstance(adapter, MixesTargets) or adapter.target_weight == 0.0:
        return None
    (hit,) = fired
    edit = hit.edit
    ids = answer_ids(tokenizer, row.text, edit.target, chat=chat, ends=True)
    if not ids:
        return None
    weight = weight_of(adapter, row, hit)
    blanks = tuple(token for token in blank_tokens(tokenizer) if token != ids[0])  # a space may be a token of its own
    meant = same_but_for_layout(tokenizer, edit.target, tuple(ids))
    return TargetPrior(tuple(ids), weight, blanks, meant, laid_out=has_layout(edit.target))


def weight_of(adapter: MixesTargets, row: Row, hit: Hit) -> float:
    """Return the weight of an edit's target in the answer to a row on which it fires."""
    return VERBATIM if is_verbatim(folded_text(row.text), hit.edit) else adapter.target_weight * hit.target_probability


@lru_cache(maxsize=8)
def blank_tokens(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens and the common tokens of nothing but white space."""
    spaces = [encode_as_data(tokenizer, text) for text in _BLANKS]
    return tuple(sorted({*tokenizer.all_special_ids, *(ids[0] for ids in spaces if len(ids) == 1)}))


class TargetMixer(LogitsProcessor):
    """Mixes the rows of a ``generate`` call; beams and samples of a row stand next to each other.

    Args:
        rows: what each row is mixed with, None for those that are left alone.
        width: columns of the prompt that was fed.
    """

    def __init__(self, rows: Sequence[Prior | None], width: int) -> None:
        self._rows, self._width = rows, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores ``[rows * repeats, v]`` with each row's own target mixed in."""
        repeats = scores.shape[0] // len(self._rows)
        rows = [own for own in self._rows for _ in range(repeats)]
        return mixed(scores, rows, input_ids[:, self._width :].tolist())
