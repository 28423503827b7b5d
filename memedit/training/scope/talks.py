"""Made-up talks whose last message refers to a subject that an earlier turn names."""

import random
from dataclasses import dataclass

from memedit.scope.judge.places import BETWEEN_TURNS
from memedit.training.scope.inventory import Family, Relation
from memedit.training.scope.wordings import PRONOUNS, fill, mistyped, referring

_MENTIONED = (
    "I want to know more about {s}.", "Tell me about {s}.", "We were discussing {s} yesterday.", "Let's look at {s}.",
    "I have a question on {s}.", "I'm writing to {s}.", "Do you know {s}?", "I have just read about {s}.",
    "I have a meeting about {s} tomorrow.", "My sister keeps talking about {s}.", "You answer questions about {s}.",
    "All questions are about {s}.", "I am thinking about {s}.", "You are the assistant for {s}.", "I'm new to {s}.",
)  # fmt: skip
_BOTH = (
    "I'm choosing between {s} and {t}.", "What is the difference between {s} and {t}?", "I know {s} and {t}.",
    "We have {s} and {t}.", "My options are {s} and {t}.", "Tell me about {s}. And about {t}.",
)  # fmt: skip
_OFFERED = (
    "There is {s}.", "I can recommend {s}.", "You could look at {s}.", "Perhaps {s}?", "That would be {s}.",
    "There are {s} and {t}.", "I'd suggest {s}; {t} is another choice.", "{s} is well known, {t} less so.",
)  # fmt: skip
_REPLIES = (
    "Sure. What would you like to know?", "A fine choice.", "Of course, how can I help?", "Nice!", "Happy to help.",
    "Let me see.", "What do you want to know?", "Yes, go on.", "Good idea.", "Certainly.",
)  # fmt: skip
_NOTHING = (
    "Thanks, that's all.", "ok thank you", "Tell me a joke instead.", "Translate that into Welsh.", "never mind, found it",
    "Can you say that in simpler words?", "Great, you're a star", "What is 12 times 9?", "Please write it as a list.",
    "How do bees survive the winter?", "What's the weather like?", "Repeat that, please.", "That's wrong I think.",
    "How do I boil an egg?", "What's the capital of France?", "Which gift under 20 euros is good?", "I see, cheers.",
)  # fmt: skip
_SHIFTS = (
    "",
    "",
    "And ",
    "ok, and ",
    "Thanks. And ",
    "so ",
    "Great. ",
    "one more thing: ",
    "btw ",
    "Also, ",
    "hm ok. ",
)
_ELLIPSES = (
    "And {s}?",
    "What about {s}?",
    "and for {s}?",
    "How about {s}?",
    "The same for {s}, please.",
    "And at {s}?",
    "{s}?",
)
_CORRECTIONS = (
    "sorry, I meant {s}", "no, {s}, not {t}", "I meant {s}, not {t}", "oops, I mean {s}", "Sorry, wrong one: {s}.",
    "ah, mine is {s}", "Actually it was {s} after all, not {t}.", "scrap that, {s}", "not {t}, {s} please", "{s} I mean",
    "wait, it's {s}", "I mixed them up, I wanted {s}.",
)  # fmt: skip
_BACK = (
    "Back to {r}:", "Going back to {r},", "About {r} again:", "Once more about {r}:", "And {r}, what I wanted to know:",
    "ok. regarding {r},", "Let's return to {r}.", "Anyway, {r}:", "As for {r},", "Coming back to {r}.",
)  # fmt: skip
_LOOKING = (
    "What is there near {t}?", "Is there anything like {t}?", "Can you suggest something to go with {t}?", "We already have {t}.",
    "I'm not happy with {t}.", "What would you take in place of {t}?", "What goes well with {t}?", "Who knows about {t}?",
)  # fmt: skip
_FOUND = (
    "There is {s}, not far from {t}.", "People who know {t} often choose {s}.", "I'd look at {s}. It goes well with {t}.",
    "{s} is what most take in place of {t}.", "Unlike {t}, {s} is easy to find.", "Then {s} may be for you; {t} is older.",
    "You could try {s}.", "For that there is {s}. Shall I tell you more?",
)  # fmt: skip
_FIRST = ("the first one", "the first", "the former")
_SECOND = ("the second one", "the second", "the latter", "the other one")


