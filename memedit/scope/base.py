"""What every scope offers."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from memedit.encoders.base import Encoder
from memedit.types import Candidate, Encoding, ScopeDecision


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
