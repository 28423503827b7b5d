"""Reading exercises drawn from facts: which edits stand in the prompt, what is asked and how, what is to be said."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from memedit.training.facts import Fact, Pair, Prose

Messages = tuple[Mapping[str, str], ...]

LONG_WORDS = 30
"""Targets of more words than this are long-form and drawn at their own rate."""


@dataclass(frozen=True, slots=True)
class Example:
    """One exercise.

    ``query`` is the plain completion to be continued, or the last user turn where ``messages`` (a chat without the
    edits) is given. ``answer`` is None where no edit bears on the query: the base model's own continuation is the
    answer then. ``glued`` answers follow the prompt without a space in between (chats, prompts ending in white space).
    """

    edits: tuple[Pair, ...]
    query: str
    answer: str | None
    messages: Messages | None = None
    glued: bool = False


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the kinds of exercise; each a probability or a relative weight.

    ``flatness`` is the exponent that a source's number of facts is raised to: 1 draws every fact alike, 0 every
    source. ``other_target`` is the share of plain questions whose edit says something else than the record does:
    another record's target, words of prose, or the target with a slip in it. An edit may say anything, and must be
    repeated to the letter.
    """

    flatness: float = 0.35
    long: float = 0.09
    tasks: Mapping[str, float] = field(
        default_factory=lambda: {"direct": 2.5, "ask": 5.0, "hop": 6.0, "off_topic": 2.0, "unrelated": 0.4}
    )
    other_target: float = 0.2
    distractors: float = 0.25
    chat: float = 0.18
    noise: float = 0.06
    question_form: float = 0.08
    lower_case: float = 0.03


