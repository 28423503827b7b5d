"""What tells a query that an edit answers from one that it does not, as numbers with names."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memedit.scope.classifier.batch import EditSide, QuerySide
from memedit.scope.classifier.views import BoolArray, IntArray, word_number
from memedit.types import FloatArray

FEATURES = (
    "similarity",
    "similarity_margin",
    "subject_known",
    "subject_stands",
    "subject_words",
    "subject_spelling",
    "subject_first_word",
    "subject_last_word",
    "subject_rarity",
    "subject_sim_mean",
    "subject_sim_min",
    "near_name_words",
    "relation_words",
    "relation_sim_mean",
    "relation_sim_min",
    "relation_sim_rare",
    "query_words",
    "query_sim_mean",
    "query_sim_min",
    "query_sim_rare",
    "query_new_rarity",
    "query_new_words",
    "relation_cosine",
    "whole_cosine",
    "ordered_overlap",
    "tail_match",
    "query_length",
    "edit_length",
    "prefix_length",
    "question_query",
    "question_edit",
    "negation",
    "hypothetical",
    "target_in_query",
    "other_stands",
    "other_relation",
    "subject_rivals",
)
"""Names of the features, in order. All come from text and token vectors; none sees the language model."""

TOKEN_FEATURES = ("subject", "rarity", "exact", "best", "used")
"""What the head knows of a token beside its vector: it belongs to the subject; rarity of its word; its word stands in
the other text; cosine of its best match there; it belongs to the segment."""


_NEGATION = "not never no none neither nor except other than isn doesn didn wasn aren t without cannot"
_HYPOTHETICAL = "if suppose imagine would pretend hypothetically assume assuming had"
_QUESTION = "what which who whom whose where when why how is are was were does did do can could"


@functools.cache
def _numbers(listed: str) -> frozenset[int]:
    return frozenset(word_number(word) for word in listed.split())


def _marks(ids: IntArray, listed: str) -> BoolArray:
    """Mark the words that are among ``listed``."""
    wanted = _numbers(listed)
    return np.array([number in wanted for number in ids.tolist()], np.bool_)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A query beside its ``c`` candidates: features ``[c, f]``, and what the head needs besides.

    ``edit_tokens [c, m, 5]`` and ``query_tokens [c, n, 5]`` are the :data:`TOKEN_FEATURES`.
    """

    features: FloatArray
    edit_tokens: FloatArray
    query_tokens: FloatArray


def compare(query: QuerySide, edits: EditSide, similarity: FloatArray, subjects: Sequence[str | None]) -> Comparison:
    """Compute all features of the candidates of one query, in one batch.

    Args:
        query: the query beside each candidate.
        edits: the candidates.
        similarity: cosines ``[c]`` of the sentence vectors.
        subjects: the subject of each candidate, to tell rivals that share one.
    """
    sims = _cosines(edits.tokens, query.view.tokens)
    equal: BoolArray = (edits.word_ids[:, :, None] == query.view.word_ids) & query.word_ok[:, None, :]
    values: dict[str, FloatArray] = {"similarity": similarity}
    values |= _subject_features(query, edits)
    values |= _token_matches(query, edits, sims)
    values |= _word_matches(query, edits, equal)
    values |= _form(query, edits, equal)
    values |= _rivals(values, subjects)
    features = np.stack([values[name].astype(np.float32) for name in FEATURES], axis=1)
    edit_tokens, query_tokens = _token_features(query, edits, sims, equal)
    return Comparison(features, edit_tokens, query_tokens)


def _given(ids: IntArray) -> BoolArray:
    """Mark what is not padding."""
    return np.asarray(ids > 0, np.bool_)


def _any(marks: BoolArray, axis: int) -> BoolArray:
    return np.asarray(marks.any(axis), np.bool_)


def _cosines(tokens: FloatArray, other: FloatArray) -> FloatArray:
    count, length, width = tokens.shape
    flat = _unit(tokens.reshape(-1, width)) @ _unit(other).T
    return flat.reshape(count, length, len(other))


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return vectors / np.maximum(lengths, 1e-6)


