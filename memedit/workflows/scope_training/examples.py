"""From labelled queries to what the head is trained on: each query beside candidates of a simulated memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memedit.index.subjects import SubjectIndex
from memedit.scope.classifier.batch import MAX_QUERY_TOKENS, EditSide, QuerySide, query_side, stack_edits, windows
from memedit.scope.classifier.features import Comparison, compare
from memedit.scope.classifier.views import EditView, Span, edit_view
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.queries import TrainingQuery
from memedit.workflows.scope_training.relations import SLOT, Relations, template_of
from memedit.workflows.scope_training.rows import EditRow
from memedit.workflows.scope_training.texts import EncodedTexts

NEIGHBOURS = 8
LIMIT = 16
RIGHT, WRONG, UNKNOWN = 1, 0, -1
_MASK = "it"


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate: its row, the cosine, and where its subject stands in the query."""

    row: int
    similarity: float
    span: Span | None


class SimulatedMemory:
    """Rows in memory: finds candidates as the edit memory does and compares queries with them."""

    def __init__(self, rows: Sequence[EditRow], texts: EncodedTexts, rarity: WordRarity) -> None:
        self._rows = rows
        self._texts = texts
        self._rarity = rarity
        self._vectors = np.stack([texts.vector(row.prompt) for row in rows])
        self._subjects = SubjectIndex()
        self._subjects.add_many((i, row.subject) for i, row in enumerate(rows) if row.subject)
        self._views: dict[tuple[int, bool], EditView] = {}

    def candidates(self, text: str) -> list[Found]:
        """Return the edits whose subject stands in the query, then the nearest ones by cosine."""
        similarity = self._vectors @ self._texts.vector(text)
        spans = {match.id: (match.start, match.end) for match in self._subjects.find(text)}
        count = min(NEIGHBOURS, len(similarity))
        nearest = np.argpartition(-similarity, count - 1)[:count]
        nearest = nearest[np.lexsort((nearest, -similarity[nearest]))]
        chosen = list(dict.fromkeys([*spans, *nearest.tolist()]))[:LIMIT]
        return [Found(row, float(similarity[row]), spans.get(row)) for row in chosen]

    def is_long(self, text: str) -> bool:
        """Say whether a query is looked at in windows."""
        return len(self._texts.view(text).spans) > MAX_QUERY_TOKENS

    def with_row(self, text: str, found: Sequence[Found], row: int) -> list[Found]:
        """Return candidates that surely hold ``row``."""
        if any(item.row == row for item in found):
            return list(found)
        return [*found, Found(row, float(self._vectors[row] @ self._texts.vector(text)), None)]

    def compare(
        self, text: str, found: Sequence[Found], *, named: bool = True
    ) -> tuple[QuerySide, EditSide, Comparison]:
        """Compare a query with candidates; of a long query the first subject's window counts.

        With ``named=False`` the edits are taken to have no subject.
        """
        view = self._texts.view(text)
        spans = [item.span if named else None for item in found]
        window, _ = windows(view, spans)[0]
        side, edits = query_side(window, spans), stack_edits([self._view(item.row, named) for item in found])
        similarity = np.array([item.similarity for item in found], np.float32)
        names = [(self._rows[item.row].subject if named else None) or str(item.row) for item in found]
        return side, edits, compare(side, edits, similarity, names)

    def _view(self, row: int, named: bool) -> EditView:
        if (row, named) not in self._views:
            edit = self._rows[row] if named else replace(self._rows[row], subject=None)
            view = self._texts.view(edit.prompt, letters=False)
            self._views[row, named] = edit_view(edit, view, self._rarity)
        return self._views[row, named]


def surely_other(
    queries: Sequence[TrainingQuery], rows: Sequence[EditRow], vector: Callable[[str], FloatArray], *, limit: float
) -> list[TrainingQuery]:
    """Drop made questions about another relation whose wording, without the subject, is too near the edit's own.

    ``vector`` returns the sentence vector of a text that :func:`masked_texts` lists.
    """
    kept = []
    for query in queries:
        masked = masked_texts(query, rows)
        if not masked or float(vector(masked[0]) @ vector(masked[1])) < limit:
            kept.append(query)
    return kept


def masked_texts(query: TrainingQuery, rows: Sequence[EditRow]) -> tuple[str, ...]:
    """Return a made question about another relation and the edit's prompt without their subject; else nothing."""
    if not query.group.endswith("/other relation") or query.wrong is None or query.template is None:
        return ()
    prompt = template_of(rows[query.wrong].prompt, rows[query.wrong].subject)
    return (query.template.replace(SLOT, _MASK), (prompt or "").replace(SLOT, _MASK))


def label(query: TrainingQuery, found: Found, rows: Sequence[EditRow], relations: Relations) -> int:
    """Say whether the query falls under a candidate; ``UNKNOWN`` where the data cannot tell."""
    if found.row in (query.right, query.also):
        return RIGHT
    if found.row == query.wrong:
        return WRONG
    known = query.right if query.right is not None else query.wrong
    if known is None:
        # the data calls it unrelated to its own row only: another edit on a subject in it may be meant
        return WRONG if found.span is None else UNKNOWN
    row, reference = rows[found.row], rows[known]
    if normalise(row.prompt) == normalise(reference.prompt):
        return UNKNOWN
    if normalise(row.subject or "") != normalise(reference.subject or ""):
        return WRONG
    return UNKNOWN if relations.may_ask(query.template, relations.group(row)) else WRONG


@dataclass(frozen=True, slots=True)
class Judged:
    """A query beside the candidates chosen for training: ``chosen`` are their places among the compared ones."""

    query: int
    found: Sequence[Found]
    labels: Sequence[int]
    chosen: Sequence[int]
    query_side: QuerySide
    edits: EditSide
    comparison: Comparison


def judged_queries(
    memory: SimulatedMemory,
    rows: Sequence[EditRow],
    relations: Relations,
    queries: Sequence[TrainingQuery],
    *,
    negatives: int,
    seed: int,
) -> Iterator[Judged]:
    """Yield each query with its right candidate and its ``negatives`` hardest wrong ones.

    In three of ten queries a random part of the other candidates is hidden: memories are of all sizes. In one of
    eight the edits are taken to have no subject: not all edits have one that can be found.
    """
    rng = np.random.default_rng(seed)
    for number, query in enumerate(queries):
        known = query.right if query.right is not None else query.wrong
        found = memory.candidates(query.text)
        if known is not None:
            found = memory.with_row(query.text, found, known)
        if rng.random() < 0.3:
            found = [item for item in found if item.row == known or rng.random() < 0.4]
        named = rng.random() >= 0.125
        labels = [label(query, item, rows, relations) for item in found]
        chosen = _hardest(found, labels, known, negatives)
        if chosen:
            side, edits, comparison = memory.compare(query.text, found, named=named)
            yield Judged(number, found, labels, chosen, side, edits, comparison)


def _hardest(found: Sequence[Found], labels: Sequence[int], known: int | None, negatives: int) -> list[int]:
    own = [i for i, item in enumerate(found) if item.row == known and labels[i] != UNKNOWN]
    wrong = [i for i in range(len(found)) if labels[i] == WRONG and i not in own]
    wrong.sort(key=lambda i: (found[i].span is None, -found[i].similarity))
    return own + wrong[:negatives]
