"""How direct a question is: a small network that tells rewordings of an edit from questions one step further.

"Who is the sister of X's mayor?" falls under the edit that names the mayor, but is not answered by it. Both are in
scope, so the score does not tell them apart; the features behind it do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from memedit.scope.classifier.head import Weights, head_logits, standardised
from memedit.scope.classifier.networks import network_logits
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.examples import SimulatedMemory
from memedit.workflows.scope_training.judging import auc
from memedit.workflows.scope_training.rows import EditRow
from memedit.workflows.scope_training.small_networks import fit_network

HOP = "hop"
DIRECT_SHARE = 0.75
"""Share of direct questions that probabilities are stated for: people reword more than they reason."""


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question that its own edit is the best candidate for, with the features ``[f]`` of the pair."""

    source: str
    kind: str
    features: FloatArray

    @property
    def direct(self) -> bool:
        """Whether the edit's target is the answer."""
        return self.kind != HOP


def asked_questions(
    head: Weights, memory: SimulatedMemory, rows: Sequence[EditRow], wanted: Callable[[EditRow], bool]
) -> list[AskedQuestion]:
    """Return the questions inside the ``wanted`` rows, with all ``rows`` in memory; verbatim prompts are left out."""
    asked = []
    for row in filter(wanted, rows):
        own = normalise(row.prompt)
        for kind, text in row.inside:
            found = memory.candidates(text)
            query, edits, comparison = memory.compare(text, found)
            best = int(np.argmax(head_logits(head, query, edits, comparison)))
            if normalise(rows[found[best].row].prompt) == own != normalise(text):
                asked.append(AskedQuestion(row.source, kind, comparison.features[best]))
    return asked


def fit_directness(head: Weights, asked: Sequence[AskedQuestion], *, seed: int) -> Weights | None:
    """Return the layers of a small network on the features (:func:`memedit.scope.classifier.networks.network_logits`).

    None when there are not both kinds of question. A group (file and kind) of n questions weighs sqrt(n); direct ones
    have ``DIRECT_SHARE`` of all weight.
    """
    labels = np.array([question.direct for question in asked], np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    sizes = Counter((question.source, question.kind) for question in asked)
    weights = np.array([sizes[question.source, question.kind] ** -0.5 for question in asked])
    for label, share in ((1.0, DIRECT_SHARE), (0.0, 1 - DIRECT_SHARE)):
        weights[labels == label] *= share / weights[labels == label].sum()
    return fit_network(_standard(head, asked), labels, weights, seed=seed)


def directness_auc(direct: Weights, head: Weights, asked: Sequence[AskedQuestion]) -> float:
    """Return the probability that a direct question comes out as more direct than another; NaN without both kinds."""
    sides: dict[bool, list[float]] = {True: [], False: []}
    if not asked:
        return float("nan")
    for question, logit in zip(asked, network_logits(direct, _standard(head, asked)), strict=True):
        sides[question.direct].append(float(logit))
    return auc(sides[True], sides[False])


def _standard(head: Weights, asked: Sequence[AskedQuestion]) -> FloatArray:
    return standardised(head, np.stack([question.features for question in asked]))
