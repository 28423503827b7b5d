"""Texts for the judge, with the relation that each asks about."""

from collections.abc import Sequence
from dataclasses import dataclass

from memedit.scope.judge.network import MASK
from memedit.training.scope.draws import ASKED_ABROAD, EDIT_KINDS, Draws, worded_abroad
from memedit.training.scope.inventory import Family, Relation
from memedit.training.scope.names import masked, stands
from memedit.training.scope.wordings import (
    CLAIMS,
    COMING,
    MAKING,
    MENTIONS,
    NOW,
    PAST,
    TASKS,
    contrasts,
    derived,
    dressed,
    fill,
    qualified,
    qualifier_pair,
    terse,
)

_KINDS = ("questions",) * 5 + ("casual",) * 3 + ("cloze",) * 2 + ("statements",) * 2 + ("yesno",) * 2 + ("long",)
WRITTEN = "written"
"""Begins the family of texts that are no inventory family's; nothing is known of how these and others are alike."""
_STORED_ABROAD = 0.2
"""The share of edits in another language, of relations that have wordings in it."""
_OPEN = 9
"""Unfinished sentences of so many kinds are read in a step."""


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
class AskedMemory:
    """A question about a subject, and the edits of that subject: texts with values; ``wanted`` answers it, if any."""

    query: str
    edits: tuple[tuple[str, str], ...]
    wanted: int | None


class TextMaker:
    """Makes the texts of a step, out of what ``draws`` draws."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._own = 0

    def of_families(
        self, families: int = 2, relations: int = 12, wordings: int = 3, written: int = 1, abroad: int = 0
    ) -> tuple[list[Text], list[Family]]:
        """Return the texts of some whole families, with look-alikes and ``written`` contrasts, and the families.

        ``abroad``: so many of the families are those with wordings in other languages.
        """
        rng = self._draws.rng
        drawn = rng.sample(self._draws.families, min(families - abroad, len(self._draws.families)))
        drawn += rng.sample(self._draws.abroad, min(abroad, len(self._draws.abroad)))
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
        pairs = [(row, self._draws.rng.choice(row.rewordings)) for row in self._draws.rows(count)]
        return [
            (masked(row.prompt, row.subject), masked(other, row.subject))
            for row, other in pairs
            if stands(row.subject, row.prompt) and stands(row.subject, other)
        ]

    def _relation_texts(self, family: Family, relation: Relation, count: int) -> list[Text]:
        rng = self._draws.rng
        texts = []
        for number in range(count):
            kind = rng.choice(EDIT_KINDS if number == 0 else _KINDS)
            value = rng.choice(relation.objects)
            text = fill(rng.choice(getattr(relation, kind) or relation.questions), MASK, value)
            if relation.abroad and rng.random() < (_STORED_ABROAD if number == 0 else ASKED_ABROAD):
                kind, text = "abroad", fill(worded_abroad(relation, rng)[1], MASK)
            direct = kind not in ("yesno", "statements")
            if number > 0:
                if kind == "statements":
                    text = rng.choice(CLAIMS).replace("{q}", text)
                if kind in ("questions", "casual", "cloze") and rng.random() < 0.08:
                    text = qualified(text, rng.choice(NOW))
                text = dressed(text, rng, MASK, self._draws.noise) if rng.random() < 0.5 else text
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
        rng = self._draws.rng
        question = fill(rng.choice(relation.questions), MASK)
        if rng.random() < 0.5:
            return qualified(question, rng.choice(PAST if rng.random() < 0.7 else COMING))
        return rng.choice(TASKS).replace("{q}", question)

    def _qualified(self, family: Family, relation: Relation) -> list[Text]:
        """Return a relation's questions of two times, places or numbers, twice each."""
        rng = self._draws.rng
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
        rng = self._draws.rng
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
        rng = self._draws.rng
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
        rng = self._draws.rng
        texts = []
        for name in rng.sample(sorted(terse()), _OPEN):
            for number, text in enumerate(rng.sample(terse()[name], 2)):
                texts.append(Text(fill(text, MASK), f"{WRITTEN} unfinished", name, edit=number == 0, rivals="open"))
        return texts

    def _apart(self, text: str, family: str, unlike: str | None = None) -> Text:
        self._own += 1
        return Text(text, family, f"own {self._own}", unlike=unlike)

    def asked_memories(self, stored: int = 6) -> list[AskedMemory]:
        """Return questions about a subject of each family of which at most ``stored`` relations, half, are stored."""
        found: list[AskedMemory] = []
        for family in (*self._draws.families, *self._draws.abroad):
            count = min(stored, max(1, len(family.relations) // 2))
            kept = self._draws.rng.sample(list(family.relations), count)
            edits = tuple(self._edit(relation) for relation in kept)
            for relation in family.relations:
                number = kept.index(relation) if relation in kept else None
                if number is None and not all(family.different(relation.id, other.id) for other in kept):
                    continue
                asked = [(self._wording(relation, _KINDS), number) for _ in range(2)]
                if number is not None and relation.off:
                    asked.append((fill(self._draws.rng.choice(relation.off), MASK), None))
                found += [AskedMemory(self._as_typed(text), edits, wanted) for text, wanted in asked]
        return found

    def _edit(self, relation: Relation) -> tuple[str, str]:
        """Return a text that an author could store, and its value."""
        value = self._draws.rng.choice(relation.objects)
        wordings = getattr(relation, self._draws.rng.choice(EDIT_KINDS)) or relation.questions
        return fill(self._draws.rng.choice(wordings), MASK, value), value

    def _wording(self, relation: Relation, kinds: Sequence[str]) -> str:
        if relation.abroad and self._draws.rng.random() < ASKED_ABROAD:
            return fill(worded_abroad(relation, self._draws.rng)[1], MASK)
        wordings = getattr(relation, self._draws.rng.choice(kinds)) or relation.questions
        return fill(self._draws.rng.choice(wordings), MASK, self._draws.rng.choice(relation.objects))

    def _as_typed(self, text: str) -> str:
        return dressed(text, self._draws.rng, MASK) if self._draws.rng.random() < 0.4 else text
