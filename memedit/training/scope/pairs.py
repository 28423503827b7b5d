"""Pairs for the judge: a query beside the text of an edit."""

from dataclasses import dataclass

from memedit.scope.judge.network import MASK
from memedit.scope.judge.places import with_value
from memedit.training.scope.draws import ASKED_ABROAD, EDIT_KINDS, Draws, worded_abroad
from memedit.training.scope.inventory import Family, Relation
from memedit.training.scope.names import another_way, masked, stands
from memedit.training.scope.talks import make_talk
from memedit.training.scope.wordings import (
    COMING,
    PAST,
    SINCE,
    at_present,
    contrasts,
    derived,
    dressed,
    fill,
    qualified,
    qualifier_pair,
)

_NAMED_KINDS = ("questions", "questions", "casual", "casual", "cloze", "long")
HOP = "one step further"
"""Kind of the pairs of which it is left open whether the edit applies."""
ABROAD = "abroad"
"""Begins the kind of the pairs whose query is in another language and names the subject in full."""
_VALUED = 0.85
"""The share of edits that stand with their value."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query beside the text of an edit; ``label`` is 1 where the edit answers the query.

    ``direct`` says whether the answer is the edit's target as it is; None where that is not known. ``subject`` is given
    where it is not masked.
    """

    query: str
    edit: str
    label: float
    kind: str
    direct: bool | None = True
    value: str = ""
    subject: str = ""

    @property
    def stored(self) -> str:
        """The edit's text as the cross-encoder reads it: with its value, where one is given."""
        return with_value(self.edit, self.value)


