"""The only thing this room knows of a model: it can generate and it can score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Firing:
    """An edit and the score in [0, 1] a scope gave it for a query.

    ``edit`` is the edit's place in the stream, counted from 0 (the first place, where the stream holds it twice):
    unlike the store's ids it is the same in every run.
    """

    edit: int
    score: float


@dataclass(frozen=True, slots=True)
class Generation:
    """A greedy answer.

    ``token_ids`` are the new tokens up to and including the one that ended the answer (end of sequence, or the
    newline that stopped it), without padding; ``text`` is the whole of their text without special tokens. ``fired``
    are the edits that fired, best first; ``considered`` the edits that were judged, best first (empty for methods
    without a scope).
    """

    text: str
    token_ids: tuple[int, ...]
    fired: tuple[Firing, ...] = ()
    considered: tuple[Firing, ...] = ()


@dataclass(frozen=True, slots=True)
class Scoring:
    """A target under teacher forcing, one entry for each of its tokens.

    ``logprobs`` are natural logarithms, ``predicted`` the token the model held most likely there, ``matches`` whether
    it is the target's own.
    """

    logprobs: tuple[float, ...]
    matches: tuple[bool, ...]
    predicted: tuple[int, ...]
    fired: tuple[Firing, ...] = ()
    considered: tuple[Firing, ...] = ()


@runtime_checkable
class Answerer(Protocol):
    """A model under one editing method, as the evaluation sees it. Deterministic; results are in input order."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything the outputs depend on (weights, tokenizer, dtype, method, edits)."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, without special tokens."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        """Answer greedily, up to the end-of-sequence token or ``max_new_tokens``.

        With ``stop_at_newline`` an answer also ends with the first token that holds a newline behind visible text; a
        newline in front of any visible text does not end it.
        """

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        """Score ``targets`` as continuations of ``prompts``, which they follow without anything in between."""


@runtime_checkable
class Samples(Protocol):
    """An answerer that can also sample."""

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[Generation]:
        """Continue prompts by sampling at temperature 1, without any cut of the distribution, up to the end token.

        Depends on the batch and the seed alone.
        """


@runtime_checkable
class StartsLate(Protocol):
    """An answerer that is not made before it has to answer."""

    def prepare(self) -> None:
        """Make what answering needs, so that the time of a batch is that of answering; cheap the next time."""
