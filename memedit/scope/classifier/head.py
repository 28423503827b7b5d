"""The scoring head: tokens of query and edit attend to each other, what they find is compared, pooled and judged.

A small decomposable attention model (Parikh et al., 2016, arXiv 1606.01933) over the frozen encoder's token vectors,
with the readable features of :mod:`memedit.scope.classifier.features` beside what it pools. Where the edit's subject
stands in the query, and that is no running text, a small network on logit and features has the last word: it only has
to tell whether the same is asked of the subject, and has been fitted on many more relations than the data files hold.
Evaluated in NumPy.
"""

from collections.abc import Mapping

import numpy as np

from memedit.scope.classifier.batch import EditSide, QuerySide
from memedit.scope.classifier.features import FEATURES, Comparison
from memedit.scope.classifier.networks import network_logits, relation_inputs
from memedit.scope.classifier.views import BoolArray
from memedit.types import FloatArray

Weights = Mapping[str, FloatArray]
"""``embed.weight [d, p + 5]``, ``attend.weight [d, d]``, ``compare.weight [d, 4d]``, ``pool.weight [h, 8d]``,
``judge1.weight [h, h + f]``, ``judge2.weight [1, h]`` with their biases; ``feature_mean`` and ``feature_scale [f]``;
layers of the relation's network under ``relation.``, where it was fitted."""

RELATION = "relation."
_FAR = np.float32(-1e4)
_STANDS, _LENGTH = FEATURES.index("subject_stands"), FEATURES.index("query_length")
_LONG = 3.0
"""``query_length`` (tens of words) from which on a segment is running text, foreign to the relation's network."""


def head_logits(weights: Weights, query: QuerySide, edits: EditSide, comparison: Comparison) -> FloatArray:
    """Return the uncalibrated logits ``[c]`` of the candidates of one query."""
    u_edit = _embed(weights, edits.tokens, comparison.edit_tokens)
    query_tokens = np.broadcast_to(query.view.tokens, (len(u_edit), *query.view.tokens.shape))
    u_query = _embed(weights, query_tokens, comparison.query_tokens)
    attention = (_linear(weights, "attend", u_edit) @ _linear(weights, "attend", u_query).transpose(0, 2, 1)) / np.sqrt(
        np.float32(u_edit.shape[-1])
    )
    found_in_query = _softmax(attention, query.token_ok[:, None, :]) @ u_query
    found_in_edit = _softmax(attention.transpose(0, 2, 1), edits.token_ok[:, None, :]) @ u_edit
    pooled = np.concatenate(
        [
            _pool(_compare(weights, u_edit, found_in_query), edits.token_ok, edits.token_subject),
            _pool(_compare(weights, u_query, found_in_edit), query.token_ok, query.token_subject),
        ],
        axis=1,
    )
    features = standardised(weights, comparison.features)
    hidden = np.concatenate([np.maximum(_linear(weights, "pool", pooled), 0.0), features], axis=1)
    logits = _linear(weights, "judge2", np.maximum(_linear(weights, "judge1", hidden), 0.0))[:, 0]
    if f"{RELATION}out.weight" not in weights:
        return logits
    judged = network_logits(weights, relation_inputs(logits, features), under=RELATION)
    return np.where(asks_shortly(comparison.features), judged, logits)


def stands(comparison: Comparison) -> BoolArray:
    """Say of which candidates ``[c]`` the subject stands in the query."""
    return comparison.features[:, _STANDS] > 0


def asks_shortly(features: FloatArray) -> BoolArray:
    """Say of which candidates the subject stands in the query, and that in no running text; ``features [..., f]``."""
    return (features[..., _STANDS] > 0) & (features[..., _LENGTH] < _LONG)


def standardised(weights: Weights, features: FloatArray) -> FloatArray:
    """Return features ``[..., f]`` less their mean in training, over their scale there."""
    standard: FloatArray = (features - weights["feature_mean"]) / weights["feature_scale"]
    return standard


def _embed(weights: Weights, tokens: FloatArray, features: FloatArray) -> FloatArray:
    return np.tanh(_linear(weights, "embed", np.concatenate([tokens, features], axis=-1)))


def _linear(weights: Weights, name: str, x: FloatArray) -> FloatArray:
    weight = weights[f"{name}.weight"]
    flat = x.reshape(-1, x.shape[-1]) @ weight.T + weights[f"{name}.bias"]
    return flat.reshape(*x.shape[:-1], len(weight))


def _softmax(logits: FloatArray, ok: BoolArray) -> FloatArray:
    masked = np.where(ok, logits, _FAR)
    raised = np.exp(masked - masked.max(-1, keepdims=True, initial=_FAR))
    return raised / np.maximum(raised.sum(-1, keepdims=True), 1e-30)


def _compare(weights: Weights, own: FloatArray, found: FloatArray) -> FloatArray:
    joined = np.concatenate([own, found, np.abs(own - found), own * found], axis=-1)
    return np.maximum(_linear(weights, "compare", joined), 0.0)


def _pool(compared: FloatArray, ok: BoolArray, subject: BoolArray) -> FloatArray:
    """Mean and maximum over the subject's tokens and over the others, ``[c, 4d]``; 0 where there are none."""
    parts = []
    for rows in (ok & subject, ok & ~subject):
        mask = rows[..., None].astype(np.float32)
        parts.append((compared * mask).sum(1) / np.maximum(mask.sum(1), 1.0))
        parts.append((compared * mask).max(1, initial=0.0))  # compared values are >= 0
    return np.concatenate(parts, axis=1)
