"""Labelled queries for training: those of the data, and ones made from them for the hard cases."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memedit.scope.text import normalise
from memedit.workflows.scope_training.attributes import MADE, other_attribute
from memedit.workflows.scope_training.relations import SLOT, Relations, template_of
from memedit.workflows.scope_training.rows import EditRow
from memedit.workflows.scope_training.wording import join, near_name, negate, one_hop_more, other_name, suppose, vary

_TEMPLATED = 1000
"""From this many rows on a file's recurring wordings, not its rows, say which relation a text asks for."""


@dataclass(frozen=True, slots=True)
class TrainingQuery:
    """A query that falls under row ``right`` (None: under no row known) and surely not under row ``wrong``.

    ``also`` is a second row it falls under. ``group`` says how it came about; ``template`` is its wording with a slot
    for the subject, where it has one.
    """

    text: str
    right: int | None
    wrong: int | None
    group: str
    template: str | None = None
    also: int | None = None


class QueryMaker:
    """Makes the queries of each row. Deterministic by seed."""

    def __init__(self, rows: Sequence[EditRow], relations: Relations, seed: int) -> None:
        self._rows = rows
        self._relations = relations
        self._rng = random.Random(seed)
        self._by_source: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            self._by_source[row.source].append(number)
        self._prefixes = _noise(rows)
        self._names = [row.subject for row in rows if row.subject] or [""]

    def all(self) -> list[TrainingQuery]:
        """Return the queries of all rows, in order."""
        made = [query for number in range(len(self._rows)) for query in self._of_row(number)]
        return [query for query in made if query.text.strip()]

    def _of_row(self, number: int) -> Iterator[TrainingQuery]:
        row = self._rows[number]
        yield from self._of_data(number, row)
        if row.subject is None or row.subject not in row.prompt:
            return
        if len(self._by_source[row.source]) >= _TEMPLATED and self._relations.group(row) is not None:
            yield from self._from_templates(number, row, row.subject)
        else:
            yield from self._from_neighbours(number, row, row.subject)
        yield from self._renamed(number, row, row.subject)
        negated = negate(row.prompt)
        if negated is not None and self._rng.random() < 0.1:
            yield TrainingQuery(negated, None, number, "negated")
        attribute = other_attribute(self._rng, row.prompt)
        if attribute is not None and self._rng.random() < 0.5 and row.source != MADE:
            yield TrainingQuery(attribute.replace(SLOT, row.subject), None, number, "made/other relation", attribute)
        if self._rng.random() < 0.04:
            yield TrainingQuery(suppose(self._rng, self._wording(row)), None, number, "supposed")
        if self._rng.random() < 0.06:
            yield from self._two_facts(number, row)

    def _of_data(self, number: int, row: EditRow) -> Iterator[TrainingQuery]:
        for kind, text in row.inside:
            group = f"{row.source}/{kind}"
            yield TrainingQuery(text, number, None, group, template_of(text, row.subject))
            if kind == "paraphrase" and self._rng.random() < 0.2:
                yield TrainingQuery(self._vary(text), number, None, "varied", template_of(text, row.subject))
        for kind, text in row.outside:
            wrong = None if kind == "locality" else number
            yield TrainingQuery(text, None, wrong, f"{row.source}/{kind}")
            if self._rng.random() < 0.1:
                yield TrainingQuery(self._vary(text), None, wrong, f"{row.source}/{kind}")
        if self._rng.random() < 0.3:
            yield TrainingQuery(self._vary(row.prompt), number, None, "varied", template_of(row.prompt, row.subject))

    def _from_templates(self, number: int, row: EditRow, subject: str) -> Iterator[TrainingQuery]:
        """Ask for another relation, and for the same in the words of other rows."""
        group, rng = self._relations.group(row), self._rng
        for _ in range(20):
            template = rng.choice(self._relations.templates)
            if not self._relations.may_ask(template, group):
                text = template.replace(SLOT, subject)
                yield TrainingQuery(text, None, number, "other relation, templates", template)
                break
        wordings = self._relations.wordings(group)
        if wordings and rng.random() < 0.3:
            text = self._vary(rng.choice(wordings).replace(SLOT, subject))
            yield TrainingQuery(text, number, None, "same relation", template_of(row.prompt, subject))

    def _from_neighbours(self, number: int, row: EditRow, subject: str) -> Iterator[TrainingQuery]:
        """Ask what other rows of the file ask, about this row's subject; ask this row's question about theirs."""
        rng, same = self._rng, self._by_source[row.source]
        for _ in range(2 if any(kind == "specificity" for kind, _ in row.outside) else 1):
            template = self._borrowed(rng.choice(same))
            if template is not None and template != template_of(row.prompt, subject):
                text = template.replace(SLOT, subject)
                yield TrainingQuery(text, None, number, f"{row.source}/other relation", template)
        other = self._rows[rng.choice(same)].subject
        if other is not None and normalise(other) != normalise(subject) and rng.random() < 0.5:
            yield TrainingQuery(self._wording(row).replace(subject, other), None, None, "other subject")
        hop = one_hop_more(rng, row.prompt)
        if hop is not None:
            yield TrainingQuery(hop, number, None, "one hop more")

    def _renamed(self, number: int, row: EditRow, subject: str) -> Iterator[TrainingQuery]:
        name = other_name(self._rng, subject)
        if name is not None and self._rng.random() < 0.25:
            text = self._wording(row).replace(subject, name)
            yield TrainingQuery(text, number, None, "other name", template_of(row.prompt, subject))
        near = near_name(self._rng, subject, self._names)
        if near is not None and self._rng.random() < 0.4:
            yield TrainingQuery(self._wording(row).replace(subject, near), None, number, "near name")

    def _two_facts(self, number: int, row: EditRow) -> Iterator[TrainingQuery]:
        other = self._rng.randrange(len(self._rows))
        if normalise(self._rows[other].subject or "") != normalise(row.subject or ""):
            text = join(self._rng, self._wording(row), self._wording(self._rows[other]))
            yield TrainingQuery(text, number, None, "two facts", also=other)

    def _borrowed(self, number: int) -> str | None:
        """Return the template of some text of row ``number``."""
        row = self._rows[number]
        texts = [row.prompt, *(text for kind, text in (*row.inside, *row.outside) if kind in _WHOLE)]
        return template_of(self._rng.choice(texts), row.subject)

    def _wording(self, row: EditRow) -> str:
        texts = [text for kind, text in row.inside if kind == "paraphrase" and row.subject and row.subject in text]
        return self._rng.choice([row.prompt, *texts])

    def _vary(self, text: str) -> str:
        return vary(self._rng, text, self._prefixes)


_WHOLE = frozenset({"paraphrase", "specificity"})


def _noise(rows: Sequence[EditRow]) -> list[str]:
    """Collect the unrelated sentences that stand in front of paraphrases, to put them before other queries."""
    found = []
    for row in rows:
        for kind, text in row.inside:
            template = template_of(text, row.subject) if kind == "paraphrase" else None
            if template is not None and row.subject is not None:
                length = len(text) - (len(template) - len(SLOT) + len(row.subject))
                found += [text[:length]] if length > 8 else []
    return found
