"""Texts with the spans of their subject and value, made from the inventory of relations and from data rows."""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets.splits import is_held_out_row
from memedit.training.scope.inventory import FOLDER, Family, Relation, read_families
from memedit.training.scope.rows import RewordedRow
from memedit.training.scope.wordings import CLAIMS, NOW, PAST, dressed, qualified
from memedit.training.subjects import wordings as made

_S, _O = "\ue000", "\ue001"
"""Stand for subject and value until all that changes a text is done; no text holds these characters."""
_ARTICLES = (
    "the a an der die das den dem des ein eine einen la le les un une el los las una il lo gli o os as um uma de het "
    "een ο η το οι τα τον την του της"
)
ARTICLES = frozenset(_ARTICLES.split())
_KINDS = (
    ("questions",) * 5
    + ("statements",) * 5
    + ("cloze",) * 3
    + ("casual",) * 3
    + ("yesno",) * 2
    + ("long",) * 2
    + ("off",)
)
_DETERMINED = re.compile(r"\b(?:the|a|an|my|our|your|his|her|their|this)\s+" + _S, re.IGNORECASE)
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text with character spans of its subject (every place where it stands) and its value."""

    text: str
    subjects: tuple[Span, ...]
    values: tuple[Span, ...] = ()
    source: str = ""

    @property
    def subject(self) -> str | None:
        """The subject, verbatim; None where the text names none."""
        return self.text[slice(*self.subjects[0])] if self.subjects else None

    @property
    def value(self) -> str | None:
        """The value, verbatim."""
        return self.text[slice(*self.values[0])] if self.values else None


@dataclass(frozen=True, slots=True)
class Source:
    """Families that one name stands for: a file, or one language of a file that has several."""

    name: str
    families: tuple[Family, ...]
    english: bool = True


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Read inventory files; those with wordings by language give one source for each language but English.

    Raises:
        DatasetError: a file cannot be read, or a line is no family.
        InputError: no file is named.
    """
    sources = []
    for path in paths:
        families = tuple(read_families([path]))
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        languages = sorted({name for row in rows for item in row["relations"] for name in item.get("text", ())})
        if not languages:
            sources.append(Source(path.stem, families))
        for language in languages:
            name = path.stem if language == "en" else language
            sources.append(Source(name, tuple(_in_language(row, language) for row in rows), english=language == "en"))
    if not sources:
        raise InputError(f"no inventory file is named; those that ship lie in {FOLDER}")
    return sources


def _in_language(row: Mapping[str, Any], language: str) -> Family:
    """The family with the wordings, and where there are any the names, of one language."""
    names = row.get("local", {}).get(language) or row["subjects"]
    relations = []
    for item in row["relations"]:
        text = item["text"].get(language)
        if text:
            questions, said = tuple(text["questions"]), (text["statement"],)
            relations.append(Relation(item["id"], tuple(item["objects"]), questions, said, casual=(text["casual"],)))
    return Family(str(row["family"]), tuple(names), tuple(relations))


def plain_texts(source: Source, per_relation: int, rng: random.Random) -> Iterator[LabelledText]:
    """Wordings as they are written, with the family's own names: what the report is about."""
    for family in source.families:
        for relation in family.relations:
            for _ in range(per_relation):
                kind = rng.choice(_KINDS)
                wording = rng.choice(getattr(relation, kind) or relation.questions)
                yield filled(_placed(wording), rng.choice(family.subjects), rng.choice(relation.objects), source.name)


