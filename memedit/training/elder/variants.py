"""Other ways to ask for an edit, made without a teacher model: what a mixture must answer besides the prompt itself.

Whether an edit applies is the scope's business. What its mixture has to learn is to say the target behind whatever
wording, so wordings may be crude: other edits' prompts with this edit's subject, other edits in front of the prompt,
question marks, chats. Paraphrases that the author of the edit gave are used; nothing else is asked to be right.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memedit.models.token_rows import query_ids
from memedit.models.tokenizers import encode_as_data
from memedit.types import Edit

_FRAMES = (
    "Q: {prompt} A:",
    "Question: {prompt}\nAnswer:",
    "It is known that {prompt}",
    "{subject}:",
    "About {subject}:",
)


@dataclass(frozen=True, slots=True)
class Exercise:
    """One wording to learn: ids of the query and of the answer, end token included; ``own`` numbers its edit.

    ``number`` tells the wordings of an edit apart; 0 is the edit's own prompt.
    """

    query: tuple[int, ...]
    answer: tuple[int, ...]
    own: int
    number: int


def exercises(
    tokenizer: Any, edits: Sequence[Edit], others: Sequence[Edit], *, count: int, limit: int, seed: int
) -> list[Exercise]:
    """Return ``count`` wordings of each edit (more where its author gave more), the prompt itself first.

    Args:
        tokenizer: the model's tokenizer.
        edits: what to learn; ``own`` is the place in this sequence.
        others: edits whose wordings and statements are borrowed; may contain ``edits`` themselves.
        count: wordings of each edit.
        limit: wordings longer than so many tokens, the answer included, are left out; the prompt itself never is.
        seed: with an edit's content it decides its wordings, whatever edits stand beside it.
    """
    made: list[Exercise] = []
    chats = getattr(tokenizer, "chat_template", None) is not None
    for own, edit in enumerate(edits):
        rng = random.Random(f"{seed}:{edit.content_hash}")
        texts = wordings(edit, others, count=count, rng=rng)
        for number, (text, chat) in enumerate(texts):
            found = _exercise(tokenizer, edit, text, chat=chat and chats, own=own, number=number)
            if found.answer and (number == 0 or len(found.query) + len(found.answer) <= limit):
                made.append(found)
    return made


def wordings(edit: Edit, others: Sequence[Edit], *, count: int, rng: random.Random) -> list[tuple[str, bool]]:
    """Return distinct wordings, each with whether it is put as a chat's user turn; the prompt itself comes first."""
    found = {(edit.prompt, False): None}
    found |= {(text, False): None for text in edit.paraphrases}
    makers = (_borrowed, _behind_another, _borrowed_behind_another, _chat, _framed)
    for turn in range(4 * count):
        if len(found) >= count:
            break
        found[makers[turn % len(makers)](edit, others, rng)] = None
    return list(found)


def _exercise(tokenizer: Any, edit: Edit, text: str, *, chat: bool, own: int, number: int) -> Exercise:
    glued = chat or text[-1:].isspace()
    answer = encode_as_data(tokenizer, edit.target.strip() if glued else f" {edit.target.strip()}")
    if answer and tokenizer.eos_token_id is not None:
        answer = [*answer, int(tokenizer.eos_token_id)]
    return Exercise(tuple(query_ids(tokenizer, text, chat=chat)), tuple(answer), own, number)


def _borrowed(edit: Edit, others: Sequence[Edit], rng: random.Random) -> tuple[str, bool]:
    """Another edit's prompt about this edit's subject."""
    for _ in range(8 if edit.subject and others else 0):
        other = rng.choice(others)
        if other.subject and other.subject in other.prompt and other.prompt != edit.prompt:
            return other.prompt.replace(other.subject, str(edit.subject)), False
    return _framed(edit, others, rng)


def _behind_another(edit: Edit, others: Sequence[Edit], rng: random.Random) -> tuple[str, bool]:
    """The prompt behind a statement it has nothing to do with."""
    return f"{_statement(edit, others, rng)}{edit.prompt}", False


def _borrowed_behind_another(edit: Edit, others: Sequence[Edit], rng: random.Random) -> tuple[str, bool]:
    return f"{_statement(edit, others, rng)}{_borrowed(edit, others, rng)[0]}", False


def _framed(edit: Edit, others: Sequence[Edit], rng: random.Random) -> tuple[str, bool]:
    frames = [frame for frame in _FRAMES if edit.subject or "{subject}" not in frame]
    return rng.choice(frames).format(prompt=edit.prompt, subject=edit.subject), False


def _chat(edit: Edit, others: Sequence[Edit], rng: random.Random) -> tuple[str, bool]:
    return edit.prompt, True


def _statement(edit: Edit, others: Sequence[Edit], rng: random.Random) -> str:
    usable = [other for other in (rng.choice(others) for _ in range(4 if others else 0)) if other.id != edit.id]
    return f"{usable[0].prompt} {usable[0].target}. " if usable else "By the way. "
