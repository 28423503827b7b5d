"""Scopes at the threshold that was calibrated in a memory."""

from typing import TYPE_CHECKING, Any

from memedit.scope import Scope, load_scope

if TYPE_CHECKING:
    from memedit.memory import EditMemory


def open_scope(
    memory: "EditMemory",
    name: str = "default",
    *,
    namespace: str | None = None,
    threshold: float | None = None,
    **options: Any,
) -> Scope:
    """Return the scope ``name`` for the memory's encoder.

    Its threshold is the one given, else the one kept in this memory by :func:`keep_threshold`, else the scope's own.

    Raises:
        UnknownNameError: no scope of this name.
        InputError: an option lies outside its range.
    """
    scope = load_scope(name, memory.encoder, **options)
    if threshold is None:
        threshold = kept_threshold(memory, scope, namespace=namespace)
    return scope if threshold is None else load_scope(name, memory.encoder, threshold=threshold, **options)


def kept_threshold(memory: "EditMemory", scope: Scope, *, namespace: str | None = None) -> float | None:
    """Return the threshold kept for this scope in the memory, None when there is none."""
    kept = memory.get_setting(_setting(scope), namespace=namespace)
    return None if kept is None else float(kept)


def keep_threshold(
    memory: "EditMemory", scope: Scope, threshold: float | None, *, namespace: str | None = None
) -> None:
    """Keep a threshold for this scope in the memory; None forgets it."""
    memory.set_setting(_setting(scope), None if threshold is None else repr(threshold), namespace=namespace)


def _setting(scope: Scope) -> str:
    # the fingerprint covers the encoder and the scope's weights: a threshold means nothing for others
    return f"scope.threshold/{scope.name}/{scope.fingerprint}"
