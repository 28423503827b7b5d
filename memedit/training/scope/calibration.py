"""From logits to probabilities: logistic regressions on families that the network was not trained on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.words import words
from memedit.scope.judge.model import Calibration, Judge
from memedit.scope.judge.network import MASK
from memedit.scope.judge.places import (
    PARTLY,
    focused,
    named_outright,
    other_script,
    partly_named,
    referring,
    renamed,
    with_value,
)
from memedit.scope.judge.scope import MAX_READ
from memedit.scope.text import is_name
from memedit.training.scope.batches import BatchMaker
from memedit.training.scope.draws import Draws
from memedit.training.scope.inventory import Family
from memedit.training.scope.pairs import ABROAD, Pair
from memedit.training.scope.rows import RewordedRow
from memedit.training.scope.texts import AskedMemory
from memedit.types import FloatArray

_PASSING = 0.1
"""The share of other names that may pass for the subject written otherwise."""
_TALKING = 0.4
"""What the logit of talks gains: the made-up ones say more plainly than people do what they go back to."""
_UNNAMED, _FEW = 600, 40
"""At most so many rows whose subject is no name are looked at; of fewer than the second nothing can be learned."""
_SLIGHT = 1.0
"""Inverse strength of the ridge penalty."""


def calibrate_judge(
    judge: Judge,
    families: Sequence[Family],
    *,
    rows: Sequence[RewordedRow] = (),
    encoder: Encoder | None = None,
    pairs: int = 1500,
    seed: int = 1,
) -> Calibration:
    """Fit the weights of the logits and their offsets.

    Args:
        judge: the network.
        families: none of which it was trained on.
        rows: reworded prompts; those whose subject the rewording puts in other words are looked at.
        encoder: the sentence encoder, for cosines; needed with ``rows``.
        pairs: so many pairs of each form are drawn.
        seed: of the draws.
    """
    maker = BatchMaker(Draws(families, (), (), seed))
    otherwise = maker.at(10_000).pairs.named(pairs)
    abroad = [pair for pair in otherwise if pair.kind.startswith(ABROAD)]
    otherwise = [pair for pair in otherwise if not pair.kind.startswith(ABROAD)]
    talks = maker.at(20_000).pairs.talk(pairs)
    alone, both = _fit_named(judge, maker.texts.asked_memories())
    elsewhere = _fit_otherwise(judge, otherwise)
    last = _relation_logits(judge, [(referring(pair.query), pair.edit) for pair in talks])
    spoken = _fit([last, _cross_logits(judge, talks)], _labels(talks))
    return replace(
        Calibration(),
        relation=(alone[0], alone[1]),
        both=(both[0], both[1], both[2]),
        named_otherwise=(elsewhere[0], elsewhere[1], elsewhere[2], elsewhere[3]),
        unnamed=_fit_unnamed(judge, encoder, rows) if rows and encoder is not None else Calibration().unnamed,
        talk=(spoken[0], spoken[1], spoken[2] + _TALKING),
        abroad=_fit_abroad(judge, encoder, abroad) if abroad and encoder is not None else None,
    )


def _fit_unnamed(judge: Judge, encoder: Encoder, rows: Sequence[RewordedRow]) -> tuple[float, float, float]:
    """Fit what judges edits whose subject is no name: their rewordings beside those of the most similar other rows."""
    chosen = [row for row in rows if not is_name(row.subject)][:_UNNAMED]
    if len(chosen) < _FEW:
        return Calibration().unnamed
    stored, asked = (
        encoder.encode([row.prompt for row in chosen]),
        encoder.encode([row.rewordings[0] for row in chosen]),
    )
    cosines = asked @ stored.T
    pairs, found, labels = [], [], []
    for i, row in enumerate(chosen):
        others = [j for j in np.argsort(-cosines[i])[:4].tolist() if j != i]
        for j in (i, *others):
            pairs.append((row.rewordings[0], with_value(chosen[j].prompt, chosen[j].target)))
            found.append(cosines[i, j])
            labels.append(float(i == j))
    columns, wanted = [judge.pair_logits(pairs)[:, 0], np.array(found, np.float32)], np.array(labels)
    first, second, offset = _fit(columns, wanted)
    logits = first * columns[0] + second * columns[1] + offset
    return first, second, offset - max(0.0, float(np.quantile(logits[wanted == 0], 1 - _PASSING / 2)))


def _fit_abroad(judge: Judge, encoder: Encoder, pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Fit what judges queries in another script than the subject; few others may pass."""
    kept = [pair for pair in pairs if other_script(pair.subject, pair.query)]
    cosines = (encoder.encode([p.query for p in kept]) * encoder.encode([p.edit for p in kept])).sum(1)
    columns, labels = [_cross_logits(judge, kept), cosines], _labels(kept)
    first, second, offset = _fit(columns, labels)
    logits = first * columns[0] + second * columns[1] + offset
    return first, second, offset - max(0.0, float(np.quantile(logits[labels == 0], 1 - _PASSING / 2)))


