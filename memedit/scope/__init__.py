"""Scopes: which stored edits, if any, a query falls under."""

from typing import Any

from memedit.encoders.base import Encoder
from memedit.registry import Registry
from memedit.scope.base import PreparesEdits, Scope, ScopeFactory
from memedit.scope.calibration import Calibration, LabelledQuery, calibrate
from memedit.scope.conflicts import ScopeConflictScorer

SCOPES: Registry[ScopeFactory] = Registry("scope")
SCOPES.register("similarity", "memedit.scope.similarity:SimilarityScope")
SCOPES.register("subject", "memedit.scope.subject:SubjectScope")
SCOPES.register("classifier", "memedit.scope.judge:JudgeScope")
SCOPES.register("sentinel", "memedit.scope.sentinel:SentinelScope")


def load_scope(name: str = "default", encoder: Encoder | None = None, **options: Any) -> Scope:
    """Make the scope registered as ``name`` for texts encoded by ``encoder``.

    ``"default"`` is the trained classifier where its weights ship with the package and fit the encoder, else the
    subject rule. ``options`` go to the scope: ``threshold``, ``band``, ``margin`` and what it has of its own.

    Raises:
        UnknownNameError: no scope of this name.
        InputError: an option is out of its range.
        FingerprintMismatchError: trained weights were asked for by name but were made for another encoder.
    """
    if encoder is None:
        from memedit.encoders import load_encoder

        encoder = load_encoder()
    return SCOPES.get(default_scope(encoder) if name == "default" else name)(encoder, **options)


def default_scope(encoder: Encoder) -> str:
    """Return the name of the scope that ``"default"`` stands for with this encoder."""
    from memedit.scope.judge import shipped_for

    return "subject" if shipped_for(encoder.fingerprint) is None else "classifier"


__all__ = [
    "SCOPES",
    "Calibration",
    "LabelledQuery",
    "PreparesEdits",
    "Scope",
    "ScopeConflictScorer",
    "ScopeFactory",
    "calibrate",
    "default_scope",
    "load_scope",
]
