"""One form for texts that differ only in spelling habits, and the hashes the store looks edits up by."""

import hashlib
import unicodedata
from collections.abc import Sequence

_EDGE = " \t\r\n.,;:!?\"'`“”‘’«»…、。？！"


def normalise(text: str) -> str:
    """Casefold, NFKC, collapse white space, drop punctuation at the edges."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(folded.split()).strip(_EDGE)
    return plain or " ".join(folded.split())


def lookup_hash(namespace: str, text: str) -> int:
    """Signed 64-bit hash of a normalised text within a namespace, equal for texts that normalise alike."""
    digest = hashlib.blake2b(f"{namespace}\0{normalise(text)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def content_hash(namespace: str, prompt: str, target: str, subject: str | None, paraphrases: Sequence[str]) -> str:
    """SHA-256, in hex, of what makes an edit the same edit: verbatim texts and namespace."""
    # no text holds a NUL, so it separates without doubt
    parts = "\0".join([namespace, prompt, target, "-" if subject is None else f"+{subject}", *paraphrases])
    return hashlib.sha256(parts.encode()).hexdigest()
