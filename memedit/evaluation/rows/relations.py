"""By relation, and from the relation's side (RaKE, arXiv 2311.09053).

Every usual metric by the relation of the edit; and further questions about the same fact: asked for the relation (two
wordings: "Which relation holds ...", and a blank in its place), the relation in other words, and the same subject asked
for another relation, which has to leave the model as it is. The same relation of another subject is what CounterFact's
locality prompts ask already. A case with several edits counts under the relation of its first.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from memedit.evaluation.cases import Probe, ProbeKind
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.protocols import first_line, is_contained, is_exact
from memedit.evaluation.rows.base import Asking, Cell, Finding, RowData, Table
from memedit.evaluation.rows.relation_names import Relation, group_names, relation_of, relations, wording_of
from memedit.evaluation.scoring import Answered, unchanged_name
from memedit.evaluation.stream import AskedProbe, edits_of
from memedit.types import EditDraft

VIEWS = {
    "view.asked": 'Which relation holds between "{subject}" and "{target}"? The relation is:',
    "view.blank": 'Fill in the blank: "{subject}\'s ____ is {target}." The missing words are:',
}
"""Questions whose answer is the relation's name."""
_USUAL = {ProbeKind.EDIT: "reliability", ProbeKind.PARAPHRASE: "generality"}
_COLUMNS = ("reliability", "generality", "reworded", "view", "same_relation", "other_relation")
WORST = 3


class Relations:
    """A table by relation, questions from the relation's side, and the three relations that do worst."""

    name = "relations"
    needs = ()

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        further = list(further_probes(data))
        asked = method.answer("relations", [probe for _, probe in further])
        observed = [*_usual(method.answered), *_further([kind for kind, _ in further], asked)]
        names = group_names(case.edits[0] for case in data.cases)
        groups: dict[str, dict[str, list[bool]]] = {}
        for case, column, right in observed:
            for group in (names[case], "all"):
                groups.setdefault(group, {}).setdefault(column, []).append(right)
        whole = groups.pop("all", {})
        lines = [_line(group, groups[group]) for group in sorted(groups)]
        metrics = {f"{self.name}.{column}": rate(values) for column, values in whole.items() if column in _COLUMNS[2:]}
        metrics |= {f"{self.name}.{view}": rate(whole[view]) for view in VIEWS if view in whole}
        table = Table("by relation", ("relation", "n", *_COLUMNS), (*lines, _line("all", whole)))
        facts = {"worst": worst(groups), "weighted": weighted(groups), "relations": len(groups)}
        return Finding(self.name, method.name, metrics, (table,), facts=facts)


def further_probes(data: RowData) -> Iterator[tuple[str, AskedProbe]]:
    """Yield what is asked further about each drawn case of a known relation, with the column that it counts in."""
    edits = edits_of(data.cases)
    held = {(edit.subject, relation.name) for edit in edits for relation in [relation_of(edit)] if relation}
    first = {asked.case: asked for asked in reversed(data.queries.probes) if asked.probe.kind is ProbeKind.EDIT}
    for place in data.queries.cases:
        edit = data.cases[place].edits[0]
        relation = relation_of(edit)
        if relation is None or place not in first or edit.subject is None:
            continue
        rng = random.Random(f"{data.seed}/{edit.prompt}")
        for column, probe in _of_edit(edit, edit.subject, relation, rng):
            yield column, replace(first[place], probe=probe, touched=False)
        other = _other_relation(edit.subject, relation, held, rng)
        if other is not None:
            yield "other_relation", replace(first[place], probe=other, touched=False)


def _of_edit(edit: EditDraft, subject: str, relation: Relation, rng: random.Random) -> Iterator[tuple[str, Probe]]:
    for column, text in VIEWS.items():
        names = (relation.name, *relation.also)
        yield column, Probe(ProbeKind.REASONING, text.format(subject=subject, target=edit.target), names)
    wordings = [wording for wording in relation.wordings if wording != wording_of(edit)]
    if wordings:
        yield "reworded", Probe(ProbeKind.PARAPHRASE, rng.choice(wordings).replace("{}", subject), (edit.target,))


def _other_relation(
    subject: str, relation: Relation, held: set[tuple[str | None, str]], rng: random.Random
) -> Probe | None:
    """Return a question for another relation of the same kind of subject, about which no edit is."""
    fit = [
        r for r in relations() if r.about == relation.about and r != relation and (subject, r.name) not in held
        and not set(r.also) & {*relation.also, relation.name}
    ]  # fmt: skip
    if not fit:
        return None
    return Probe(ProbeKind.SPECIFICITY, rng.choice(fit).wordings[0].replace("{}", subject), ())


def _usual(answered: Sequence[Answered]) -> Iterator[tuple[int, str, bool]]:
    """Yield case, column and whether it is right, of what every evaluation asks."""
    for item in answered:
        kind = item.asked.probe.kind
        if kind in _USUAL and not item.asked.long_form:
            yield item.asked.case, _USUAL[kind], is_exact(first_line(item.result.text), item.asked.probe.answers)
        elif kind is ProbeKind.LOCALITY and unchanged_name(item.asked) == "locality":
            yield item.asked.case, "same_relation", item.result.token_ids == item.base.token_ids


def _further(columns: Sequence[str], answered: Sequence[Answered]) -> Iterator[tuple[int, str, bool]]:
    for column, item in zip(columns, answered, strict=True):
        line, answers = first_line(item.result.text), item.asked.probe.answers
        if column == "other_relation":
            yield item.asked.case, column, item.result.token_ids == item.base.token_ids
        elif column == "reworded":
            yield item.asked.case, column, is_exact(line, answers)
        else:
            yield item.asked.case, "view", is_contained(line, answers)
            yield item.asked.case, column, is_contained(line, answers)


def _line(group: str, columns: Mapping[str, Sequence[bool]]) -> tuple[Cell, ...]:
    estimates = [rate(columns[name]) if columns.get(name) else None for name in _COLUMNS]
    return group, float(len(columns.get("reliability", ()))), *estimates


def worst(groups: Mapping[str, Mapping[str, Sequence[bool]]], fewest: int = 3) -> list[str]:
    """Return the three relations with the lowest generality, of those asked about at least ``fewest`` times."""
    asked = {group: columns.get("generality", ()) for group, columns in groups.items()}
    found = {group: sum(held) / len(held) for group, held in asked.items() if len(held) >= fewest}
    return sorted(found, key=lambda group: (found[group], group))[:WORST]


def weighted(groups: Mapping[str, Mapping[str, Sequence[bool]]]) -> dict[str, float]:
    """Return the mean of the groups' rates, weighted by their observations: it is the overall rate."""
    found = {}
    for column in _COLUMNS:
        parts = [columns[column] for columns in groups.values() if columns.get(column)]
        if parts:
            n = sum(map(len, parts))
            found[column] = sum(len(part) * (100.0 * sum(part) / len(part)) for part in parts) / n
    return found
