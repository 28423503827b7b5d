"""One form for texts that differ only in spelling habits, and the hashes the store looks edits up by."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from memedit.index.words import folded_words

_WORD = re.compile(r"\w+")
_EDGE = " \t\r\n.,;:!?\"'`“”‘’«»…、。？！"


def normalise(text: str) -> str:
    """Casefold, NFKC, collapse white space, drop punctuation at the edges: the form that the store looks texts up by.

    Scopes compare words alone (:func:`memedit.scope.text.folded_text`), evaluation answers by SQuAD's rules
    (:func:`memedit.evaluation.protocols.normalise_answer`).
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(folded.split()).strip(_EDGE)
    return plain or " ".join(folded.split())


def same_prompt(one: str, other: str) -> bool:
    """Whether two prompts are one: they differ in composed characters, case and blanks around them, if at all."""
    return one == other or _folded(one) == _folded(other)


def _folded(text: str) -> str:
    return composed(composed(text).casefold()).strip()


def same_target(one: str, other: str) -> bool:
    """Whether two targets are one: they differ in composed characters and blanks around them, if at all."""
    return one == other or composed(one).strip() == composed(other).strip()


def composed(text: str) -> str:
    """Return a text with its characters composed (NFC): an accent is part of its letter."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def nearest_spelling(text: str, prompts: Sequence[str]) -> list[bool]:
    """Say which of some prompts a query may mean, as far as accents tell.

    Of prompts that are the same but for accents those are meant that share most words with the query, accents and all.
    """
    if all(prompt.isascii() for prompt in prompts):
        return [True] * len(prompts)
    asked = _accented(text)
    groups: dict[str, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        groups[" ".join(folded_words(prompt))].append(number)
    meant = [True] * len(prompts)
    for group in groups.values():
        shared = [len(asked & _accented(prompts[number])) for number in group]
        for number, count in zip(group, shared, strict=True):
            meant[number] = count == max(shared)
    return meant


def _accented(text: str) -> set[str]:
    """Return the words of a text, case folded, with their accents."""
    return set(_WORD.findall(composed(composed(text).casefold())))


def lookup_hash(namespace: str, text: str) -> int:
    """Signed 64-bit hash of a normalised text within a namespace, equal for texts that normalise alike."""
    digest = hashlib.blake2b(f"{namespace}\0{normalise(text)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def content_hash(namespace: str, prompt: str, target: str, subject: str | None, paraphrases: Sequence[str]) -> str:
    """SHA-256, in hex, of what makes an edit the same edit: verbatim texts and namespace."""
    # no text holds a NUL, so it separates without doubt
    parts = "\0".join([namespace, prompt, target, "-" if subject is None else f"+{subject}", *paraphrases])
    return hashlib.sha256(parts.encode()).hexdigest()
