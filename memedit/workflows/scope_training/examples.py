"""From labelled queries to what the head is trained on: each query beside candidates of a simulated memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from memedit.index.subjects import SubjectIndex
from memedit.scope.classifier.batch import EditSide, QuerySide, query_side, stack_edits, windows
from memedit.scope.classifier.features import Comparison, compare
from memedit.scope.classifier.views import EditView, Span, edit_view
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.scope.text import normalise
from memedit.workflows.scope_training.queries import TrainingQuery
from memedit.workflows.scope_training.relations import Relations
from memedit.workflows.scope_training.rows import EditRow
from memedit.workflows.scope_training.texts import EncodedTexts

NEIGHBOURS = 8
LIMIT = 16
RIGHT, WRONG, UNKNOWN = 1, 0, -1


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
        self._views: dict[int, EditView] = {}

    def candidates(self, text: str) -> list[Found]:
        """Return the edits whose subject stands in the query, then the nearest ones by cosine."""
        similarity = self._vectors @ self._texts.vector(text)
        spans = {match.id: (match.start, match.end) for match in self._subjects.find(text)}
        count = min(NEIGHBOURS, len(similarity))
        nearest = np.argpartition(-similarity, count - 1)[:count]
        nearest = nearest[np.lexsort((nearest, -similarity[nearest]))]
        chosen = list(dict.fromkeys([*spans, *nearest.tolist()]))[:LIMIT]
        return [Found(row, float(similarity[row]), spans.get(row)) for row in chosen]

    def with_row(self, text: str, found: Sequence[Found], row: int) -> list[Found]:
        """Return candidates that surely hold ``row``."""
        if any(item.row == row for item in found):
            return list(found)
        return [*found, Found(row, float(self._vectors[row] @ self._texts.vector(text)), None)]

    def compare(self, text: str, found: Sequence[Found]) -> tuple[QuerySide, EditSide, Comparison]:
        """Compare a query with candidates; of a long query the first subject's window counts."""
        view = self._texts.view(text)
        spans = [item.span for item in found]
        window, _ = windows(view, spans)[0]
        side, edits = query_side(window, spans), stack_edits([self._view(item.row) for item in found])
        similarity = np.array([item.similarity for item in found], np.float32)
        names = [self._rows[item.row].subject or str(item.row) for item in found]
        return side, edits, compare(side, edits, similarity, names)

    def _view(self, row: int) -> EditView:
        if row not in self._views:
            edit = self._rows[row]
            self._views[row] = edit_view(edit, self._texts.view(edit.prompt, letters=False), self._rarity)
        return self._views[row]


def label(query: TrainingQuery, found: Found, rows: Sequence[EditRow], relations: Relations) -> int:
    """Say whether the query falls under a candidate; ``UNKNOWN`` where the data cannot tell."""
    if found.row == query.right:
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

    In three of ten queries a random part of the other candidates is hidden: memories are of all sizes.
    """
    rng = np.random.default_rng(seed)
    for number, query in enumerate(queries):
        known = query.right if query.right is not None else query.wrong
        found = memory.candidates(query.text)
        if known is not None:
            found = memory.with_row(query.text, found, known)
        if rng.random() < 0.3:
            found = [item for item in found if item.row == known or rng.random() < 0.4]
        labels = [label(query, item, rows, relations) for item in found]
        chosen = _hardest(found, labels, known, negatives)
        if chosen:
            side, edits, comparison = memory.compare(query.text, found)
            yield Judged(number, found, labels, chosen, side, edits, comparison)


def _hardest(found: Sequence[Found], labels: Sequence[int], known: int | None, negatives: int) -> list[int]:
    own = [i for i, item in enumerate(found) if item.row == known and labels[i] != UNKNOWN]
    wrong = [i for i in range(len(found)) if labels[i] == WRONG and i not in own]
    wrong.sort(key=lambda i: (found[i].span is None, -found[i].similarity))
    return own + wrong[:negatives]
