"""Names as people also write them, and texts with a name masked."""

import random

from memedit.scope.judge.network import MASK
from memedit.training.scope.wordings import mistyped


def stands(subject: str, text: str) -> bool:
    """Say whether a subject stands in a text, but for case."""
    return bool(subject) and subject.casefold() in text.casefold()


def masked(text: str, subject: str) -> str:
    """Return the text with the subject masked wherever it stands, but for case."""
    if not subject:
        return text
    folded, wanted, out, at = text.casefold(), subject.casefold(), [], 0
    if len(folded) != len(text):
        return text.replace(subject, MASK)
    while (place := folded.find(wanted, at)) >= 0:
        out += [text[at:place], MASK]
        at = place + len(wanted)
    return "".join([*out, text[at:]])


def another_way(name: str, rng: random.Random) -> str:
    """Return a name as people also write it: shortened, mistyped, in initials, run together."""
    words = name.split()
    draw = rng.random()
    if draw < 0.3 or len(words) < 2:
        return _mistyped_name(name, rng)
    if draw < 0.6:  # what comes first mostly tells one from the others
        name = " ".join(words[: rng.randrange(1, len(words))])
    elif draw < 0.7:
        name = " ".join(words[1:]) if rng.random() < 0.5 else words[-1]
    elif draw < 0.8 and len(words) > 2:
        name = "".join(word[0] for word in words if word[0].isalnum()).upper()
    elif draw < 0.9:
        name = " ".join(_abbreviated(word, rng) for word in words)
    else:
        name = "".join(words) if rng.random() < 0.5 else "-".join(words)
    return _mistyped_name(name, rng) if rng.random() < 0.15 else name


def _mistyped_name(name: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2))):
        name = mistyped(f" {name}  ", rng).strip()
    return name


def _abbreviated(word: str, rng: random.Random) -> str:
    """Cut a long word short, with or without a full stop."""
    if len(word) < 6 or rng.random() < 0.4:
        return word
    return word[: rng.choice((3, 4))] + rng.choice((".", ""))
