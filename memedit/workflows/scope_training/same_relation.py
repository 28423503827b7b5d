"""Whether a query asks the same of a subject as an edit does, judged anew from the head's logit and the features.

The head is fitted on data files that hold few relations and takes some pairs it never saw for one, others for two. A
small network above it is fitted on their questions and on those of made-up edits over many more relations.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from memedit.scope.classifier.cross_encoder import Pair, masked_pair
from memedit.scope.classifier.head import RELATION, Weights, head_logits, standardised, stands
from memedit.scope.classifier.networks import relation_inputs
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.attributes import MADE
from memedit.workflows.scope_training.examples import RIGHT, UNKNOWN, Judged
from memedit.workflows.scope_training.queries import TrainingQuery
from memedit.workflows.scope_training.rows import EditRow
from memedit.workflows.scope_training.small_networks import fit_network

_OWN, _MADE_REWORDING, _MADE_OTHER, _DERIVED = 8.0, 2.0, 1.0, 0.5
"""What questions count: the files' own, made-up edits' rewordings and other ones, and questions made from all these."""


@dataclass(frozen=True, slots=True)
class RelationPair:
    """A query beside an edit whose subject stands in it: logit of the head, features ``[f]``, and the label.

    ``texts`` are both with the subject masked.
    """

    group: str
    logit: float
    features: FloatArray
    right: bool
    texts: Pair


def without_relation(head: Weights) -> Weights:
    """Return the head without the relation's network."""
    return {name: array for name, array in head.items() if not name.startswith(RELATION)}


def with_gain(head: Weights, gain: float) -> Weights:
    """Return the head with the logits of its relation's network, where it has one, raised by ``gain``."""
    bias = f"{RELATION}out.bias"
    return {**head, bias: head[bias] + np.float32(gain)} if bias in head else head


def relation_pairs(
    head: Weights,
    judged: Iterable[Judged],
    rows: Sequence[EditRow],
    queries: Sequence[TrainingQuery],
    *,
    undecided: float,
) -> Iterator[RelationPair]:
    """Yield the pairs of judged queries whose subject stands there; verbatim prompts are left out.

    Of a locality prompt the data says that it is unrelated to its own row alone. Another row whose subject stands
    there is not meant either where the head's logit is below ``undecided``; where it is above, nobody can tell.
    """
    for item in judged:
        query = queries[item.query]
        asked = normalise(query.text)
        logits = head_logits(head, item.query_side, item.edits, item.comparison)
        named = stands(item.comparison)
        for place, (found, label) in enumerate(zip(item.found, item.labels, strict=True)):
            if not named[place] or normalise(rows[found.row].prompt) == asked:
                continue
            unrelated = query.right is None and query.wrong is None and logits[place] < undecided
            if label == UNKNOWN and not unrelated:
                continue
            features, row = item.comparison.features[place], rows[found.row]
            texts = masked_pair(query.text, found.span or (0, 0), row.prompt, row.subject or "")
            yield RelationPair(query.group, float(logits[place]), features, label == RIGHT, texts)


def fit_relation(
    head: Weights, pairs: Sequence[RelationPair], *, undecided: float, slope: float, seed: int
) -> Weights | None:
    """Return ``head`` with the network that has the last word where the subject stands; None without both labels.

    A group of n pairs with one label weighs sqrt(n), times what its kind counts. The network's logits are
    put on the head's scale: where it cannot tell they are ``undecided``, and calibration multiplies them by ``slope``.
    """
    labels = np.array([pair.right for pair in pairs], np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    sizes = Counter((pair.group, pair.right) for pair in pairs)
    weights = np.array([question_weight(pair.group) * sizes[pair.group, pair.right] ** -0.5 for pair in pairs])
    features = standardised(head, np.stack([pair.features for pair in pairs]))
    inputs = relation_inputs(np.array([pair.logit for pair in pairs], np.float32), features)
    layers = dict(fit_network(inputs, labels, weights / weights.sum(), seed=seed))
    layers["out.weight"] = layers["out.weight"] / np.float32(slope)
    layers["out.bias"] = layers["out.bias"] / np.float32(slope) + np.float32(undecided)
    return {**without_relation(head), **{RELATION + name: array for name, array in layers.items()}}


def question_weight(group: str) -> float:
    """Return what one question of a group counts."""
    source, _, kind = group.partition("/")
    if source == MADE:
        return _MADE_REWORDING if kind == "paraphrase" else _MADE_OTHER
    return _OWN if kind in ("paraphrase", "alias", "specificity") else _DERIVED