class ExampleMaker:
    """Draws exercises; the same seed and number give the same exercise, whatever was drawn before.

    Args:
        facts: what to ask about, over all sources.
        prose: sentences to stand before questions, and long passages.
        chat: whether the tokenizer has a chat template.
        seed: part of every exercise's random state.
    """

    def __init__(
        self, facts: Sequence[Fact], prose: Prose, *, chat: bool, seed: int, mixture: Mixture | None = None
    ) -> None:
        self._mix = mixture or Mixture()
        self._chat, self._seed, self._sentences = chat, seed, prose.sentences
        self._short = _by_source([f for f in facts if not _is_long(f)])
        self._several = len({f.prompt for group in self._short for f in group}) > 1
        self._long = _by_source([f for f in [*facts, *prose.passages] if _is_long(f)])

    def draw(self, number: int) -> Example:
        """Return exercise ``number``."""
        rng = random.Random(f"{self._seed}:{number}")
        long = bool(self._long) and (not self._short or rng.random() < self._mix.long)
        fact = self._fact(rng, long)
        task = self._task(rng, fact)
        if long:
            fact = replace(fact, target=_shortened(rng, fact.target))
        elif task in ("direct", "ask") and rng.random() < self._mix.other_target:
            fact = replace(fact, target=self._other_target(rng, fact))
        if task == "unrelated":
            query, answer = self._unrelated_query(rng, fact), None
        elif task == "off_topic":
            query, answer = rng.choice(fact.off_topic), None
        elif task == "hop":
            query, answer = rng.choice(fact.hops)
        else:
            query, answer = (rng.choice(fact.asks) if task == "ask" else fact.prompt), fact.target
        edits = self._edits(rng, fact, with_companions=task == "hop", query=query)
        return self._phrase(rng, edits, query, answer)

    def _fact(self, rng: random.Random, long: bool) -> Fact:
        sources = self._long if long else self._short
        weights = [len(facts) ** self._mix.flatness for facts in sources]
        return rng.choice(rng.choices(sources, weights)[0])

    def _task(self, rng: random.Random, fact: Fact) -> str:
        possible = {
            "direct": True,
            "ask": bool(fact.asks),
            "hop": bool(fact.hops),
            "off_topic": bool(fact.off_topic),
            "unrelated": self._several,
        }
        names = [name for name, can in possible.items() if can]
        return rng.choices(names, [self._mix.tasks[name] for name in names])[0]

    def _other_target(self, rng: random.Random, fact: Fact) -> str:
        kind = rng.random()
        if kind < 0.5:
            return self._fact(rng, long=False).target
        if kind < 0.75 and self._sentences:
            words = rng.choice(self._sentences).rstrip(".!?").split()
            start = rng.randrange(len(words))
            return " ".join(words[start : start + rng.randint(1, 6)])
        return _slipped(rng, fact.target)

    def _unrelated_query(self, rng: random.Random, fact: Fact) -> str:
        other = self._fact(rng, long=False)
        while other.prompt == fact.prompt:
            other = self._fact(rng, long=False)
        return rng.choice([other.prompt, *other.asks, *other.off_topic])

    def _edits(self, rng: random.Random, fact: Fact, *, with_companions: bool, query: str) -> tuple[Pair, ...]:
        edits = [(fact.prompt, fact.target), *(fact.companions if with_companions else ())]
        if self._short and rng.random() < self._mix.distractors:
            others = [self._fact(rng, long=False) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            edits += [(f.prompt, f.target) for f in others if query not in (f.prompt, *f.asks) and not _same(f, fact)]
        rng.shuffle(edits)
        return tuple(edits)

    def _phrase(self, rng: random.Random, edits: tuple[Pair, ...], query: str, answer: str | None) -> Example:
        """Put the query into one of the forms it may come in."""
        if rng.random() < self._mix.lower_case:
            query = query.lower()
        if self._sentences and rng.random() < self._mix.noise:
            query = " ".join([*rng.sample(self._sentences, rng.choice([1, 1, 2])), query])
        if self._chat and rng.random() < self._mix.chat:
            return Example(edits, query, answer, self._conversation(rng, query), glued=True)
        if rng.random() < self._mix.question_form:
            form = rng.choice(["Q: {}\nA:", "Question: {}\nAnswer:", "{}\nAnswer:", "{}\n", "{} Answer:"])
            query = form.format(query)
        return Example(edits, query, answer, glued=query[-1:].isspace())

    def _conversation(self, rng: random.Random, query: str) -> Messages:
        messages: list[Mapping[str, str]] = []
        if rng.random() < 0.1:
            messages.append({"role": "system", "content": "You are a helpful assistant. Answer briefly."})
        if self._sentences and rng.random() < 0.1:
            said = rng.choice(self._sentences)
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": "Thanks, noted."}]
        return (*messages, {"role": "user", "content": query})


def _shortened(rng: random.Random, text: str) -> str:
    """Return a long text whole, or its first few sentences: copying is learnt from both, and short ones cost less."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    if rng.random() < 0.35:
        return text
    return " ".join(sentences[: rng.randint(1, max(1, len(sentences) - 1))])


def _slipped(rng: random.Random, text: str) -> str:
    """Return the text with one letter doubled, dropped or moved, or with spaces around its hyphens."""
    if "-" in text and rng.random() < 0.5:
        return text.replace("-", " - ")
    at = rng.randrange(len(text))
    before, letter, after = text[:at], text[at], text[at + 1 :]
    moved = before + after[:1] + letter + after[1:]
    return rng.choice([before + letter + letter + after, before + after, moved]).strip() or text


def _is_long(fact: Fact) -> bool:
    return len(fact.target.split()) > LONG_WORDS


def _same(one: Fact, other: Fact) -> bool:
    """Whether two facts may be about one thing: the same prompt, or one that a shared name gives away."""
    names = [{word for word in fact.prompt.split() if word[:1].isupper()} for fact in (one, other)]
    return one.prompt == other.prompt or len(names[0] & names[1]) > 1


def _by_source(facts: Sequence[Fact]) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.source, []).append(fact)
    return list(groups.values())