class ExampleMaker:
    """Draws training texts of one source, which depend on source, rows and seed alone."""

    def __init__(self, source: Source, rows: Sequence[RewordedRow], seed: int) -> None:
        self._source = source
        self._rng = random.Random(f"{seed}/{source.name}")
        self._names = [name for family in source.families for name in family.subjects]
        self._values = [o for family in source.families for relation in family.relations for o in relation.objects]
        self._row_names = [row.subject for row in rows] or list(made.FIRST_NAMES)

    def all(self, per_relation: int = 3, short: int = 130, notes: int = 60) -> list[LabelledText]:
        """Return texts of every relation; with families in English also short texts about made names, and notes."""
        texts = [
            self._wording(family, relation)
            for family in self._source.families
            for relation in family.relations
            for _ in range(per_relation)
        ]
        if self._source.english:
            texts += [self._short() for _ in range(short)]
            texts += [self._note() for _ in range(notes)]
        return texts

    def _wording(self, family: Family, relation: Relation) -> LabelledText:
        rng = self._rng
        kind = rng.choice(_KINDS)
        text = _placed(rng.choice(getattr(relation, kind) or relation.questions))
        draw = rng.random()
        if draw < 0.45:
            name = rng.choice(family.subjects)
        elif draw < 0.6:
            name = rng.choice(self._names)
        elif draw < 0.8:
            name = rng.choice(self._row_names)
        else:
            name = self._made_name()
        value = rng.choice(relation.objects) if rng.random() < 0.75 else self._value()
        return self._finished(text, name, value, kind)

    def _short(self) -> LabelledText:
        text = _placed(self._rng.choice(made.OBJECTS))
        return self._finished(text, self._made_name(), self._value(), "statements")

    def _value(self) -> str:
        rng = self._rng
        return rng.choice(made.VALUES) if rng.random() < 0.3 else rng.choice(self._values)

    def _note(self) -> LabelledText:
        """A note about the user, at times with the same said of somebody with a name beside it."""
        rng = self._rng
        at = rng.randrange(len(made.NOTES))
        text = _placed(rng.choice(made.NOTES[at]))
        value = rng.choice(made.NOTE_VALUES[at]) if rng.random() < 0.7 else self._value()
        if (
            text[0].isupper()
            and not text.startswith(("I ", "I'", "My ", "User", "The user", "Call"))
            and rng.random() < 0.35
        ):
            text = f"{_S} {text[0].lower()}{text[1:]}"
        text += rng.choice(("", "", "", "."))
        return self._finished(text, self._made_name(), value, "note")

    def _finished(self, text: str, name: str, value: str, kind: str) -> LabelledText:
        """Change a text as people do, then put in the names."""
        rng = self._rng
        if kind == "statements" and text.rstrip(".").endswith(_O) and rng.random() < 0.25:
            text, kind = text.rstrip(".")[: -len(_O)].rstrip(), "cloze"  # a statement left open
        if kind == "statements" and rng.random() < 0.06:
            text = rng.choice(CLAIMS).replace("{q}", text)
        if rng.random() < 0.06:
            text = qualified(text, rng.choice(NOW + PAST))
        if rng.random() < 0.12:
            opening = rng.choice(made.OPENINGS)
            text = opening + (text[0].lower() + text[1:] if text[0] in "TAI" and text[1:2] != " " else text)
        elif kind not in ("long", "note") and rng.random() < 0.3:
            text = dressed(text, rng, _S)
        elif rng.random() < 0.2:
            text = text.rstrip("?.!")
        if _DETERMINED.search(text) is None and rng.random() < 0.6 and name.rsplit(maxsplit=1)[-1] in made.THINGS:
            name = f"the {name}"
        if rng.random() < 0.04 and "'" not in name:
            text = text.replace(_S, f'"{_S}"')
        example = filled(text, name, value, self._source.name)
        draw = rng.random()
        lower = 0.3 if kind == "casual" else 0.12
        if draw < lower:
            return _recased(example, str.lower)
        return _recased(example, str.upper) if draw < lower + 0.02 else example

    def _made_name(self) -> str:
        rng = self._rng
        base = "".join(rng.sample(made.SYLLABLES, rng.choice((2, 2, 3)))).capitalize()
        first = rng.choice(made.FIRST_NAMES)
        forms = (
            base,
            f"{base} {rng.choice(made.THINGS)}",
            f"{base} {rng.choice(made.THINGS)}",
            f"{base} {rng.choice(made.THINGS).capitalize()}",
            f"{base} {rng.choice(made.SUFFIXES)}",
            first,
            f"{first} {base}",
            f"{first} {base}",
            f"{rng.choice(made.TITLES)} {base}",
            f"the {rng.choice(made.PLAIN)}",
            f"the {rng.choice(made.THINGS)}",
            f"{rng.choice(('my', 'my', 'our', 'his', 'her'))} {rng.choice(made.POSSESSIONS)}",
            f"{base[:2].upper()}-{rng.randrange(10, 2000)}",
            f"{base} {rng.randrange(2, 4000)}",
            f"{first}'s {rng.choice(made.POSSESSIONS)}",
            f"{base}'s {rng.choice(made.THINGS)}",
            f"{base} {rng.choice(self._row_names).split()[-1]}",
            f"{base} of {rng.choice(self._row_names).split()[0]}",
        )
        return rng.choice(forms)


