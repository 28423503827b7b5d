"""One query's candidates as padded arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memedit.scope.classifier.views import BoolArray, EditView, IntArray, Span, TextView, cut, inside, sentence_start
from memedit.types import FloatArray

MAX_QUERY_TOKENS = 64
"""Longer queries are looked at in windows."""


@dataclass(frozen=True, slots=True)
class EditSide:
    """``c`` texts of edits, padded to ``m`` tokens, ``w`` words, ``s`` subject words, ``g`` target words."""

    tokens: FloatArray  # [c, m, p]
    token_ok: BoolArray  # [c, m]
    token_subject: BoolArray
    token_rarity: FloatArray
    token_word: IntArray  # index into words; w (one past the end) for punctuation and padding
    word_ids: IntArray  # [c, w], 0 pads
    word_subject: BoolArray
    rarity: FloatArray
    name_ids: IntArray  # [c, s], 0 pads
    name_weight: FloatArray
    name_letters: FloatArray  # [c, s, 96]
    target_ids: IntArray  # [c, g], 0 pads


@dataclass(frozen=True, slots=True)
class QuerySide:
    """The query beside each of ``c`` candidates: shared arrays, and masks for the segment and subject of each.

    ``token_ok [c, n]`` marks the tokens of the segment that speaks about the candidate's subject, ``token_subject``
    those of the subject itself; the same for words.
    """

    view: TextView
    token_ok: BoolArray
    token_subject: BoolArray
    word_ok: BoolArray
    word_subject: BoolArray


def stack_edits(edits: Sequence[EditView]) -> EditSide:
    """Pad the views of candidate edits into arrays."""
    views = [edit.view for edit in edits]
    width = max((len(view.word_ids) for view in views), default=0)
    token_ok = _pad([np.ones(len(view.spans), np.bool_) for view in views])
    return EditSide(
        tokens=_pad([view.tokens for view in views]),
        token_ok=token_ok,
        token_subject=_pad([edit.subject_tokens for edit in edits]),
        token_rarity=_pad([view.token_rarity for view in views]),
        token_word=_pad([np.where(view.token_word < 0, width, view.token_word) for view in views], width),
        word_ids=_pad([view.word_ids for view in views]),
        word_subject=_pad([edit.subject_words for edit in edits]),
        rarity=_pad([view.rarity for view in views]),
        name_ids=_pad([edit.name_ids for edit in edits]),
        name_weight=_pad([edit.name_rarity for edit in edits]),
        name_letters=_pad([edit.name_letters for edit in edits]),
        target_ids=_pad([edit.target_ids for edit in edits]),
    )


def query_side(view: TextView, subjects: Sequence[Span | None]) -> QuerySide:
    """Mark, for each candidate, the segment of the query that speaks about its subject.

    The segment is the subject's sentence and all that follows: unrelated sentences in front of a question go. A
    candidate whose subject does not stand in the query gets the whole query.
    """
    begins = {span: sentence_start(view.text, span[0]) if span else 0 for span in dict.fromkeys(subjects)}
    tokens = {span: view.spans[:, 0] >= begin for span, begin in begins.items()}
    words = {span: view.word_spans[:, 0] >= begin for span, begin in begins.items()}
    return QuerySide(
        view=view,
        token_ok=np.stack([tokens[span] for span in subjects]),
        token_subject=np.stack([inside(view.spans, span) for span in subjects]),
        word_ok=np.stack([words[span] for span in subjects]),
        word_subject=np.stack([inside(view.word_spans, span) for span in subjects]),
    )


def _pad(arrays: Sequence[np.ndarray], fill: int = 0) -> np.ndarray:
    longest = max(len(array) for array in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out


def windows(view: TextView, subjects: Sequence[Span | None]) -> list[tuple[TextView, list[int]]]:
    """Cut a long query into one window per subject, with the numbers of the candidates that it serves.

    A query of at most ``MAX_QUERY_TOKENS`` tokens is one window. In a longer one the window of a candidate begins at
    the sentence of its subject; without a subject it is the end of the query, where the question stands.
    """
    if len(view.spans) <= MAX_QUERY_TOKENS:
        return [(view, list(range(len(subjects))))]
    groups: dict[Span | None, list[int]] = {}
    for number, span in enumerate(subjects):
        groups.setdefault(span, []).append(number)
    return [(_window(view, span), numbers) for span, numbers in groups.items()]


def _window(view: TextView, span: Span | None) -> TextView:
    if span is None:
        return cut(view, 0, MAX_QUERY_TOKENS, last=True)
    before = np.flatnonzero(view.spans[:, 0] >= span[0] - 4 * MAX_QUERY_TOKENS // 2)
    begin = max(sentence_start(view.text, span[0]), int(view.spans[before[0], 0]) if len(before) else 0)
    return cut(view, begin, MAX_QUERY_TOKENS)
