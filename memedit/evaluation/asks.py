"""Edits with what is asked about them: which ask must fire its edit, and which must leave the model as it is.

Files in three forms, one JSON object a line: *asks* (``edit`` and ``ask``, each ask with ``q`` and ``expect``), *talks*
(``turns`` and ``asks``), and families of the relation inventory (``family`` and ``relations``), from which edits about
every second relation of a subject are made.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError, unread
from memedit.evaluation.datasets.reading import read_records
from memedit.types import EditDraft

Messages = Sequence[Mapping[str, str]]
_SUBJECTS = 2
"""Subjects of a family that edits are made about."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A text or chat; ``wanted`` are the numbers of the edits that must fire (none: it must stay silent).

    ``kind`` is what is reported on. An answer must hold one of the alternatives of each of ``must_contain``.
    """

    query: str | Messages
    wanted: tuple[int, ...]
    kind: str
    must_contain: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class AskedEdits:
    """Edits of one memory and what is asked; :class:`Ask` counts edits from 0."""

    edits: tuple[EditDraft, ...]
    asks: tuple[Ask, ...]


def alternatives(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return what an answer must hold as it is written in files: texts, each with alternatives parted by ``|``."""
    return tuple(tuple(text.split("|")) for text in texts)


def lacking(answer: str, wanted: Sequence[Sequence[str]]) -> str:
    """Return what an answer lacks of what it must hold, its alternatives named; empty where it lacks nothing."""
    found = next((texts for texts in wanted if not any(text in answer for text in texts)), ())
    return " or ".join(map(repr, found))


def read_asks(path: Path, *, seed: int = 0) -> AskedEdits:
    """Read a file of asks, talks or families.

    Raises:
        DatasetError: it cannot be read, or a line is none of these; names file and line.
    """
    edits: list[EditDraft] = []
    asks: list[Ask] = []
    rng = random.Random(seed)
    for record in read_records(path):
        try:
            _add(record.values, edits, asks, rng)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise record.error(f"is neither asks, a talk nor a family: {unread(error)}") from error
    if not asks:
        raise DatasetError("asks nothing", path=str(path))
    return AskedEdits(tuple(edits), tuple(asks))


def _add(row: Mapping[str, Any], edits: list[EditDraft], asks: list[Ask], rng: random.Random) -> None:
    if "relations" in row:
        _add_family(row, edits, asks, rng)
    elif "turns" in row:
        _add_talk(row, edits, asks)
    else:
        number = len(edits)
        edits.append(EditDraft(row["edit"]["prompt"], row["edit"]["target"], row["edit"].get("subject")))
        for ask in row["ask"]:
            if ask["expect"] not in ("edited", "unchanged"):
                raise ValueError(f"expect is edited or unchanged, not {ask['expect']!r}")
            wanted = (number,) if ask["expect"] == "edited" else ()
            kind = f"{row['kind']}, {'fires' if wanted else 'silent'}"
            asks.append(Ask(ask["q"], wanted, kind, alternatives(ask.get("must_contain") or ())))


def _add_talk(row: Mapping[str, Any], edits: list[EditDraft], asks: list[Ask]) -> None:
    """Store what is asked, and the same of the subjects that are named and not asked about."""
    messages = [{"role": role, "content": text} for role, text in row["turns"]]
    wanted = []
    for asked in row["asks"]:
        wanted.append(len(edits))
        edits.append(EditDraft(asked["question"], f"value {len(edits)}", asked["subject"]))
    for other in row["not"]:
        for asked in row["asks"][:1]:
            if asked["subject"] in asked["question"]:
                question = asked["question"].replace(asked["subject"], other)
                edits.append(EditDraft(question, f"value {len(edits)}", other))
    if not row["asks"]:
        edits.extend(EditDraft(f"How old is {other}?", f"value {other}", other) for other in row["not"])
    asks.append(Ask(messages, tuple(wanted), f"talk, {row['kind']}"))


def _add_family(row: Mapping[str, Any], edits: list[EditDraft], asks: list[Ask], rng: random.Random) -> None:
    """Store every second relation of two subjects, and ask about all of them."""
    near = {name: other for pair in row.get("near_subjects", ()) for name, other in (pair, pair[::-1])}
    names = [name for pair in row.get("near_subjects", ())[:1] for name in pair[:1]]
    names += [name for name in row["subjects"] if name not in names and name not in map(near.get, names)]
    for subject in names[:_SUBJECTS]:
        stored = {}
        for relation in row["relations"][::2]:
            stored[relation["id"]] = len(edits)
            value = rng.choice(relation["objects"])
            if "text" in relation:
                prompt = _fill(relation["text"]["en"]["questions"][0], subject, value)
            else:
                prompt = _fill(_wording(relation, rng.choice(("questions", "questions", "cloze")), rng), subject, value)
            edits.append(EditDraft(prompt, value, subject))
        alike = {rid for pair in row.get("same", ()) if set(pair) & set(stored) for rid in pair}
        for relation in row["relations"]:
            if "text" in relation:
                asks += _asks_abroad(row, relation, subject, stored.get(relation["id"]))
                continue
            asks += _relation_asks(
                relation, subject, near.get(subject), stored, doubtful=relation["id"] in alike, rng=rng, edits=edits
            )


_KINDS = {"questions": "reworded", "casual": "casual", "cloze": "unfinished", "yesno": "yes/no", "long": "long"}


def _relation_asks(
    relation: Mapping[str, Any],
    subject: str,
    other: str | None,
    stored: Mapping[str, int],
    *,
    doubtful: bool,
    rng: random.Random,
    edits: Sequence[EditDraft],
) -> Iterator[Ask]:
    number = stored.get(relation["id"])
    for field, kind in _KINDS.items():
        wording = _wording(relation, field, rng)
        if wording is None:
            continue
        value = rng.choice(relation["objects"])
        text = _fill(wording, subject, value)
        if number is None and not doubtful:
            yield Ask(text, (), "other relation")
        elif number is not None and text != edits[number].prompt:
            yield Ask(text, (number,), kind)
        if number is not None and other is not None and field == "questions":
            yield Ask(_fill(wording, other, value), (), "near subject")
    if number is not None:
        for wording in relation.get("off", ())[:2]:
            yield Ask(_fill(wording, subject, ""), (), "look-alike")


def _asks_abroad(
    row: Mapping[str, Any], relation: Mapping[str, Any], subject: str, number: int | None
) -> Iterator[Ask]:
    """Ask in each language, under the subject's name as it is stored and as that language has it."""
    wanted = () if number is None else (number,)
    what = "asked" if wanted else "other relation"
    for language, texts in relation["text"].items():
        names = row.get("local", {}).get(language)
        local = names[row["subjects"].index(subject)] if names else subject
        wordings = [*texts["questions"], texts["casual"]][language == "en" :]
        for wording in wordings:
            yield Ask(_fill(wording, subject, ""), wanted, f"{what} in {language}")
        if local != subject:
            for wording in wordings:
                yield Ask(_fill(wording, local, ""), wanted, f"{what} in {language}, name too")


def _wording(relation: Mapping[str, Any], field: str, rng: random.Random) -> Any:
    found = relation.get(field)
    return rng.choice(found) if found else None


def _fill(wording: str, subject: str, value: str) -> str:
    return wording.replace("{s}", subject).replace("{o}", value)
