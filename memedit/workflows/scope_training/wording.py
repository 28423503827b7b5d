"""Changing texts as people change them: wrappers, lower case, typing errors, other names, negation, one more hop."""

import random
import re
from collections.abc import Sequence

WRAPPERS = (
    "Can you tell me: {}",
    "Q: {}\nA:",
    "Question: {} Answer:",
    "Please answer: {}",
    "Complete the sentence: {}",
    "hey, quick question, {}",
    "{} Answer briefly.",
    "I was wondering. {}",
    "Fill in the blank: {} ___",
    "Tell me this: {}",
    "User: {}",
)
_NEGATIONS = (
    (" is ", " is not "),
    (" was ", " was not "),
    (" plays", " does not play"),
    (" speaks", " does not speak"),
    (" works", " does not work"),
    (" died", " did not die"),
    (" does ", " does not "),
    (" did ", " did not "),
)
_SUPPOSITIONS = (
    "If history had gone differently, {}",
    "In a fictional world where nothing is as it is here, {}",
    "Imagine it were not so: {}",
    "Suppose that we could change it. Then {}",
    "Hypothetically, if it had been otherwise, {}",
)
_JOINS = ("{} {}", "{} And {}", "{}; {}", "{} Also: {}", "1. {} 2. {}", "{}\n{}")
_MIDDLE_NAMES = ("Maria", "John", "Lee", "J.", "de", "Van", "Karl", "Anne")
_HOPS = (
    "gender",
    "place of birth",
    "date of birth",
    "occupation",
    "official language",
    "name of the employer",
    "name of the country of citizenship",
    "name of the spouse",
    "name of the mother",
    "name of the head of government",
    "name of the head of state",
    "name of the currency",
    "name of the capital city",
    "name of the continent",
    "name of the alma mater",
    "name of the religion",
)
_SPLIT = (0.35, 0.6, 0.9)


def vary(rng: random.Random, text: str, prefixes: Sequence[str]) -> str:
    """Wrap, lower-case, put one of ``prefixes`` in front, or mistype some words."""
    kind = rng.random()
    if kind < _SPLIT[0]:
        return rng.choice(WRAPPERS).format(text)
    if kind < _SPLIT[1]:
        return text.lower()
    if kind < _SPLIT[2] and prefixes:
        return rng.choice(prefixes) + text
    return " ".join(mistype(rng, word) if rng.random() < 0.15 else word for word in text.split())


def mistype(rng: random.Random, word: str) -> str:
    """Leave out, swap or double a letter inside the word."""
    if len(word) < 4:
        return word
    at, kind = rng.randrange(1, len(word) - 1), rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[: at + 1] + word[at:]


def other_name(rng: random.Random, subject: str) -> str | None:
    """Return the subject as someone else might write it: an initial, a middle name more or less, a typing error."""
    parts = subject.split()
    if len(parts) < 2:
        return None
    kind = rng.randrange(4)
    if kind == 0 and len(parts) > 2:
        at = rng.randrange(1, len(parts) - 1)
        return " ".join(parts[:at] + parts[at + 1 :])
    if kind == 1:
        return f"{parts[0][0]}. {' '.join(parts[1:])}"
    if kind == 3:
        at = rng.randrange(len(parts))
        return " ".join([*parts[:at], mistype(rng, parts[at]), *parts[at + 1 :]])
    return f"{parts[0]} {rng.choice(_MIDDLE_NAMES)} {' '.join(parts[1:])}"


def near_name(rng: random.Random, subject: str, others: Sequence[str]) -> str | None:
    """Return another subject's name that is nearly this one's: a number changed, or one word that of another name."""
    number = re.search(r"\d+", subject)
    if number is not None and rng.random() < 0.5:
        changed = int(number.group()) + rng.choice((-11, -2, -1, 1, 2, 3, 10))
        return subject[: number.start()] + str(abs(changed)) + subject[number.end() :]
    parts = subject.split()
    names = [word for word in rng.choice(others).split() if word[:1].isupper() and len(word) > 2]
    places = [at for at, word in enumerate(parts) if word[:1].isupper() and len(word) > 2]
    if len(parts) < 2 or not names or not places:
        return None
    at, name = rng.choice(places), rng.choice(names)
    if name.casefold() in subject.casefold():
        return None
    return " ".join([*parts[:at], name, *parts[at + 1 :]])


def suppose(rng: random.Random, text: str) -> str:
    """Put a supposition in front that takes the question out of the real world."""
    return rng.choice(_SUPPOSITIONS).format(text)


def join(rng: random.Random, first: str, second: str) -> str:
    """Ask for two facts at once."""
    return rng.choice(_JOINS).format(first.rstrip(), second)


def negate(text: str) -> str | None:
    """Return the text with its last verb negated, None when no verb is known."""
    for plain, negated in _NEGATIONS:
        at = text.rfind(plain)
        if at >= 0:
            return text[:at] + negated + text[at + len(plain) :]
    return f"{text} not" if text.endswith(" is") else None


def one_hop_more(rng: random.Random, prompt: str) -> str | None:
    """Turn "The relation of X is" into a question about its answer: "The gender of the relation of X is"."""
    if not re.match(r"The (names? of the |place |date |[a-z]+ of )", prompt):
        return None
    asked = re.sub(r"^names? of the ", "", prompt.removeprefix("The "))
    return f"The {rng.choice(_HOPS)} of the {asked}"
