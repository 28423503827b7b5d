"""What every adapter offers, and the rows it works on."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from memedit.errors import InputError
from memedit.types import Edit

ChatMessages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row on its way into the model.

    ``ids`` are the token ids that will be fed, without padding. ``text`` is the prompt they came from; ``messages``
    the chat they came from, None for a plain completion.
    """

    ids: tuple[int, ...]
    text: str
    messages: ChatMessages | None = None


@dataclass(frozen=True, slots=True)
class AdapterBatch:
    """A batch as it enters ``generate``: left-padded ``[B, T]``; rows without an edit are in it too.

    ``edits[i]`` are the edits that fire on row i (empty: the row is the bare model's); ``pad[i]`` counts the padding
    tokens in front of row i. ``answers[i]`` counts the ids at the end of row i that are an answer given for scoring and
    no part of the query; empty where there are none. ``generate`` may repeat each row (beams, several sequences): row i
    of the batch is then rows ``i*r .. i*r+r-1`` of every tensor.
    """

    rows: tuple[Row, ...]
    edits: tuple[tuple[Edit, ...], ...]
    pad: tuple[int, ...]
    answers: tuple[int, ...] = ()


@runtime_checkable
class Adapter(Protocol):
    """Applies matched edits to the rows they fire on and leaves all other rows alone.

    An adapter never queries the memory: what it prepared for an edit at add time is handed back to it as artefacts.
    """

    @property
    def name(self) -> str:
        """Registered name."""

    @property
    def fingerprint(self) -> str:
        """Hash of what its artefacts depend on (base model, tokenizer, trained weights)."""

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return artefacts by edit id, made when edits are added; empty for adapters that need none."""

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row as it will be fed when ``edits`` (best first, at least one) fire on it."""

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which ``generate`` on this batch applies the edits; everything is restored on exit."""

    def model(self) -> Any | None:
        """Return the model that answers edited rows when it is not the base (SERAC), else None."""


@runtime_checkable
class DecodesInSteps(Protocol):
    """An adapter that can decode in a batch whose rows come and go.

    Prompts are read under ``active``; each later token is decoded under ``decoding``, in whatever company the row then
    is. Adapters whose effect needs more of the past than the key-value cache holds do not offer this.
    """

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return a context in which one token of every row is decoded with its edits applied."""


TARGET_WEIGHT = 0.6
"""Over a half: the target wins where it is surely what is asked for; where that is in doubt the model decides too."""


def check_target_weight(weight: float) -> float:
    """Return the weight.

    Raises:
        InputError: it is no number in [0, 1).
    """
    if not isinstance(weight, int | float) or not 0.0 <= weight < 1.0:
        raise InputError(f"target_weight={weight!r} is not a number in [0, 1)")
    return float(weight)


@runtime_checkable
class MixesTargets(Protocol):
    """An adapter whose answers are to be targets to the letter: the runtime mixes an edit's target into its decoding.

    See :mod:`memedit.runtime.target_bias`. Published methods, kept as they were published, do not offer this.
    """

    @property
    def target_weight(self) -> float:
        """Weight in [0, 1) of the target's next token where the target is surely what is asked for; 0 mixes nothing."""
