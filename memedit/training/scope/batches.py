"""Batches for the judge: texts with the relation that each asks about, and pairs of a query and an edit's text."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from memedit.scope.judge.network import MASK
from memedit.scope.judge.places import with_value
from memedit.training.scope.inventory import Family, Relation
from memedit.training.scope.rows import RewordedRow
from memedit.training.scope.talks import make_talk
from memedit.training.scope.wordings import (
    CLAIMS,
    COMING,
    MAKING,
    MENTIONS,
    NOW,
    PAST,
    SINCE,
    TASKS,
    at_present,
    contrasts,
    derived,
    dressed,
    fill,
    mistyped,
    qualified,
    qualifier_pair,
    terse,
)

_KINDS = ("questions",) * 5 + ("casual",) * 3 + ("cloze",) * 2 + ("statements",) * 2 + ("yesno",) * 2 + ("long",)
_NAMED_KINDS = ("questions", "questions", "casual", "casual", "cloze", "long")
WRITTEN = "written"
"""Begins the family of texts that are no inventory family's; nothing is known of how these and others are alike."""
HOP = "one step further"
"""Kind of the pairs of which it is left open whether the edit applies."""
ABROAD = "abroad"
"""Begins the kind of the pairs whose query is in another language and names the subject in full."""
_ASKED_ABROAD, _STORED_ABROAD, _PAIRS_ABROAD = 0.8, 0.2, 0.3
"""Shares of queries, of edits and of made pairs that are in another language, where there are wordings in it."""
_OPEN = 9
"""Unfinished sentences of so many kinds are read in a step."""
_VALUED = 0.85
"""The share of edits that stand with their value."""
_EDIT_KINDS = ("questions",) * 6 + ("cloze",) * 2 + ("statements",) * 2 + ("casual",)


@dataclass(frozen=True, slots=True)
class Text:
    """A text with its subject masked. ``family`` and ``relation`` say what it asks; ``unlike`` names a relation that it
    looks like and does not ask (``relation`` is then of its own), ``rivals`` a set of texts that ask one relation of
    different times, places or numbers. ``edit``: an author could have stored it. ``direct``: the answer is the value
    itself, and not yes or no, or something made from it."""

    text: str
    family: str
    relation: str
    value: str = ""
    edit: bool = False
    unlike: str | None = None
    rivals: str | None = None
    direct: bool = True


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


@dataclass(frozen=True, slots=True)
class AskedMemory:
    """A question about a subject, and the edits of that subject: texts with values; ``wanted`` answers it, if any."""

    query: str
    edits: tuple[tuple[str, str], ...]
    wanted: int | None