def _subject_features(query: QuerySide, edits: EditSide) -> Mapping[str, FloatArray]:
    view = query.view
    known = _given(edits.name_ids)
    stands = _any(query.word_subject, 1)
    equal = (edits.name_ids[:, :, None] == view.word_ids) & query.word_ok[:, None, :]
    exact = known & (equal.any(2) | stands[:, None])
    alike = np.where(query.word_ok[:, None, :], edits.name_letters @ view.letters.T, 0.0)
    spelling = np.where(exact, 1.0, alike.max(2, initial=0.0)) * known
    weight = edits.name_weight * known
    total = np.maximum(weight.sum(1), 1e-6)
    last = np.maximum(known.sum(1) - 1, 0)
    rows = np.arange(len(known))
    empty = known.shape[1] == 0
    zero = np.zeros(len(known), np.float32)
    return {
        "subject_known": known.any(1),
        "subject_stands": stands,
        "subject_words": (weight * exact).sum(1) / total,
        "subject_spelling": (weight * spelling).sum(1) / total,
        "subject_first_word": zero if empty else spelling[:, 0],
        "subject_last_word": zero if empty else spelling[rows, last],
        "subject_rarity": weight.max(1, initial=0.0),
        "near_name_words": _names_beside(query, equal.any(1)),
    }


def _names_beside(query: QuerySide, named: BoolArray) -> FloatArray:
    """Count rare words beside words of the subject that are not part of it ("Denmark-Norway" for "Norway")."""
    beside = np.zeros_like(named)
    beside[:, 1:] |= named[:, :-1]
    beside[:, :-1] |= named[:, 1:]
    rare = query.view.rarity > 0.6
    return np.minimum((beside & ~named & rare & query.word_ok).sum(1), 4).astype(np.float32)


def _token_matches(query: QuerySide, edits: EditSide, sims: FloatArray) -> Mapping[str, FloatArray]:
    own = edits.token_ok & ~edits.token_subject
    asked = query.token_ok & ~query.token_subject
    rarity = np.broadcast_to(query.view.token_rarity, asked.shape)
    relation = _best_match("relation", sims, own, asked, edits.token_rarity)
    back = _best_match("query", sims.transpose(0, 2, 1), asked, own, rarity)
    name = edits.token_ok & edits.token_subject
    best = np.where(query.token_ok[:, None, :], sims, -1.0).max(2, initial=-1.0)
    named = name.any(1)
    edit_tokens, query_tokens = edits.tokens, query.view.tokens
    return {
        **relation,
        **back,
        "subject_sim_mean": np.where(named, (best * name).sum(1) / np.maximum(name.sum(1), 1), 0.0),
        "subject_sim_min": np.where(named, np.where(name, best, 1.0).min(1, initial=1.0), 0.0),
        "relation_cosine": _paired_cosine(_means(edit_tokens, own), asked.astype(np.float32) @ query_tokens),
        "whole_cosine": _paired_cosine(
            _means(edit_tokens, edits.token_ok), query.token_ok.astype(np.float32) @ query_tokens
        ),
        "tail_match": _tail(sims, edits.token_ok),
    }


def _best_match(
    name: str, sims: FloatArray, rows: BoolArray, columns: BoolArray, rarity: FloatArray
) -> dict[str, FloatArray]:
    """Best match of each token of one side in the other, outside the subject: mean, worst, and the rare words'."""
    best = np.where(columns[:, None, :], sims, -1.0).max(2, initial=-1.0)
    weights = (rarity + 0.02) * rows
    some = rows.any(1) & columns.any(1)
    missing = weights * (1.5 - best)
    rarest = np.argmax(missing, axis=1) if missing.shape[1] else np.zeros(len(best), np.int64)
    at_rarest = best[np.arange(len(best)), rarest] if missing.shape[1] else np.zeros(len(best))
    return {
        f"{name}_sim_mean": np.where(some, (best * weights).sum(1) / np.maximum(weights.sum(1), 1e-6), 0.0),
        f"{name}_sim_min": np.where(some, np.where(rows, best, 1.0).min(1, initial=1.0), 0.0),
        f"{name}_sim_rare": np.where(some, at_rarest, 0.0),
    }


def _means(tokens: FloatArray, rows: BoolArray) -> FloatArray:
    return np.einsum("cmp,cm->cp", tokens, rows.astype(np.float32))


