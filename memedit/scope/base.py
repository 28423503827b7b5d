"""What every scope offers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from memedit.encoders.base import Encoder
from memedit.types import Candidate, Edit, Encoding, ScopeDecision


@runtime_checkable
class Scope(Protocol):
    """Judges candidates for queries. Pure: never queries the memory, keeps nothing but caches."""

    @property
    def name(self) -> str:
        """Registered name."""

    @property
    def threshold(self) -> float:
        """Scores at or above it fire."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything the scores depend on, the encoder's fingerprint included."""

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Judge each query's candidates, all in one batch; several edits may fire on one query."""


class ScopeFactory(Protocol):
    """What is registered under a scope's name: the scope's class."""

    def __call__(self, encoder: Encoder, **options: Any) -> Scope:
        """Make the scope for texts encoded by ``encoder``."""


@runtime_checkable
class PreparesEdits(Protocol):
    """A scope that keeps something for each edit, which the memory can store so that it need not be made again."""

    @property
    def name(self) -> str:
        """Kind of the artefacts."""

    @property
    def fingerprint(self) -> str:
        """Hash of what the artefacts depend on."""

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return the artefacts of edits by edit id."""

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits that it has nothing for."""

    def accept(self, artefacts: Mapping[str, bytes]) -> int:
        """Take artefacts back; return how many were usable."""
