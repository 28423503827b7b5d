"""Normal forms of text, for comparing prompts and subjects."""

from memedit.index.words import words


def folded_text(text: str) -> str:
    """Return the folded words of ``text`` joined by one space: case, diacritics, punctuation and spacing are gone.

    Text without a single word (only punctuation) keeps its characters, so that different ones stay different.
    """
    folded = [word.folded for word in words(text)]
    return " ".join(folded) if folded else " ".join(text.split())


def is_name(subject: str) -> bool:
    """Say whether a subject may be a name: it has capitals, or digits, or stands in a script that knows no capitals."""
    return subject != subject.lower() or subject == subject.upper() or any(c.isdigit() for c in subject)