def _paired_cosine(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.einsum("cp,cp->c", _unit(first), _unit(second))


def _tail(sims: FloatArray, ok: BoolArray) -> FloatArray:
    """Cosine of the last tokens: completions end in what is asked for."""
    if not sims.shape[1] or not sims.shape[2]:
        return np.zeros(len(sims), np.float32)
    return sims[np.arange(len(sims)), np.maximum(ok.sum(1) - 1, 0), -1]


def _word_matches(query: QuerySide, edits: EditSide, equal: BoolArray) -> Mapping[str, FloatArray]:
    ours = _given(edits.word_ids) & ~edits.word_subject
    theirs = query.word_ok & ~query.word_subject
    ours_found, theirs_found = _any(equal, 2), _any(equal, 1)
    new = theirs & ~theirs_found
    rarity = query.view.rarity
    steps = (equal[:, :-1, :-1] & equal[:, 1:, 1:]).any(2).sum(1)
    return {
        "relation_words": _share(ours, ours_found, edits.rarity),
        "query_words": _share(theirs, theirs_found, np.broadcast_to(rarity, theirs.shape)),
        "query_new_rarity": (new * rarity).max(1, initial=0.0),
        "query_new_words": np.minimum(new.sum(1), 40) / 10,
        "ordered_overlap": steps / np.maximum((edits.word_ids > 0).sum(1) - 1, 1),
    }


def _share(rows: BoolArray, found: BoolArray, rarity: FloatArray) -> FloatArray:
    weights = (rarity + 0.02) * rows
    return np.where(rows.any(1), (weights * found).sum(1) / np.maximum(weights.sum(1), 1e-6), 1.0)


def _form(query: QuerySide, edits: EditSide, equal: BoolArray) -> Mapping[str, FloatArray]:
    ids = query.view.word_ids
    new = query.word_ok & ~equal.any(1)
    in_segment = query.word_ok.sum(1)
    first = np.argmax(query.word_ok, axis=1) if len(ids) else np.zeros(len(new), np.int64)
    asks = _marks(ids, _QUESTION)
    begins = edits.word_ids[:, 0] if edits.word_ids.shape[1] else np.zeros(len(new), np.int64)
    return {
        "query_length": np.minimum(in_segment, 40) / 10,
        "edit_length": np.minimum((edits.word_ids > 0).sum(1), 40) / 10,
        "prefix_length": np.minimum(len(ids) - in_segment, 40) / 10,
        "question_query": asks[first] if len(ids) else np.zeros(len(new), np.bool_),
        "question_edit": _marks(begins, _QUESTION),
        "negation": (new & _marks(ids, _NEGATION)).any(1),
        "hypothetical": (new & _marks(ids, _HYPOTHETICAL)).any(1),
        "target_in_query": _target_stands(query, edits),
    }


def _target_stands(query: QuerySide, edits: EditSide) -> BoolArray:
    """Say where all words of the target stand in the query but not all in the edit's own text."""
    known = _given(edits.target_ids)
    asked = (edits.target_ids[:, :, None] == query.view.word_ids).any(2) | ~known
    own = (edits.target_ids[:, :, None] == edits.word_ids[:, None, :]).any(2) | ~known
    return known.any(1) & asked.all(1) & ~own.all(1)


def _rivals(values: Mapping[str, FloatArray], subjects: Sequence[str | None]) -> Mapping[str, FloatArray]:
    """Compare each candidate with the others of its query."""
    similarity, relation = values["similarity"], values["relation_sim_mean"]
    stands = values["subject_stands"].astype(np.float32)
    number = {subject: i for i, subject in enumerate(dict.fromkeys(subjects))}
    group = np.array([number[subject] for subject in subjects])
    same = (group[:, None] == group) & ~np.eye(len(group), dtype=np.bool_)
    rival = np.where(same, relation, -np.inf).max(1)
    return {
        "similarity_margin": similarity - similarity.max(),
        "other_stands": np.where(group[:, None] != group, stands, 0.0).max(1),
        "other_relation": np.where(same.any(1), rival - relation, 0.0),
        "subject_rivals": np.minimum(same.sum(1), 4) / 4,
    }


def _token_features(
    query: QuerySide, edits: EditSide, sims: FloatArray, equal: BoolArray
) -> tuple[FloatArray, FloatArray]:
    view = query.view
    ours = np.concatenate([equal.any(2), np.zeros((len(equal), 1), np.bool_)], axis=1)
    theirs = np.concatenate([equal.any(1), np.zeros((len(equal), 1), np.bool_)], axis=1)
    best_edit = np.where(query.token_ok[:, None, :], sims, 0.0).max(2, initial=0.0)
    best_query = np.where(edits.token_ok[:, :, None], sims, 0.0).max(1, initial=0.0)
    exact = np.take_along_axis(ours, edits.token_word, axis=1)
    edit_side = [edits.token_subject, edits.token_rarity, exact, best_edit, edits.token_ok]
    rarity = np.broadcast_to(view.token_rarity, query.token_ok.shape)
    query_side = [query.token_subject, rarity, theirs[:, view.token_word], best_query, query.token_ok]
    return _columns(edit_side) * edits.token_ok[..., None], _columns(query_side) * query.token_ok[..., None]


def _columns(arrays: Sequence[np.ndarray]) -> FloatArray:
    return np.stack([array.astype(np.float32) for array in arrays], axis=-1)
