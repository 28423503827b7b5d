"""What the runtime hands back."""

from dataclasses import dataclass

from memedit.types import ChainHop, Hit, Route


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer and why it came out so.

    ``token_ids`` are the new tokens up to the end-of-text token, which is included when the model wrote it; ``text``
    is their text without control tokens. ``route`` tells which edits fired, at which scores and threshold, and by
    which adapter the answer was given (None: the bare model).
    """

    text: str
    token_ids: tuple[int, ...]
    route: Route

    @property
    def edits(self) -> tuple[Hit, ...]:
        """The edits that fired, best first; empty for the bare model's answer."""
        return self.route.fired

    @property
    def chain(self) -> tuple[ChainHop, ...]:
        """The hops (edit id, hop question, value) of the chain of edits behind the answer; empty without one."""
        return self.route.decision.chain


@dataclass(frozen=True, slots=True)
class Score:
    """A target under teacher forcing: natural-log probabilities of its tokens, and the most likely token at each."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    predicted: tuple[int, ...]
    route: Route

    @property
    def argmax(self) -> tuple[bool, ...]:
        """Whether each token of the target was the most likely one."""
        return tuple(p == t for p, t in zip(self.predicted, self.token_ids, strict=True))

    @property
    def total(self) -> float:
        """Log probability of the whole target (nats)."""
        return sum(self.logprobs)

    @property
    def accuracy(self) -> float:
        """Share of tokens that were the most likely."""
        return sum(self.argmax) / len(self.argmax)