@dataclass(frozen=True, slots=True)
class Talk:
    """A talk as one text, the subject it is judged for (as it stands there), and whether its last turn asks."""

    text: str
    subject: str
    relation: Relation
    asks: bool
    kind: str


def make_talk(
    family: Family, relation: Relation, other: str, rng: random.Random, second: tuple[Family, Relation] | None = None
) -> Talk:
    """Return a talk about a subject of ``family``; ``other`` is the name of something else.

    ``relation`` is what the last turn asks, if it asks; ``second`` another family with one of its relations, for talks
    in which a noun tells what is meant.
    """
    subject = rng.choice(family.subjects)
    if second is not None and second[0].name != family.name and rng.random() < 0.4:
        talk = rng.choice((_by_noun, _back, _both_asked))(family, relation, subject, second, rng)
        return _typed(talk, rng)
    if other == subject or rng.random() < 0.6:
        other = rng.choice([name for name in family.subjects if name != subject] or [other])
    made = rng.choice((_pronoun, _pronoun, _offered, _ordinal, _ellipsis, _correction, _changed, _nothing))
    return _typed(made(family, relation, subject, other, rng), rng)


def _typed(talk: Talk, rng: random.Random) -> Talk:
    return talk if rng.random() < 0.7 else Talk(
        mistyped(talk.text, rng, talk.subject), talk.subject, talk.relation, talk.asks, talk.kind
    )  # fmt: skip


def _question(relation: Relation, subject: str, rng: random.Random) -> str:
    wordings = relation.questions if rng.random() < 0.7 or not relation.casual else relation.casual
    return fill(rng.choice(wordings), subject, rng.choice(relation.objects))


def _opening(family: Family, subject: str, rng: random.Random) -> list[str]:
    """Return turns that name the subject: the user's, the system's, or the assistant's."""
    draw = rng.random()
    if draw < 0.45:
        return [rng.choice(_MENTIONED).replace("{s}", subject), *([rng.choice(_REPLIES)] if rng.random() < 0.6 else [])]
    asked = rng.choice(family.relations)
    if draw < 0.8:
        answer = rng.choice(asked.statements) if asked.statements else "{o}."
        return [_question(asked, subject, rng), fill(answer, subject, rng.choice(asked.objects))]
    return ["Can you recommend something?", rng.choice(_OFFERED[:5]).replace("{s}", subject)]


def _distraction(other: str, rng: random.Random) -> list[str]:
    return [rng.choice(_MENTIONED).replace("{s}", other), rng.choice(_REPLIES)]


def _noun(family: Family, rng: random.Random) -> str:
    """Return a pronoun or, for one in three, the family's noun."""
    noun = _called(family)
    return f"the {noun}" if rng.random() < 0.33 and len(noun.split()) < 4 else rng.choice(PRONOUNS)


def _called(family: Family) -> str:
    return family.name.split("(")[0].replace("_", " ").removeprefix("my ").removeprefix("our ").strip()


def _shortened(name: str, rng: random.Random) -> str:
    """Return a part of a name, as people who have just used it in full write it."""
    words = name.split()
    return name if len(words) < 2 or rng.random() < 0.5 else rng.choice((words[-1], " ".join(words[1:]), words[0]))


def _by_noun(
    family: Family, relation: Relation, subject: str, second: tuple[Family, Relation], rng: random.Random
) -> Talk:
    """Two subjects of different kinds are named; the last turn means the one of the kind that it names."""
    other = rng.choice(second[0].subjects)
    turns = [_opening(family, subject, rng), _opening(second[0], other, rng)]
    rng.shuffle(turns)
    reference = f"{rng.choice(('the', 'the', 'that'))} {_called(family)}"
    last = rng.choice(_SHIFTS) + referring(_question(relation, subject, rng), subject, reference)
    asked = rng.choice((subject, other))
    text = BETWEEN_TURNS.join([*turns[0], *turns[1], last])
    return Talk(text, asked, relation, asked == subject, "noun")


def _back(
    family: Family, relation: Relation, subject: str, second: tuple[Family, Relation], rng: random.Random
) -> Talk:
    """The last turn goes back to what was talked of before something else."""
    other = rng.choice(second[0].subjects)
    reference = f"the {_called(family)}" if rng.random() < 0.6 else _shortened(subject, rng)
    question = referring(_question(relation, subject, rng), subject, rng.choice(("it", "they", "it", reference)))
    last = f"{rng.choice(_BACK).replace('{r}', reference)} {question}"
    asked = rng.choice((subject, other))
    turns = [*_opening(family, subject, rng), *_opening(second[0], other, rng), last]
    return Talk(BETWEEN_TURNS.join(turns), asked, relation, asked == subject, "back")


