"""A chain of edits read as one: the text that asks for its last target by way of its first subject.

No question is taken apart. A chain says itself what it answers: in the prompt of each edit the words of the edit before
take the place of the subject ("The capital of the country that Lea Brandt is a citizen of is"), and the whole is an
edit about the first subject. What can be judged beside a question is then the whole chain, at any length.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from memedit.scope.judge.places import places
from memedit.types import Edit, EditKind

_ASKING = re.compile(
    r"^(?:who|what|which|where|when)(?:\s+(?:is|are|was|were)|['’]s)\s+(?=(?:the|a|an|[A-Z]\w*['’]s)\s)", re.IGNORECASE
)
"""What stands before the thing itself in a question for it: "What is | the capital of Austria"."""
_VERB_BEHIND = re.compile(r"\s+(?:is|are|was|were)$", re.IGNORECASE)
_VERB_WITHIN = re.compile(r"\s(?:is|are|was|were)\s")
_ARTICLE = re.compile(r"^(?:The|An?)(?=\s)")
_ENDS = " \t\n?.!:"
_NOUN_LAST = re.compile(
    r"^(?P<said>.+?)(?:\s+(?P<by>in|with|by|for|to|from|on|at|as|of))?\s+the\s+(?P<noun>\w+)\s+of$", re.IGNORECASE
)
"""A statement that ends by naming the kind of its value: "Lea Brandt was born | in | the | city | of"."""
_DANGLING = re.compile(
    r"^(?!what\b|who\b|where\b|which\b|when\b|how\b).+\s(?:in|with|by|for|to|from|on|at|as|of|is|are)$", re.IGNORECASE
)
"""A statement that ends where its value is to stand: "Lea Brandt is a citizen of"."""
_PHRASE = 300
"""Characters of a hop's words that a text is composed of."""


def hop_text(edit: Edit) -> str:
    """Return what an edit's prompt asks; a statement without the value that it states."""
    if edit.kind is EditKind.STATEMENT and edit.target in edit.prompt and edit.target != edit.prompt:
        at = edit.prompt.rindex(edit.target)
        return f"{edit.prompt[:at]}{edit.prompt[at + len(edit.target) :]}".strip(_ENDS)
    return edit.prompt


def phrase(text: str) -> str:
    """Return what a hop asks for as words that can stand in the place of a name: "the capital of Austria".

    A statement without its value becomes one: "the city in which Lea Brandt was born", "what Lea Brandt likes".
    """
    text = text.strip(_ENDS)
    named = _NOUN_LAST.match(text)
    if named is not None and _says(text):
        return f"the {named['noun']} {named['by'] + ' ' if named['by'] else ''}which {_lowered(named['said'])}"
    found = _VERB_BEHIND.sub("", _ASKING.sub("", text))
    if found == text and _DANGLING.match(text) and _says(text):
        return f"what {_lowered(text)}"
    return _lowered(found)


def _lowered(text: str) -> str:
    """Return a text that does not begin with a capital article."""
    return _ARTICLE.sub(lambda article: article.group().lower(), text)


def _says(text: str) -> bool:
    """Say whether a text may be a statement: "The Falcon Pro is made by", not "The capital of"."""
    return _ARTICLE.match(text) is None or _VERB_WITHIN.search(text) is not None


def composed(chain: Sequence[Edit]) -> str:
    """Return the chain's edits, first hop first, as one text about the first edit's subject."""
    text = hop_text(chain[0])
    for edit in chain[1:]:
        text = _put(hop_text(edit), edit.subject or "", phrase(text)[:_PHRASE])
    return text


def as_one_edit(chain: Sequence[Edit]) -> Edit:
    """Return the edit that a chain amounts to: its composed text, the first subject, the last target.

    It is for a scope to judge and is stored nowhere. Its id is that of the last edit.
    """
    first, last, text = chain[0], chain[-1], composed(chain)
    digest = hashlib.sha256("\0".join(["chain", text, first.subject or "", last.target]).encode()).hexdigest()
    return replace(
        last,
        prompt=text,
        subject=first.subject,
        paraphrases=(),
        blocks=(),
        kind=EditKind.FACT,
        content_hash=digest,
    )


def _put(text: str, subject: str, words: str) -> str:
    """Put words in the place of a subject; behind the text where the subject does not stand in it."""
    found = places(subject, text)
    if not found:
        return f"{text.rstrip(_ENDS)} {words}"
    start, end = found[0]
    return f"{text[:start]}{words}{text[end:]}"
