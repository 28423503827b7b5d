"""What the values of an edit are fitted on, and what its neurons are told from."""

from collections.abc import Sequence
from typing import Any

from memedit.models.prepared_tails import TailRow
from memedit.models.token_rows import answer_ids, query_ids
from memedit.types import Edit

_FRAMES = ("Q: {prompt} A:", "By the way, the weather was fine that day. {prompt}", "{subject}:")
_MOST_PARAPHRASES = 4

_RELATIONS = (
    "The capital of {} is", "The mother tongue of {} is", "{} was founded by", "{} is located in",
    "{} works as", "The color of {} is", "{} was born in", "{} plays the",
)  # fmt: skip
_SUBJECTS = (
    "France", "Maria", "the old bridge", "Tokyo", "the company", "Anton", "the river", "a friend", "the museum",
    "John Smith",
)  # fmt: skip


def own_texts(edit: Edit) -> list[str]:
    """Return the wordings that the edit came with: its prompt, then paraphrases, in whatever language."""
    return list(dict.fromkeys([edit.prompt, *edit.paraphrases[:_MOST_PARAPHRASES]]))


def reference_texts() -> list[str]:
    """Return prompts that no edit is about: how active a neuron is at the end of a prompt as such."""
    return [relation.format(subject) for relation in _RELATIONS for subject in _SUBJECTS]


def fitted_rows(tokenizer: Any, edit: Edit) -> list[TailRow]:
    """Return the rows that are to be answered by the edit's target, its end token included.

    Whether an edit applies is the scope's business; its values have to say the target behind whatever is asked. So
    wordings beside the edit's own may be crude. The last is a chat, where the tokenizer knows chats.
    """
    frames = [frame for frame in _FRAMES if edit.subject or "{subject}" not in frame]
    texts = own_texts(edit) + [frame.format(prompt=edit.prompt, subject=edit.subject) for frame in frames]
    asked = [(text, False) for text in texts]
    if getattr(tokenizer, "chat_template", None) is not None:
        asked.append((edit.prompt, True))
    rows = []
    for text, chat in asked:
        query = query_ids(tokenizer, text, chat=chat)
        rows.append(TailRow.of(query, answer_ids(tokenizer, text, edit.target.strip(), chat=chat, ends=True)))
    return rows


def queries(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of plain prompts."""
    return [query_ids(tokenizer, text, chat=False) for text in texts]
