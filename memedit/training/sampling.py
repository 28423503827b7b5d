"""Edits to learn from, drawn by seed and step."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from memedit.encoders.knowledge import knowledge_text
from memedit.errors import InputError

Form = tuple[str, str]


@dataclass(frozen=True, slots=True)
class EditExample:
    """An edit to learn from: ``asks`` are other wordings of the prompt, ``off_topic`` queries it has no bearing on.

    ``source`` names the data set it came from.
    """

    prompt: str
    target: str
    asks: tuple[str, ...] = ()
    off_topic: tuple[str, ...] = ()
    source: str = ""

    @property
    def text(self) -> str:
        """The sentence that stands for the edit."""
        return knowledge_text(self.prompt, self.target)


@dataclass(frozen=True, slots=True)
class Draw:
    """One step's edits with the query drawn for each: a prompt or a paraphrase, and one off topic (or None)."""

    examples: tuple[EditExample, ...]
    queries: tuple[str, ...]
    off_topic: tuple[str | None, ...]
    chat: tuple[bool, ...]

    def part(self, places: Sequence[int]) -> "Draw":
        """Return the edits at some places with what was drawn for them."""
        return Draw(
            tuple(self.examples[at] for at in places),
            tuple(self.queries[at] for at in places),
            tuple(self.off_topic[at] for at in places),
            tuple(self.chat[at] for at in places),
        )


class Sampler:
    """Draws batches; the draw of a step depends on the seed and the step's number alone, so that runs can resume.

    Args:
        examples: what to draw from.
        seed: decides every draw.
        swap: share of edits whose target is replaced by another example's. An edit may say anything, and with
            swapped targets the network cannot learn answers by heart.
        paraphrased: share of queries that are paraphrases rather than the edit's own prompt.
        chat: share of queries put as a chat's user turn.
        flatness: exponent that a source's number of examples is raised to: 1 draws every example alike, 0 every
            source.
        words: share of edits whose target is a few words of another example's prompt: names that stand among no
            record's targets, so that targets are spelt out and not told apart.
        alike: share of a batch that is drawn from prompts of one form, its last or first words, as the first edit's:
            edits that differ in their subject alone are what a query must tell apart.
    """

    def __init__(
        self,
        examples: Sequence[EditExample],
        *,
        seed: int,
        swap: float,
        paraphrased: float,
        chat: float,
        flatness: float = 1.0,
        alike: float = 0.0,
        words: float = 0.0,
    ) -> None:
        if not examples:
            raise InputError("there are no examples to train on")
        counts = Counter(example.source for example in examples)
        self._weights = list(accumulate(counts[example.source] ** (flatness - 1.0) for example in examples))
        self._examples, self._seed = tuple(examples), seed
        self._swap, self._words, self._paraphrased, self._chat, self._alike = swap, words, paraphrased, chat, alike
        self._forms: dict[Form, list[EditExample]] = {}
        for example in self._examples if alike else ():
            for form in _forms(example.prompt):
                self._forms.setdefault(form, []).append(example)

    def draw(self, step: int, size: int) -> Draw:
        """Return ``size`` edits, no two with the same prompt (fewer where few different ones exist)."""
        rng = random.Random(f"{self._seed}:{step}")
        chosen: dict[str, EditExample] = {}
        for example in self._candidates(rng, size):
            if len(chosen) < size:
                chosen.setdefault(example.prompt, example)
        examples = [self._swapped(rng, example) for example in chosen.values()]
        return Draw(
            examples=tuple(examples),
            queries=tuple(self._query(rng, example) for example in examples),
            off_topic=tuple(rng.choice(e.off_topic) if e.off_topic else None for e in examples),
            chat=tuple(rng.random() < self._chat for _ in examples),
        )

    def _candidates(self, rng: random.Random, size: int) -> list[EditExample]:
        """Return more edits than are wanted, those of one form in front."""
        drawn = rng.choices(self._examples, cum_weights=self._weights, k=4 * size)
        if not self._alike:
            return drawn
        alike = self._forms[rng.choice(_forms(drawn[0].prompt))]
        return [*rng.sample(alike, min(len(alike), round(self._alike * size))), *drawn]

    def _swapped(self, rng: random.Random, example: EditExample) -> EditExample:
        kind = rng.random()
        if kind < self._swap:
            return replace(example, target=rng.choice(self._examples).target)
        if kind < self._swap + self._words:
            return replace(example, target=_some_words(rng, rng.choice(self._examples).prompt) or example.target)
        return example

    def _query(self, rng: random.Random, example: EditExample) -> str:
        return rng.choice(example.asks) if example.asks and rng.random() < self._paraphrased else example.prompt


def _some_words(rng: random.Random, text: str) -> str:
    """Return one to three words in a row, from one that is written like a name on where there is any."""
    words = [word.strip(".,:;?!\"'()") for word in text.split()]
    names = [at for at, word in enumerate(words) if at and word[:1].isupper()]
    start = rng.choice(names or range(len(words) or 1))
    return " ".join(words[start : start + rng.randint(1, 3)])


def _forms(prompt: str) -> tuple[Form, Form]:
    """Return what stands for the form of a prompt: its last two words, as of "X is located in", and its first three."""
    words = prompt.lower().split()
    return ("end", " ".join(words[-2:])), ("start", " ".join(words[:3]))