class PairMaker:
    """Makes the pairs of a step, out of what ``draws`` draws."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def talk(self, count: int) -> list[Pair]:
        """Return pairs whose query is a talk; the subject is masked in all of its turns."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            family, relation = self._draws.relation()
            talk = make_talk(family, relation, rng.choice(self._draws.names), rng, self._draws.relation())
            query = masked(talk.text, talk.subject)
            asks, wanted = talk.asks, relation
            if asks and rng.random() < 0.35:
                wanted = self._draws.another_relation(family, relation)
                asks = wanted is relation
            pairs.append(self._pair(query, wanted, float(asks), f"talk {talk.kind}"))
        return pairs

    def named(self, count: int) -> list[Pair]:
        """Return pairs with the subject in full, as judged where the edit's subject does not stand in the query."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            family, relation = self._draws.relation()
            subject, other = self._draws.two_names(family)
            if family.abroad and rng.random() < ASKED_ABROAD:
                pairs.append(self._named_abroad(family, relation, subject, other))
                continue
            draw = rng.random()
            asked, label, kind, name = relation, 1.0, "name otherwise", another_way(subject, rng)
            if draw < 0.4:
                name, label, kind = other, 0.0, "other name"
            elif draw < 0.55:
                asked = self._draws.another_relation(family, relation)
                label, kind = float(asked is relation), "name otherwise, other relation"
            wording = rng.choice(getattr(asked, rng.choice(_NAMED_KINDS)) or asked.questions)
            query = fill(wording, name, rng.choice(asked.objects))
            query = query.lower() if rng.random() < 0.3 else query
            pairs.append(self._pair(query, relation, label, kind, subject=subject))
        return pairs

    def _named_abroad(self, family: Family, relation: Relation, subject: str, other: str) -> Pair:
        """Return a pair whose query is in another language, and names the subject as that language does."""
        rng = self._draws.rng
        draw, asked, label, kind, name = rng.random(), relation, 1.0, ABROAD, subject
        if draw < 0.3:
            label, kind, name = 0.0, f"{ABROAD}, other name", other
        elif draw < 0.6:
            asked = self._draws.another_relation(family, relation)
            label, kind = float(asked is relation), f"{ABROAD}, other relation"
        language, wording = worded_abroad(asked, rng)
        return self._pair(fill(wording, family.called(name, language)), relation, label, kind, subject=subject)

    def several(self, count: int) -> list[Pair]:
        """Return pairs whose query asks two things of one subject."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            family, first = self._draws.relation()
            rest = [r for r in family.relations if family.different(r.id, first.id)]
            if len(rest) < 2:
                continue
            second, third = rng.sample(rest, 2)
            opening = fill(rng.choice(first.questions), MASK).rstrip("?.")
            asked = fill(rng.choice(second.questions), rng.choice(("it", MASK, "they")))
            glue = rng.choice((" and ", ", and ", "? And ", "? ", ". Also, "))
            wanted = rng.choice((first, second, third))
            query = f"{opening}{glue}{asked[:1].lower()}{asked[1:]}"
            pairs.append(self._pair(query, wanted, float(wanted is not third), "several", direct=None))
        return pairs

    def contrast(self, count: int) -> list[Pair]:
        """Return pairs in one form of question about the same item, or about two."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            group = rng.choice(contrasts())
            (asked, stored), (item, other) = rng.choices(group.wordings, k=2), rng.sample(group.items, 2)
            label = float(rng.random() < 0.45)
            query = fill(asked, MASK).replace("{x}", item if label else other)
            value = rng.choice(self._draws.relation()[1].objects)
            edit = fill(stored, MASK).replace("{x}", item)
            pairs.append(
                Pair(dressed(query, rng, MASK) if rng.random() < 0.3 else query, edit, label, "contrast", value=value)
            )
        return pairs

    def derived(self, count: int) -> list[Pair]:
        """Return pairs whose query is settled by the edit's value without asking for it, or only looks like that."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            group, label = rng.choice(derived()), float(rng.random() < 0.55)
            asked = fill(rng.choice(group.asks if label else group.others), MASK)
            asked = dressed(asked, rng, MASK, self._draws.noise) if rng.random() < 0.4 else asked
            edit, value = fill(rng.choice(group.edits), MASK), rng.choice(group.values)
            pairs.append(Pair(asked, edit, label, "derived", False if label else None, value))
        return pairs

    def hop(self, count: int) -> list[Pair]:
        """Return pairs whose query asks one step further ("Who is the sister of the mayor of X?").

        The target is not the answer; whether the edit applies is left open.
        """
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            _, relation = self._draws.relation()
            _, further = self._draws.relation()
            inner = [
                text for text in relation.cloze if text.startswith("The ") and text.endswith((" is", " was", " are"))
            ]
            if inner:
                phrase = fill(rng.choice(inner).rsplit(" ", 1)[0], MASK)
                query = fill(rng.choice(further.questions), f"the {phrase[4:]}").replace("the the ", "the ")
                pairs.append(self._pair(query, relation, 1.0, HOP, direct=False))
        return pairs

    def qualified(self, count: int) -> list[Pair]:
        """Return pairs whose query asks a relation of another time, place or number than the edit, or of the same."""
        rng = self._draws.rng
        pairs = []
        for _ in range(count):
            _, relation = self._draws.relation()
            question = fill(rng.choice(getattr(relation, rng.choice(_NAMED_KINDS)) or relation.questions), MASK)
            stored = fill(rng.choice(relation.questions), MASK)
            first, second = qualifier_pair(rng)
            draw = rng.random()
            if draw < 0.25:
                query, edit, label = qualified(question, second), qualified(stored, first), 0.0
            elif draw < 0.4:
                query, edit, label = qualified(question, first), qualified(stored, first), 1.0
            elif draw < 0.6:
                query, edit, label = qualified(question, rng.choice((second, *PAST, *COMING))), stored, 0.0
            elif draw < 0.75:
                query, edit, label = at_present(question, rng), stored, 1.0
            elif draw < 0.9:
                query = at_present(question, rng) if rng.random() < 0.6 else question
                edit, label = qualified(stored, rng.choice(SINCE)), 1.0
            else:
                query, edit = qualified(question, rng.choice((*PAST, *COMING))), qualified(stored, rng.choice(SINCE))
                label = 0.0
            pairs.append(Pair(query, edit, label, "qualified", value=rng.choice(relation.objects)))
        return pairs

    def row(self, count: int) -> list[Pair]:
        """Return pairs from rows of data files: a rewording, another question about the subject, another subject."""
        rng = self._draws.rng
        pairs = []
        for row in self._draws.rows(count):
            draw = rng.random()
            if row.others and draw < 0.5:
                query, label, kind = rng.choice(row.others), 0.0, "row, other relation"
            elif row.elsewhere and draw < 0.65:
                query, label, kind = rng.choice(row.elsewhere), 0.0, "row, other subject"
            else:
                query, label, kind = rng.choice(row.rewordings), 1.0, "row"
            hidden = stands(row.subject, query)
            edit = masked(row.prompt, row.subject) if hidden else row.prompt
            query = masked(query, row.subject) if hidden else query
            pairs.append(Pair(query, edit, label, kind, True, row.target, "" if hidden else row.subject))
        return pairs

    def _pair(
        self, query: str, relation: Relation, label: float, kind: str, *, subject: str = "", direct: bool | None = True
    ) -> Pair:
        """Return a pair of a query and an edit about a relation; ``subject`` is given where it is not masked."""
        rng = self._draws.rng
        value = rng.choice(relation.objects)
        edit = fill(rng.choice(getattr(relation, rng.choice(EDIT_KINDS)) or relation.questions), subject or MASK, value)
        return Pair(query, edit, label, kind, direct, value if rng.random() < _VALUED else "", subject)

    def value(self, given: str) -> str:
        """Return a stored text's value, or nothing for one in seven."""
        return given if self._draws.rng.random() < _VALUED else ""
