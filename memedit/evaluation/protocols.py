"""How an answer is taken and judged. The two protocols are never mixed, and one of them stands on every number.

``generate``
    The model gets the prompt and nothing of the answer. Greedy decoding ends at the end-of-sequence token, at the
    first newline behind visible text, or at the token limit of the probe, which is the same for every method. A
    newline in front of any visible text is passed over: some models open every answer with one. The answer is the
    text up to that newline. It is *exact* when it equals an acceptable answer after normalisation; *contains* and
    *prefix* look for the words of an acceptable answer anywhere, or at the start, of the normalised answer.

``teacher_forced``
    The model gets the prompt and the gold answer, and each token of the gold answer is judged given those before it.
    This is what most papers report. It flatters: the model is told the answer as it goes.
"""

import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

_ARTICLES = re.compile(r"\b(a|an|the)\b")


class Protocol(StrEnum):
    """How answers are taken."""

    GENERATE = "generate"
    TEACHER_FORCED = "teacher_forced"


def first_line(text: str) -> str:
    """Return the answer in a generated text: its first line that is not blank, without surrounding space."""
    return text.lstrip().split("\n", 1)[0].strip()


@lru_cache(maxsize=65536)
def normalise_answer(text: str) -> str:
    """Return text as it is compared: NFKC, case folded, punctuation and English articles removed, spaces collapsed.

    These are SQuAD's rules (Rajpurkar et al. 2016) with Unicode's idea of punctuation. Where nothing would be left
    ("The The", "?!") only the case and the spaces are changed.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if _is_separator(char) else char for char in folded if not _is_mark_to_drop(char))
    words = _ARTICLES.sub(" ", kept).split()
    return " ".join(words or folded.split())


def _is_mark_to_drop(char: str) -> bool:
    """Apostrophes and full stops vanish ("U.S." is "us"); other punctuation parts words."""
    return char in "'’.`"


def _is_separator(char: str) -> bool:
    return unicodedata.category(char)[0] == "P"


def is_exact(answer: str, answers: Sequence[str]) -> bool:
    """Say whether the answer equals one of ``answers`` after normalisation."""
    return normalise_answer(answer) in {normalise_answer(a) for a in answers}


def is_contained(answer: str, answers: Sequence[str]) -> bool:
    """Say whether the words of one of ``answers`` stand in the answer one after another."""
    padded = f" {normalise_answer(answer)} "
    return any(f" {normalise_answer(a)} " in padded for a in answers)


def is_prefix(answer: str, answers: Sequence[str]) -> bool:
    """Say whether the answer begins with the words of one of ``answers``."""
    padded = f"{normalise_answer(answer)} "
    return any(padded.startswith(f"{normalise_answer(a)} ") for a in answers)
