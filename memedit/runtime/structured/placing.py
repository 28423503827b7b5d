"""An edit's target within a structured answer: in the value of a JSON text that is about it, or as the answer itself.

As in plain text (:mod:`memedit.runtime.target_bias`), the target has a say in the next token as long as what has been
said of the value is the target's beginning; here beginnings are told by bytes, as the structure writes them: quoted and
escaped in a JSON string, as a number where a number belongs, as one of the answers to choose from. What the structure
does not take is never asked for.

The schema says what is asked of a value, so the target's weight is more there than in free text: the odds are four
times as high in the one value that can be meant, ten times where the value's name is the edit's own word. A value whose
name no word of the edit explains, beside others like it, gives the target a small weight, which settles what the model
is undecided about; and beside the target's own value others give as much to the edit's subject, since a model that has
just read an edit would rather say its target everywhere.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from llguidance import LLTokenizer

from memedit.adapters.base import Adapter, MixesTargets, Row
from memedit.runtime.structured.constraint import Constraint
from memedit.runtime.structured.fields import NAMED, Fields, Leaf, is_prose, numberless
from memedit.runtime.structured.json_place import JsonText, Path, Place
from memedit.runtime.structured.structure import Structure, StructureKind
from memedit.runtime.target_bias import SUREST, Due, weight_of
from memedit.scope.text import folded_text
from memedit.types import Edit, Hit

_LITTLE = 0.3
_ODDS, _ODDS_NAMED = 4.0, 10.0
_ENDS_OF_STRINGS = ('"', '"}', '",', '"]', '"}}', '"}]', '"],', '"},', '" ', '"\n')
_BEHIND = (b", ", b"}", b"]", b",", b"\n", b"")
_NUMBER = re.compile(r"[-+−]?\d[\d,   ]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TRUTHS = {"yes": "true", "true": "true", "no": "false", "false": "false"}


@dataclass(frozen=True, slots=True)
class Target:
    """An edit, and the weight of its target in free text."""

    edit: Edit
    weight: float


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What belongs in a value, and its weight before anything of it is said."""

    text: str
    weight: float
    sure: bool


@dataclass(slots=True)
class _Value:
    """The value that is being said: where, since which token, what is to stand there, how likely the model held it."""

    path: Path
    since: int
    chosen: _Chosen | None
    heard: dict[int, float] = field(default_factory=dict)


