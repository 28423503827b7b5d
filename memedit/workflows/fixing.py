"""From the last question of a talk to the prompt of an edit that stands by itself."""

import re
from collections.abc import Mapping, Sequence

from memedit.index import guess_subject
from memedit.scope.text import is_name

_SAID = {
    "it": "", "he": "", "she": "", "they": "", "him": "", "them": "", "there": "", "that": "",
    "its": "'s", "his": "'s", "hers": "'s", "their": "'s", "theirs": "'s",
}  # fmt: skip
"""Pronouns, and what follows the name that takes their place."""

_PRONOUN = re.compile(rf"\b({'|'.join(sorted(_SAID, key=len, reverse=True))}|her)\b", re.IGNORECASE)
_FOLLOWED = re.compile(r"\s+\w")


def explicit_question(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the last question of a talk with its subject named: "When does it open?" takes it from an earlier turn.

    A question that names its subject, or a talk that names none, leaves the question as it stands; empty without one.
    """
    asked = [number for number, message in enumerate(messages) if message["role"] == "user"]
    if not asked:
        return ""
    question = messages[asked[-1]]["content"].strip()
    if _name(question) is not None:
        return question
    earlier = messages[: asked[-1]]
    turns = [m for m in reversed(earlier) if m["role"] == "user"] + [
        m for m in reversed(earlier) if m["role"] != "user"
    ]
    subject = next((name for turn in turns if (name := _name(turn["content"])) is not None), None)
    return question if subject is None else _with_subject(question, subject)


def _name(text: str) -> str | None:
    subject = guess_subject(text)
    return subject if subject is not None and is_name(subject) and not _PRONOUN.fullmatch(subject) else None


def _with_subject(question: str, subject: str) -> str:
    found = _PRONOUN.search(question)
    if found is None:
        return f"{subject}: {question}"
    said = found[1].lower()
    owns = _FOLLOWED.match(question, found.end()) is not None if said == "her" else bool(_SAID[said])
    return question[: found.start()] + subject + ("'s" if owns else "") + question[found.end() :]