def _fit_otherwise(judge: Judge, pairs: Sequence[Pair]) -> list[float]:
    """Fit what judges subjects that a query names otherwise; few other names may pass for one."""
    found = [partly_named(pair.subject, words(pair.query), pair.query) for pair in pairs]
    hidden = [(query, pair.edit.replace(pair.subject, MASK)) for (_, query), pair in zip(found, pairs, strict=True)]
    shares = np.array([share for share, _ in found], np.float32)
    columns = [_relation_logits(judge, hidden), _cross_logits(judge, pairs), shares]
    renames = [renamed(pair.subject, words(pair.query), pair.query) for pair in pairs]
    outright = [_named_outright(judge, pair) for pair in pairs]  # judged like names that stand as they are stored
    kept = (shares >= PARTLY) & ~np.array(renames) & ~np.array(outright)
    *weights, offset = _fit([column[kept] for column in columns], _labels(pairs)[kept])
    logits = np.stack(columns, 1) @ np.array(weights) + offset
    others = logits[kept & (_labels(pairs) == 0)]
    return [*weights, offset - max(0.0, float(np.quantile(others, 1 - _PASSING)))]


def _named_outright(judge: Judge, pair: Pair) -> bool:
    return named_outright(pair.subject, pair.edit, words(pair.query), pair.query, judge.is_rare) is not None


def _fit_named(judge: Judge, asked: Sequence[AskedMemory]) -> tuple[list[float], list[float]]:
    """Fit what judges edits whose subject stands in the query: by the relation encoder alone, and by both heads.

    A question meets all edits of its subject, and one that fires wrongly is enough. So each offset is set where as
    large a share of the questions that an edit answers is lost as of the others fires some edit.
    """
    pairs = [Pair(one.query, text, float(i == one.wanted), "", value=value)
             for one in asked for i, (text, value) in enumerate(one.edits)]  # fmt: skip
    groups = np.repeat(np.arange(len(asked)), [len(one.edits) for one in asked])
    wanted = np.array([one.wanted is not None for one in asked])
    labels, relation = _labels(pairs), _relation_logits(judge, [(pair.query, pair.edit) for pair in pairs])
    alone = _evened(_fit([relation], labels), [relation], labels, groups, wanted)
    read = _nearest(relation, groups)
    cross = _cross_logits(judge, [pairs[i] for i in read])
    columns = [relation[read], cross]
    return alone, _evened(_fit(columns, labels[read]), columns, labels[read], groups[read], wanted)


def _nearest(relation: FloatArray, groups: np.ndarray) -> np.ndarray:
    """Return the places of those edits of each question that are read: the nearest."""
    order = np.lexsort((-relation, groups))
    rank = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    return np.sort(order[rank < MAX_READ])


def _evened(
    fitted: Sequence[float], columns: Sequence[FloatArray], labels: np.ndarray, groups: np.ndarray, wanted: np.ndarray
) -> list[float]:
    """Return the weights with the offset at which both kinds of question go wrong equally often."""
    *weights, offset = fitted
    logits = np.stack(columns, 1) @ np.array(weights) + offset
    best = np.full(len(wanted), -np.inf)
    np.maximum.at(best, groups, logits)
    right = np.zeros(len(wanted), dtype=bool)
    right[groups[(logits >= best[groups]) & (labels > 0)]] = True
    own, others = np.where(right, best, -np.inf)[wanted], best[~wanted]
    levels = np.sort(best[np.isfinite(best)])
    errors = [abs(float(np.mean(own < level)) - float(np.mean(others >= level))) for level in levels]
    return [*weights, offset - float(levels[int(np.argmin(errors))])]


def _relation_logits(judge: Judge, pairs: Sequence[tuple[str, str]]) -> FloatArray:
    scale, shift = judge.scale
    texts = list(dict.fromkeys(focused(text) for pair in pairs for text in pair))
    place = {text: i for i, text in enumerate(texts)}
    vectors = judge.vectors(texts)
    first, second = (vectors[[place[focused(pair[side])] for pair in pairs]] for side in (0, 1))
    return scale * (first * second).sum(-1) + shift


def _cross_logits(judge: Judge, pairs: Sequence[Pair]) -> FloatArray:
    return judge.pair_logits([(pair.query, pair.stored) for pair in pairs])[:, 0]


def _labels(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([pair.label for pair in pairs])


def _fit(columns: Sequence[FloatArray], labels: np.ndarray) -> list[float]:
    """Return the weight of each column and the offset; both labels weigh the same in sum."""
    from sklearn.linear_model import LogisticRegression

    found: Any = LogisticRegression(C=_SLIGHT, class_weight="balanced").fit(np.stack(columns, 1), labels)
    return [*map(float, found.coef_[0]), float(found.intercept_[0])]