class PlacedTargets:
    """What the decoding of one structured answer is mixed with; used beside the constraint that holds the answer.

    Args:
        constraint: follows the same answer.
        structure: what it holds to.
        targets: of the edits that fire.
    """

    def __init__(self, constraint: Constraint, structure: Structure, targets: Sequence[Target]) -> None:
        self._constraint, self._structure, self._targets = constraint, structure, tuple(targets)
        self._fields = Fields.of(structure.schema) if structure.kind is StructureKind.JSON else Fields()
        self._closing = _single(constraint.tokens, _ENDS_OF_STRINGS)
        self._begin()

    def _begin(self) -> None:
        self._said: list[int] = []
        self._text = b""
        self._json = JsonText()
        self._value: _Value | None = None

    def due(self, said: Sequence[int]) -> Due | None:
        """Return the token that a target's next bytes begin with; None where no target is due."""
        self._follow(said)
        if self._structure.kind is StructureKind.JSON:
            return self._in_json(len(said))
        opening = self._constraint.opening
        if not self._text.startswith(opening) or len(self._targets) != 1:
            return None
        target = self._targets[0]
        whole = [opening + text for text in self._answers(target.edit.target)]
        return self._next(self._text, whole, ends=True)

    def hear(self, at: int, logprob: float) -> None:
        """Take down how likely (nats) the model held the token that was due behind ``at`` tokens."""
        if self._value is not None:
            self._value.heard[at] = logprob

    def weight_at(self, at: int) -> float:
        """Return the weight of the token that is due: the less likely the model held what was said, the more."""
        value = self._value
        if value is None or value.chosen is None:
            return self._targets[0].weight
        first = value.chosen.weight
        alone = math.exp(sum(logprob for token, logprob in value.heard.items() if value.since <= token < at))
        return min(first / (first + (1.0 - first) * alone), SUREST)

    def _follow(self, said: Sequence[int]) -> None:
        if list(said[: len(self._said)]) != self._said:
            self._begin()
        new = list(said[len(self._said) :])
        if new:
            data = self._constraint.tokens.decode_bytes(new)
            self._said += new
            self._text += data
            self._json.add(data)

    def _in_json(self, at: int) -> Due | None:
        place = self._json.place
        if place is None:
            self._value = None
            return None
        if self._value is None or self._value.path != place.path:
            self._value = _Value(place.path, at, self._chosen(place.path))
        value = self._value
        if value.chosen is None:
            return None
        barred = self._closing if value.chosen.sure and place.said == b'"' else ()
        writings = self._writings(value.chosen.text, place)
        return self._next(place.said, writings, barred=barred, ends=not place.path)

    def _next(
        self, said: bytes, writings: Sequence[bytes], *, barred: tuple[int, ...] = (), ends: bool = False
    ) -> Due | None:
        """Return the token by which the first writing goes on that begins as ``said`` and that the structure takes."""
        tokens = self._constraint.tokens
        for writing in writings:
            if not writing.startswith(said):
                continue
            rest = writing[len(said) :]
            for lead in (b"", b" ") if not said and not ends else (b"",):
                ids = tokens.tokenize_bytes(lead + rest) if rest else list(tokens.eos_tokens[:1]) if ends else []
                if ids and self._constraint.takes(ids):
                    return Due(ids[0], barred)
        return None

    def _chosen(self, path: Path) -> _Chosen | None:
        """Return what belongs in the value at a path."""
        ranked, others = [], []
        for target in self._targets:
            fit, elsewhere = self._fields.standing(path, target.edit, partial(_holds, edit=target.edit))
            if elsewhere is not None and elsewhere > fit:
                others.append(target)
            elif not self._is_said(target.edit.target, path, fit[0] >= NAMED):
                sure = elsewhere != fit and (fit[0] > 0 or bool(self._fields.leaves))
                ranked.append(((sure, fit), target))
        ranked.sort(key=lambda one: one[0], reverse=True)
        if not ranked:
            return self._subject(path, others)
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            return None
        (sure, fit), target = ranked[0]
        weight = _raised(target.weight, _ODDS_NAMED if fit[0] > NAMED else _ODDS)
        return _Chosen(target.edit.target, weight if sure else min(target.weight, _LITTLE), sure)

    def _subject(self, path: Path, targets: Sequence[Target]) -> _Chosen | None:
        """Return the subject of the edits, for a value that is beside the one of their target."""
        subjects = {target.edit.subject for target in targets}
        leaf = self._fields.at(path)[0]
        if len(subjects) != 1 or leaf.options or (leaf.types and "string" not in leaf.types) or is_prose(leaf):
            return None
        subject = subjects.pop()
        return None if subject is None or self._is_said(subject, path, False) else _Chosen(subject, _LITTLE, False)

    def _is_said(self, text: str, path: Path, named: bool) -> bool:
        """Whether a value holds a text already; another one may say it again only where it is ``named`` for it."""
        written = {json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode()}
        said = [numberless(value.path) for value in self._json.values if value.said in written]
        return bool(said) and (not named or numberless(path) in said)

    def _writings(self, text: str, place: Place) -> list[bytes]:
        """Return the ways to write a text as the value at a place, the plainest first."""
        options = [option for leaf in self._fields.at(place.path) for option in leaf.options]
        same = [option for option in options if folded_text(option) == folded_text(text)]
        found = [json.dumps(one, ensure_ascii=False).encode() for one in dict.fromkeys([text, text.strip(), *same])]
        bare = [one for one in (_number(text), _TRUTHS.get(folded_text(text))) if one is not None]
        return [*found, json.dumps(text).encode(), *(one.encode() + behind for one in bare for behind in _BEHIND)]

    def _answers(self, text: str) -> list[bytes]:
        """Return the ways to write a text as an answer that is no JSON."""
        same = [one for one in self._structure.choices if folded_text(one) == folded_text(text)]
        return [one.encode() for one in dict.fromkeys([*same, text, text.strip(), _number(text)]) if one]


def placed_targets(
    constraint: Constraint, structure: Structure, adapter: Adapter, row: Row, fired: Sequence[Hit]
) -> PlacedTargets | None:
    """Return what a structured answer is mixed with when the edits of ``fired`` apply; None for nothing.

    Args:
        constraint: holds the answer.
        structure: what it holds to.
        adapter: the adapter in use.
        row: the row as the caller gave it.
        fired: what fires on it.
    """
    if not fired or not isinstance(adapter, MixesTargets) or adapter.target_weight == 0.0:
        return None
    if structure.kind is StructureKind.MIXED:
        return None
    return PlacedTargets(constraint, structure, [Target(hit.edit, weight_of(adapter, row, hit)) for hit in fired])


def _raised(weight: float, odds: float) -> float:
    """Return a weight whose odds are so many times as high."""
    return weight * odds / (weight * odds + 1.0 - weight)


def _holds(leaf: Leaf, edit: Edit) -> bool:
    """Whether an edit's target can stand in a value."""
    if leaf.options:
        return any(folded_text(option) == folded_text(edit.target) for option in leaf.options)
    if not leaf.types or "string" in leaf.types:
        return True
    number = {"number", "integer"} & leaf.types and _number(edit.target) is not None
    return bool(number or ("boolean" in leaf.types and folded_text(edit.target) in _TRUTHS))


def _number(text: str) -> str | None:
    """Return the one number that a text holds, as JSON writes it; None where it holds none or several."""
    found = _NUMBER.findall(text)
    if len(found) != 1:
        return None
    plain = re.sub(r"[,   ]", "", found[0]).replace("−", "-").lstrip("+")
    try:
        value = json.loads(plain)
    except ValueError:
        return None
    return plain if isinstance(value, int | float) else None


def _single(tokens: LLTokenizer, texts: Sequence[str]) -> tuple[int, ...]:
    """Return the tokens of those texts that are one token."""
    found = (tokens.tokenize_str(text) for text in texts)
    return tuple(sorted({ids[0] for ids in found if len(ids) == 1}))
