"""How people really write: what stands around a question, what only mentions a subject, typing, times and numbers."""

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

OPENINGS = (
    "Quick question: ", "Hi! ", "Hello, ", "Hey, ", "Sorry to bother you again. ", "Please answer briefly. ",
    "For the quiz tonight: ", "I looked everywhere and can't find it. ", "Thanks for the help earlier! ", "Question: ",
    "My manager asked me this today. ", "I need this for a form. ", "One more thing: ", "Q: ", "ok so ", "Can you tell me: ",
    "We are updating our records. ", "I'm writing a short note for a colleague. ", "You are a careful assistant. ",
    "Do you happen to know: ", "Please: ", "Could you check something for me? ", "hey quick one, ", "Actually, ", "So, ",
    "I have a meeting in ten minutes. ", "My mum wants to know: ", "Remind me, ", "For the record: ", "Just wondering, ",
)  # fmt: skip
CLOSINGS = (
    " Thanks!", " Please answer in one word.", " Answer in one sentence.", " I need to know today.", " Cheers",
    " Just the answer, please.", " Short answer only.", "\nAnswer:", "\nA:", " Reply in JSON with one key.", " pls",
    " Thank you in advance.", " It's urgent.", " asap", " No explanation needed.", " I forgot.", " Answer in German.",
    " (asking for a friend)", " Kind regards, Sam",
)  # fmt: skip
MAKING = ("Reply in JSON", "Answer in German")
"""What asks for something made from the answer."""
NOW = ("now", "today", "currently", "these days", "at the moment", "right now", "at present", "as of today", "nowadays")
MENTIONS = (
    "Write a short poem about {s}.", "Summarise what you know about {s} in three sentences.", "Tell me about {s}.",
    'Translate into German: "I like {s}."', "What do you think of {s}?", "Draft an e-mail that mentions {s}.",
    "Make a table that compares {s} with its alternatives.", "Why do people talk so much about {s}?", "{s}",
    "Spell {s} backwards.", 'How many letters are there in "{s}"?', "Is {s} a good name for a company?", "{s}?",
    "Correct the grammar: {s} are very interesting", "Give me five quiz questions about {s}.", "I love {s}!",
    "Where can I read more about {s}?", "I dreamt about {s} last night.", "Thanks, that is all about {s}.",
    "Remind me tomorrow to look at {s}.", "Explain {s} to a five-year-old.", "What is the history of {s}?",
    "Give me synonyms of {s}.", "Can you find a picture of {s}?", "What rhymes with {s}?", "Do you know {s}?",
    'Classify the sentiment: "{s} was a disappointment."', "Have you heard of {s}?", "How do you pronounce {s}?",
    "Write a story in which {s} plays a part.", "Let's talk about {s}.", "We were discussing {s} yesterday.",
    "Tell me a joke about {s}.", "Is it true what they say about {s}?", "My uncle knows everything about {s}.",
    "Please don't mention {s} again.", "What should I ask about {s}?", "List three opinions on {s}.",
)  # fmt: skip
TASKS = (
    'Translate to French: "{q}"', "Translate to Spanish: {q}", "Translate into German: {q}", 'Rewrite more politely: "{q}"',
    'How many words are in the sentence "{q}"?', 'Correct the spelling of this question: "{q}"', 'Repeat after me: "{q}"',
    'Is "{q}" a good quiz question?', "Don't answer this, just paraphrase it: {q}", 'Who would ask "{q}"?',
    'My colleague asked "{q}" and everybody laughed. Why?', 'Write "{q}" in capital letters.', 'What language is "{q}"?',
    'Classify this question as factual or opinion: "{q}"', 'Make a haiku out of "{q}"', "Reply to this mail: {q}",
    "Give me three questions like this one: {q}", 'Count the vowels in "{q}"', 'Is this sentence grammatical: "{q}"',
    "Don't tell me this: {q} Tell me a joke instead.", "Never mind my question: {q} I have found it.",
    'Ignore the following line: "{q}" What is 2 + 2?', 'Turn "{q}" into a statement with a blank.',
)  # fmt: skip
CLAIMS = (
    "Is it true that {q}",
    "Check this claim: {q}",
    "True or false? {q}",
    "Someone told me: {q}",
    "{q} Right?",
    "{q} Is that right?",
)
_YEARS = tuple(str(year) for year in range(1950, 2027))
_SETS: tuple[tuple[str, ...], ...] = (
    tuple(f"in {year}" for year in _YEARS),
    tuple(f"in {quarter} {year}" for quarter in ("Q1", "Q2", "Q3", "Q4") for year in ("2023", "2024", "2025")),
    tuple(f"on {day}" for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
    tuple(f"on {day}" for day in ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")),
    tuple(f"in {m}" for m in ("January", "February", "March", "April", "May", "June", "July", "August", "October")),
    tuple(f"in version {n}" for n in ("1", "2", "3", "4.1", "4.2", "5.0", "2.10", "2.11")),
    tuple(f"for {who}" for who in ("men", "women", "children", "adults", "students", "members", "guests", "staff")),
    tuple(f"in {p}" for p in ("Germany", "France", "Japan", "Canada", "the north", "the south", "Europe", "Asia")),
    tuple(f"in the {n} season" for n in ("first", "second", "third", "fourth", "last", "2019", "2022")),
    tuple(f"on the {n} floor" for n in ("first", "second", "third", "ground", "top")),
    tuple(f"in room {n}" for n in ("4A", "4B", "12", "13", "201", "202")),
    tuple(f"at the {n} office" for n in ("Berlin", "Leeds", "north", "main", "Lyon", "Oslo", "branch")),
    ("in summer", "in winter", "in spring", "in autumn"),
    ("in the morning", "in the afternoon", "in the evening", "at night"),
    tuple(f"for the {n}" for n in ("staging environment", "production environment", "test environment", "demo system")),
    tuple(f"by {n}" for n in ("train", "car", "post", "phone", "e-mail", "bus", "ship")),
)
"""Qualifiers by kind: two of one kind ask two things."""
SINCE = (
    "since March 2024", "since last autumn", "as of January 2025", "since 2023", "since the merger", "since May", "as from 1 July",
    "since the last election", "from this season on", "since the move", "as of this year", "since the summer of 2022",
)  # fmt: skip
"""When what an edit says began: it still holds."""
PAST = (
    "in 1987", "in 2009", "in 2015", "in 1999", "originally", "before the merger", "at first", "back then", "ten years ago",
    "last year", "in the old days", "when it started", "before that", "in the last century", "until 2010", "previously",
    "two years ago", "before the renovation", "at the time", "in the beginning",
)  # fmt: skip
COMING = ("next year", "in 2031", "from next month", "after the reform", "in ten years", "in the future", "next season")
PRONOUNS = ("it", "it", "it", "it", "they", "that one", "this one", "he", "she", "that", "there")
_POSSESSIVE = {"it": "its", "they": "their", "he": "his", "she": "her"}


@dataclass(frozen=True, slots=True)
class Contrast:
    """Wordings of one question with an item (``{x}``): two of the items ask two things."""

    wordings: Sequence[str]
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Derived:
    """Texts of an edit and values of it; ``asks`` need the value to be answered, ``others`` only look like that."""

    edits: Sequence[str]
    values: Sequence[str]
    asks: Sequence[str]
    others: Sequence[str]


@functools.cache
def contrasts() -> tuple[Contrast, ...]:
    """Return the questions in one form about different items that lie beside this module."""
    return tuple(Contrast(**group) for group in _written("contrasts.yaml"))


@functools.cache
def derived() -> tuple[Derived, ...]:
    """Return the questions that an edit settles without being asked for it that lie beside this module."""
    return tuple(Derived(**group) for group in _written("derived.yaml"))


@functools.cache
def terse() -> dict[str, tuple[str, ...]]:
    """Return unfinished sentences, by what they leave open, that lie beside this module."""
    return {key: tuple(texts) for key, texts in yaml.safe_load(_read("terse.yaml")).items()}


def _written(name: str) -> list[dict[str, list[str]]]:
    groups = yaml.safe_load(_read(name))
    return [{key: [str(value) for value in values] for key, values in group.items()} for group in groups]


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def fill(wording: str, subject: str, value: str = "") -> str:
    """Put subject and value into a wording."""
    return wording.replace("{s}", subject).replace("{o}", value)


def qualified(text: str, qualifier: str) -> str:
    """Put a qualifier at the end of a question, statement or unfinished sentence."""
    body = text.rstrip()
    mark = body[-1] if body and body[-1] in "?.!" else ""
    return f"{body[: len(body) - len(mark)].rstrip()} {qualifier}{mark}"


def at_present(text: str, rng: random.Random) -> str:
    """Put into a question that it asks of the present."""
    draw = rng.random()
    if draw < 0.7:
        return qualified(text, rng.choice(NOW))
    return f"{rng.choice(NOW)}, {text}" if draw < 0.85 else qualified(text, "(the current one)")


def qualifier_pair(rng: random.Random) -> tuple[str, str]:
    """Return two different qualifiers of one kind."""
    first, second = rng.sample(rng.choice(_SETS), 2)
    return first, second


def mistyped(text: str, rng: random.Random, keep: str = "") -> str:
    """Swap, drop or double one letter outside ``keep``."""
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if keep and keep in text:
        begin = text.index(keep)
        places = [i for i in places if not begin - 1 <= i < begin + len(keep)]
    if not places:
        return text
    at = rng.choice(places)
    kind = rng.random()
    if kind < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind < 0.8 else text[:at] + text[at] + text[at:]


def dressed(text: str, rng: random.Random, mask: str, noise: tuple[str, ...] = ()) -> str:
    """Put around a question what people put around theirs; ``noise`` are unrelated sentences."""
    if rng.random() < 0.2:
        text = text.rstrip("?.!")
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        text = mistyped(text, rng, mask)
    draw = rng.random()
    if draw < 0.4:
        text = rng.choice(OPENINGS) + text
    elif draw < 0.5 and noise:
        text = f"{rng.choice(noise)} {text}"
    if rng.random() < 0.25 and not text.endswith((" is", " was", " by", " of", " in", " as")):
        text = text + rng.choice(CLOSINGS)
    return text


def referring(text: str, subject: str, pronoun: str) -> str:
    """Put a pronoun in the subject's place."""
    owner = _POSSESSIVE.get(pronoun, f"{pronoun}'s")
    text = re.sub(re.escape(subject) + r"['’]s\b", owner, text)
    return text.replace(subject, pronoun)
