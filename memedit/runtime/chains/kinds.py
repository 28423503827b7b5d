"""The kind of thing that a question asks for and that an edit says, where the wording names it: "which country"."""

import re
from collections.abc import Sequence

from memedit.index.words import folded_words
from memedit.runtime.chains.composing import hop_text
from memedit.types import Edit

_VERB = r"(?:is|are|was|were|does|do|did|has|have|had|can|will|would)"
_NAME_OF = re.compile(r"\b(?:name|identity|title)\s+of\s+(?:the\s+)?(?:current\s+)?", re.IGNORECASE)
_WHICH = re.compile(rf"^(?:\w+\s+)?(?:which|what)\s+(?!{_VERB}\b)(?:[\w-]+\s+){{0,2}}?(\w+)\s+{_VERB}\b", re.IGNORECASE)
""""In which city does ...", "What official language is ..."."""
_IS_THE = re.compile(
    r"^(?:(?:which|what|who)\s+(?:is|are|was|were)\s+)?the\s+(?:[\w-]+\s+){0,2}?(\w+)\s+(?:of|in|for|that|to|from|where)\b",
    re.IGNORECASE,
)
""""What is the home country of ...", "The capital of Austria is"."""
_KIND_LAST = re.compile(r"\bthe\s+(\w+)\s+of$", re.IGNORECASE)
""""Lea Brandt was born in the city of"."""
_CITIZEN = re.compile(r"\bcitizen(?:ship)?\b", re.IGNORECASE)
_ENDS = " \t\n?.!:"


def kind_asked(text: str) -> str | None:
    """Return the noun that says what a question asks for, None where its wording names none."""
    text = _NAME_OF.sub("", text.strip())
    found = _WHICH.match(text) or _IS_THE.match(text)
    return found[1].lower() if found else None


def kind_said(edit: Edit) -> str | None:
    """Return the noun that says what an edit's target is, None where its wording names none."""
    text = hop_text(edit).strip(_ENDS)
    last = _KIND_LAST.search(text)
    if last is not None:
        return last[1].lower()
    if _CITIZEN.search(text):
        return "country"
    return kind_asked(text)


def oversteps(text: str, chain: Sequence[Edit]) -> bool:
    """Say whether a chain goes on behind what a question asks for.

    That is so where the edit before the last says what is asked for ("which country"), and the last something of
    another kind that the question has no word of ("the continent").
    """
    asked, last, before = kind_asked(text), kind_said(chain[-1]), kind_said(chain[-2])
    return asked is not None and before == asked and last not in (None, asked) and last not in folded_words(text)