def row_texts(rows: Sequence[RewordedRow], count: int, seed: int) -> list[LabelledText]:
    """Prompts and rewordings of data rows in which the subject stands; a file of n rows counts like the root of n."""
    by_source: dict[str, list[RewordedRow]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    total = sum(len(group) ** 0.5 for group in by_source.values())
    found = []
    for name, group in by_source.items():
        rng = random.Random(f"{seed}/{name}")
        for row in rng.sample(group, min(int(count * len(group) ** 0.5 / total), len(group))):
            for text in {row.prompt: None, rng.choice(row.rewordings): None}:
                example = prompt_text(text, row.subject, name)
                if example is not None:
                    found.append(_recased(example, str.lower) if rng.random() < 0.08 else example)
    return found


def prompt_text(text: str, subject: str, source: str) -> LabelledText | None:
    """Label the places where a data row's subject stands in its prompt; None when it does not."""
    pattern = r"(?<!\w)" + re.escape(subject.strip()) + r"(?!\w)"
    places = tuple(match.span() for match in re.finditer(pattern, text, re.IGNORECASE))
    return LabelledText(text, places, source=source) if places and subject.strip() else None


def held_out_prompts(path: Path) -> list[LabelledText]:
    """Return the prompts of a data file that train nothing, where their subject stands in them.

    Raises:
        DatasetError: the file cannot be read.
    """
    found = []
    try:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            row = json.loads(line) if line.strip() else {}
            prompt, subject = row.get("prompt") or row.get("src"), row.get("subject")
            form = "counterfact" if "case_id" in row else path.stem
            if isinstance(prompt, str) and isinstance(subject, str) and is_held_out_row(form, number, [prompt]):
                example = prompt_text(prompt, subject, path.stem)
                found += [] if example is None else [example]
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot be read: {error}", path=str(path)) from error
    return found


def _placed(wording: str) -> str:
    return wording.replace("{s}", _S).replace("{o}", _O)


def filled(text: str, name: str, value: str, source: str) -> LabelledText:
    """Put the names into a text with placeholders; the subject's article stays outside its span."""
    if _DETERMINED.search(text):
        name = re.sub(r"^(?:the|my|our|a|an)\s+", "", name)
    upper = text[:1] == _S and (text[-1:] in ".?!" or " is" in text)
    parts: list[str] = []
    subjects: list[tuple[int, int]] = []
    values: list[tuple[int, int]] = []
    length = 0
    for part in re.split(f"({_S}|{_O})", text):
        word = name if part == _S else value if part == _O else part
        if part and not parts and upper:
            word = word[:1].upper() + word[1:]
        if part == _S:
            subjects.append((length + _article(name), length + len(word)))
        elif part == _O:
            values.append((length, length + len(word)))
        if part:
            parts.append(word)
            length += len(word)
    return LabelledText("".join(parts), tuple(subjects), tuple(values), source)


def _article(name: str) -> int:
    """How many characters an article in front of a name takes; "The" inside a title is not one."""
    first, _, rest = name.partition(" ")
    return len(first) + 1 if rest and first.lower() in ARTICLES and (first.islower() or rest[:1].islower()) else 0


def _recased(example: LabelledText, change: Callable[[str], str]) -> LabelledText:
    text = change(example.text)
    if len(text) != len(example.text):
        return example  # a letter whose other case has another length
    return LabelledText(text, example.subjects, example.values, example.source)