class BatchMaker:
    """Draws batches. The same seed draws the same ones.

    Args:
        families: what is trained on; those with wordings in other languages are drawn apart from the rest.
        rows: reworded prompts of data files.
        noise: unrelated sentences.
        seed: of the draws.
    """

    def __init__(
        self, families: Sequence[Family], rows: Sequence[RewordedRow], noise: Sequence[str], seed: int
    ) -> None:
        self._families, self._noise = [one for one in families if not one.abroad], tuple(noise)
        self._abroad = [one for one in families if one.abroad]
        by_source: dict[str, list[RewordedRow]] = {}
        for row in rows:
            by_source.setdefault(row.source, []).append(row)
        self._sources = list(by_source.values())
        self._seed, self._rng = seed, random.Random(seed)
        self._names = [name for family in families for name in family.subjects]
        self._own = 0

    def at(self, step: int) -> "BatchMaker":
        """Begin the draws of a step, which depend on seed and step alone."""
        self._rng = random.Random(f"{self._seed}/{step}")
        return self

    def texts(
        self, families: int = 2, relations: int = 12, wordings: int = 3, written: int = 1, abroad: int = 0
    ) -> tuple[list[Text], list[Family]]:
        """Return the texts of some whole families, with look-alikes and ``written`` contrasts, and the families.

        ``abroad``: so many of the families are those with wordings in other languages.
        """
        rng = self._rng
        drawn = rng.sample(self._families, min(families - abroad, len(self._families)))
        drawn += rng.sample(self._abroad, min(abroad, len(self._abroad)))
        texts: list[Text] = []
        for family in drawn:
            chosen = rng.sample(list(family.relations), min(relations, len(family.relations)))
            for relation in chosen:
                texts += self._relation_texts(family, relation, wordings)
            texts += self._qualified(family, rng.choice(chosen))
        for _ in range(written):
            texts += [*self._contrasted(), *self._derived(), *self._terse()]
        texts += [
            self._apart(dressed(rng.choice(MENTIONS).replace("{s}", MASK), rng, MASK), "mention") for _ in range(4)
        ]
        return texts, drawn

    def reworded(self, count: int) -> list[tuple[str, str]]:
        """Return pairs of texts that ask the same, from rows of data files whose subject stands in both, masked."""
        pairs = [(row, self._rng.choice(row.rewordings)) for row in self._some_rows(count)]
        return [
            (masked(row.prompt, row.subject), masked(other, row.subject))
            for row, other in pairs
            if _stands(row.subject, row.prompt) and _stands(row.subject, other)
        ]

    def _some_rows(self, count: int) -> list[RewordedRow]:
        """Draw rows; a file of n rows counts like the square root of n."""
        if not self._sources:
            return []
        weights = [len(rows) ** 0.5 for rows in self._sources]
        return [self._rng.choice(rows) for rows in self._rng.choices(self._sources, weights, k=count)]

    def _relation_texts(self, family: Family, relation: Relation, count: int) -> list[Text]:
        rng = self._rng
        texts = []
        for number in range(count):
            kind = rng.choice(_EDIT_KINDS if number == 0 else _KINDS)
            value = rng.choice(relation.objects)
            text = fill(rng.choice(getattr(relation, kind) or relation.questions), MASK, value)
            if relation.abroad and rng.random() < (_STORED_ABROAD if number == 0 else _ASKED_ABROAD):
                kind, text = "abroad", fill(_elsewhere(relation, rng)[1], MASK)
            direct = kind not in ("yesno", "statements")
            if number > 0:
                if kind == "statements":
                    text = rng.choice(CLAIMS).replace("{q}", text)
                if kind in ("questions", "casual", "cloze") and rng.random() < 0.08:
                    text = qualified(text, rng.choice(NOW))
                text = dressed(text, rng, MASK, self._noise) if rng.random() < 0.5 else text
            direct = direct and not any(wish in text for wish in MAKING)
            texts.append(Text(text, family.name, relation.id, value, number == 0, direct=direct))
        if relation.off and rng.random() < 0.6:
            off = fill(rng.choice(relation.off), MASK)
            texts.append(self._apart(dressed(off, rng, MASK) if rng.random() < 0.3 else off, family.name, relation.id))
        if rng.random() < 0.15:
            texts.append(self._apart(self._unasked(relation), family.name, relation.id))
        return texts

    def _unasked(self, relation: Relation) -> str:
        """Return a text that holds the relation's question, or asks it of another time, and so does not ask it."""
        rng = self._rng
        question = fill(rng.choice(relation.questions), MASK)
        if rng.random() < 0.5:
            return qualified(question, rng.choice(PAST if rng.random() < 0.7 else COMING))
        return rng.choice(TASKS).replace("{q}", question)

    def _qualified(self, family: Family, relation: Relation) -> list[Text]:
        """Return a relation's questions of two times, places or numbers, twice each."""
        rng = self._rng
        texts = []
        for qualifier in qualifier_pair(rng):
            for number in range(2):
                text = qualified(fill(rng.choice(relation.questions), MASK), qualifier)
                name = f"{relation.id} {qualifier}"
                texts.append(
                    Text(text, family.name, name, rng.choice(relation.objects), number == 0, None, relation.id)
                )
        return texts

    def _contrasted(self) -> list[Text]:
        """Return questions of one form about three items, twice each."""
        rng = self._rng
        group = rng.choice(contrasts())
        family = f"{WRITTEN} {group.wordings[0]}"
        texts = []
        for item in rng.sample(group.items, 3):
            for number, wording in enumerate(rng.sample(group.wordings, 2)):
                text = fill(wording, MASK).replace("{x}", item)
                texts.append(Text(text, family, item, edit=number == 0, rivals="items"))
        return texts

    def _derived(self) -> list[Text]:
        """Return texts of an edit, questions that its value settles, and questions that only look like that."""
        rng = self._rng
        group = rng.choice(derived())
        family, value = f"{WRITTEN} {group.edits[0]}", rng.choice(group.values)
        stored = [Text(fill(text, MASK), family, "edit", value, True) for text in rng.sample(group.edits, 2)]
        asks = [Text(fill(text, MASK), family, "edit", direct=False) for text in rng.sample(group.asks, 2)]
        return [
            *stored,
            *asks,
            *(self._apart(fill(text, MASK), family, "edit") for text in rng.sample(group.others, 2)),
        ]

    def _terse(self) -> list[Text]:
        """Return unfinished sentences that leave different things open, two of each."""
        rng = self._rng
        texts = []
        for name in rng.sample(sorted(terse()), _OPEN):
            for number, text in enumerate(rng.sample(terse()[name], 2)):
                texts.append(Text(fill(text, MASK), f"{WRITTEN} unfinished", name, edit=number == 0, rivals="open"))
        return texts

    def _apart(self, text: str, family: str, unlike: str | None = None) -> Text:
        self._own += 1
        return Text(text, family, f"own {self._own}", unlike=unlike)

    def talk_pairs(self, count: int) -> list[Pair]:
        """Return pairs whose query is a talk; the subject is masked in all of its turns."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            family, relation = self._any_relation()
            talk = make_talk(family, relation, rng.choice(self._names), rng, self._any_relation())
            query = masked(talk.text, talk.subject)
            asks, wanted = talk.asks, relation
            if asks and rng.random() < 0.35:
                wanted = self._another_relation(family, relation)
                asks = wanted is relation
            pairs.append(self._pair(query, wanted, float(asks), f"talk {talk.kind}"))
        return pairs

    def named_pairs(self, count: int) -> list[Pair]:
        """Return pairs with the subject in full, as judged where the edit's subject does not stand in the query."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            family, relation = self._any_relation()
            subject, other = self._two_names(family)
            if family.abroad and rng.random() < _ASKED_ABROAD:
                pairs.append(self._named_abroad(family, relation, subject, other))
                continue
            draw = rng.random()
            asked, label, kind, name = relation, 1.0, "name otherwise", _another_way(subject, rng)
            if draw < 0.4:
                name, label, kind = other, 0.0, "other name"
            elif draw < 0.55:
                asked = self._another_relation(family, relation)
                label, kind = float(asked is relation), "name otherwise, other relation"
            wording = rng.choice(getattr(asked, rng.choice(_NAMED_KINDS)) or asked.questions)
            query = fill(wording, name, rng.choice(asked.objects))
            query = query.lower() if rng.random() < 0.3 else query
            pairs.append(self._pair(query, relation, label, kind, subject=subject))
        return pairs

    def _named_abroad(self, family: Family, relation: Relation, subject: str, other: str) -> Pair:
        """Return a pair whose query is in another language, and names the subject as that language does."""
        rng = self._rng
        draw, asked, label, kind, name = rng.random(), relation, 1.0, ABROAD, subject
        if draw < 0.3:
            label, kind, name = 0.0, f"{ABROAD}, other name", other
        elif draw < 0.6:
            asked = self._another_relation(family, relation)
            label, kind = float(asked is relation), f"{ABROAD}, other relation"
        language, wording = _elsewhere(asked, rng)
        return self._pair(fill(wording, family.called(name, language)), relation, label, kind, subject=subject)

    def asked_memories(self, stored: int = 6) -> list[AskedMemory]:
        """Return questions about a subject of each family of which at most ``stored`` relations, half, are stored."""
        found: list[AskedMemory] = []
        for family in (*self._families, *self._abroad):
            count = min(stored, max(1, len(family.relations) // 2))
            kept = self._rng.sample(list(family.relations), count)
            edits = tuple(self._edit(relation) for relation in kept)
            for relation in family.relations:
                number = kept.index(relation) if relation in kept else None
                if number is None and not all(family.different(relation.id, other.id) for other in kept):
                    continue
                asked = [(self._wording(relation, _KINDS), number) for _ in range(2)]
                if number is not None and relation.off:
                    asked.append((fill(self._rng.choice(relation.off), MASK), None))
                found += [AskedMemory(self._as_typed(text), edits, wanted) for text, wanted in asked]
        return found

    def _edit(self, relation: Relation) -> tuple[str, str]:
        """Return a text that an author could store, and its value."""
        value = self._rng.choice(relation.objects)
        wordings = getattr(relation, self._rng.choice(_EDIT_KINDS)) or relation.questions
        return fill(self._rng.choice(wordings), MASK, value), value

    def _wording(self, relation: Relation, kinds: Sequence[str]) -> str:
        if relation.abroad and self._rng.random() < _ASKED_ABROAD:
            return fill(_elsewhere(relation, self._rng)[1], MASK)
        wordings = getattr(relation, self._rng.choice(kinds)) or relation.questions
        return fill(self._rng.choice(wordings), MASK, self._rng.choice(relation.objects))

    def _as_typed(self, text: str) -> str:
        return dressed(text, self._rng, MASK) if self._rng.random() < 0.4 else text

    def several_pairs(self, count: int) -> list[Pair]:
        """Return pairs whose query asks two things of one subject."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            family, first = self._any_relation()
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

    def contrast_pairs(self, count: int) -> list[Pair]:
        """Return pairs in one form of question about the same item, or about two."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            group = rng.choice(contrasts())
            (asked, stored), (item, other) = rng.choices(group.wordings, k=2), rng.sample(group.items, 2)
            label = float(rng.random() < 0.45)
            query = fill(asked, MASK).replace("{x}", item if label else other)
            value = rng.choice(self._any_relation()[1].objects)
            edit = fill(stored, MASK).replace("{x}", item)
            pairs.append(
                Pair(dressed(query, rng, MASK) if rng.random() < 0.3 else query, edit, label, "contrast", value=value)
            )
        return pairs

    def derived_pairs(self, count: int) -> list[Pair]:
        """Return pairs whose query is settled by the edit's value without asking for it, or only looks like that."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            group, label = rng.choice(derived()), float(rng.random() < 0.55)
            asked = fill(rng.choice(group.asks if label else group.others), MASK)
            asked = dressed(asked, rng, MASK, self._noise) if rng.random() < 0.4 else asked
            edit, value = fill(rng.choice(group.edits), MASK), rng.choice(group.values)
            pairs.append(Pair(asked, edit, label, "derived", False if label else None, value))
        return pairs

    def hop_pairs(self, count: int) -> list[Pair]:
        """Return pairs whose query asks one step further ("Who is the sister of the mayor of X?").

        The target is not the answer; whether the edit applies is left open.
        """
        rng = self._rng
        pairs = []
        for _ in range(count):
            _, relation = self._any_relation()
            _, further = self._any_relation()
            inner = [
                text for text in relation.cloze if text.startswith("The ") and text.endswith((" is", " was", " are"))
            ]
            if inner:
                phrase = fill(rng.choice(inner).rsplit(" ", 1)[0], MASK)
                query = fill(rng.choice(further.questions), f"the {phrase[4:]}").replace("the the ", "the ")
                pairs.append(self._pair(query, relation, 1.0, HOP, direct=False))
        return pairs

    def edit_value(self, text: Text) -> str:
        """Return a stored text's value, or nothing for one in seven."""
        return text.value if self._rng.random() < _VALUED else ""

    def _pair(
        self, query: str, relation: Relation, label: float, kind: str, *, subject: str = "", direct: bool | None = True
    ) -> Pair:
        """Return a pair of a query and an edit about a relation; ``subject`` is given where it is not masked."""
        rng = self._rng
        value = rng.choice(relation.objects)
        edit = fill(
            rng.choice(getattr(relation, rng.choice(_EDIT_KINDS)) or relation.questions), subject or MASK, value
        )
        return Pair(query, edit, label, kind, direct, value if rng.random() < _VALUED else "", subject)

    def _another_relation(self, family: Family, relation: Relation) -> Relation:
        others = [other for other in family.relations if family.different(other.id, relation.id)]
        return self._rng.choice(others or [relation])

    def qualified_pairs(self, count: int) -> list[Pair]:
        """Return pairs whose query asks a relation of another time, place or number than the edit, or of the same."""
        rng = self._rng
        pairs = []
        for _ in range(count):
            _, relation = self._any_relation()
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

    def row_pairs(self, count: int) -> list[Pair]:
        """Return pairs from rows of data files: a rewording, another question about the subject, another subject."""
        rng = self._rng
        pairs = []
        for row in self._some_rows(count):
            draw = rng.random()
            if row.others and draw < 0.5:
                query, label, kind = rng.choice(row.others), 0.0, "row, other relation"
            elif row.elsewhere and draw < 0.65:
                query, label, kind = rng.choice(row.elsewhere), 0.0, "row, other subject"
            else:
                query, label, kind = rng.choice(row.rewordings), 1.0, "row"
            hidden = _stands(row.subject, query)
            edit = masked(row.prompt, row.subject) if hidden else row.prompt
            query = masked(query, row.subject) if hidden else query
            pairs.append(Pair(query, edit, label, kind, True, row.target, "" if hidden else row.subject))
        return pairs

    def _any_relation(self) -> tuple[Family, Relation]:
        everywhere = not self._families or (bool(self._abroad) and self._rng.random() < _PAIRS_ABROAD)
        family = self._rng.choice(self._abroad if everywhere else self._families)
        return family, self._rng.choice(family.relations)

    def _two_names(self, family: Family) -> tuple[str, str]:
        rng = self._rng
        if family.near and rng.random() < 0.5:
            pair = rng.choice(family.near)
            return pair if rng.random() < 0.5 else (pair[1], pair[0])
        first, second = rng.sample(list(family.subjects), 2)
        return first, second


def _elsewhere(relation: Relation, rng: random.Random) -> tuple[str, str]:
    """Return a language other than English, and a relation's wording in it."""
    language = rng.choice(sorted(relation.abroad))
    return language, rng.choice(relation.abroad[language])


def _stands(subject: str, text: str) -> bool:
    return bool(subject) and subject.casefold() in text.casefold()


def masked(text: str, subject: str) -> str:
    """Return the text with the subject masked wherever it stands, but for case."""
    if not subject:
        return text
    folded, wanted, out, at = text.casefold(), subject.casefold(), [], 0
    if len(folded) != len(text):
        return text.replace(subject, MASK)
    while (place := folded.find(wanted, at)) >= 0:
        out += [text[at:place], MASK]
        at = place + len(wanted)
    return "".join([*out, text[at:]])


def _another_way(name: str, rng: random.Random) -> str:
    """Return a name as people also write it: shortened, mistyped, in initials, run together."""
    words = name.split()
    draw = rng.random()
    if draw < 0.3 or len(words) < 2:
        return _mistyped_name(name, rng)
    if draw < 0.6:  # what comes first mostly tells one from the others
        name = " ".join(words[: rng.randrange(1, len(words))])
    elif draw < 0.7:
        name = " ".join(words[1:]) if rng.random() < 0.5 else words[-1]
    elif draw < 0.8 and len(words) > 2:
        name = "".join(word[0] for word in words if word[0].isalnum()).upper()
    elif draw < 0.9:
        name = " ".join(_abbreviated(word, rng) for word in words)
    else:
        name = "".join(words) if rng.random() < 0.5 else "-".join(words)
    return _mistyped_name(name, rng) if rng.random() < 0.15 else name


def _mistyped_name(name: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2))):
        name = mistyped(f" {name}  ", rng).strip()
    return name


def _abbreviated(word: str, rng: random.Random) -> str:
    """Cut a long word short, with or without a full stop."""
    if len(word) < 6 or rng.random() < 0.4:
        return word
    return word[: rng.choice((3, 4))] + rng.choice((".", ""))