def _both_asked(
    family: Family, relation: Relation, subject: str, second: tuple[Family, Relation], rng: random.Random
) -> Talk:
    """The last turn asks one thing of each of two subjects."""
    other = rng.choice(second[0].subjects)
    turns = [_opening(family, subject, rng), _opening(second[0], other, rng)]
    rng.shuffle(turns)
    parts = [
        referring(
            _question(what, name, rng), name, f"the {_called(kind)}" if rng.random() < 0.7 else _shortened(name, rng)
        )
        for kind, what, name in ((family, relation, subject), (second[0], second[1], other))
    ]
    rng.shuffle(parts)
    last = f"{parts[0].rstrip('?.')}{rng.choice((', and ', ' and ', '? And ', '? Also, '))}{parts[1]}"
    return Talk(BETWEEN_TURNS.join([*turns[0], *turns[1], last]), subject, relation, True, "both")


def _offered(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    """The assistant names the subject beside what the user had named."""
    turns = [rng.choice(_LOOKING).replace("{t}", other)]
    turns.append(rng.choice(_FOUND).replace("{s}", subject).replace("{t}", other))
    last = rng.choice(_SHIFTS) + referring(_question(relation, subject, rng), subject, _noun(family, rng))
    asked = rng.choice((subject, subject, other))
    return Talk(BETWEEN_TURNS.join([*turns, last]), asked, relation, asked == subject, "offered")


def _pronoun(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    before = _distraction(other, rng) if rng.random() < 0.5 else []
    turns = [*before, *_opening(family, subject, rng)]
    last = rng.choice(_SHIFTS) + referring(_question(relation, subject, rng), subject, _noun(family, rng))
    asked = subject if not before or rng.random() < 0.65 else other
    return Talk(BETWEEN_TURNS.join([*turns, last]), asked, relation, asked == subject, "pronoun")


def _ordinal(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    names = [subject, other] if rng.random() < 0.5 else [other, subject]
    wording = rng.choice(_BOTH) if rng.random() < 0.6 else rng.choice(_OFFERED[5:])
    turns = [wording.replace("{s}", names[0]).replace("{t}", names[1])]
    which = rng.choice(_FIRST if names[0] == subject else _SECOND)
    last = rng.choice(_SHIFTS) + _question(relation, subject, rng).replace(subject, which)
    asked = rng.choice((subject, subject, other))
    return Talk(BETWEEN_TURNS.join([*turns, rng.choice(_REPLIES), last]), asked, relation, asked == subject, "ordinal")


def _ellipsis(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    answer = fill(rng.choice(relation.statements or ("{o}.",)), other, rng.choice(relation.objects))
    turns = [_question(relation, other, rng), answer, rng.choice(_ELLIPSES).replace("{s}", subject)]
    asked = rng.choice((subject, subject, other))
    return Talk(BETWEEN_TURNS.join(turns), asked, relation, asked == subject, "ellipsis")


def _correction(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    turns = [_question(relation, other, rng)]
    if rng.random() < 0.6:
        turns.append(rng.choice(_REPLIES))
    turns.append(rng.choice(_CORRECTIONS).replace("{s}", subject).replace("{t}", _shortened(other, rng)))
    if rng.random() < 0.4:
        turns[-1] += " " + referring(_question(relation, subject, rng), subject, rng.choice(PRONOUNS))
    asked = rng.choice((subject, subject, other))
    return Talk(BETWEEN_TURNS.join(turns), asked, relation, asked == subject, "correction")


def _changed(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    last = rng.choice(_SHIFTS) + _question(relation, other, rng)
    asked = rng.choice((subject, subject, other))
    return Talk(BETWEEN_TURNS.join([*_opening(family, subject, rng), last]), asked, relation, asked == other, "changed")


def _nothing(family: Family, relation: Relation, subject: str, other: str, rng: random.Random) -> Talk:
    asked = fill(rng.choice(relation.statements or ("{o}.",)), subject, rng.choice(relation.objects))
    turns = [_question(relation, subject, rng), asked, rng.choice(_NOTHING)]
    return Talk(BETWEEN_TURNS.join(turns), subject, relation, False, "nothing")
