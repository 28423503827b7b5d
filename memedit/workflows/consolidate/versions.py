"""Versions of a memory's consolidated edits: where they lie, moving aliases, comparing. No language model is loaded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memedit.config import ModelConfig
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.ledger import Aliases
from memedit.consolidation.records import DELTA, VersionRecord
from memedit.consolidation.versions import VersionStore, is_version_name
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.memory import EditMemory
from memedit.workflows.consolidate.states import PLAIN_BASE, only_runner, stale_edits, sync_states

CHAMPION = "champion"


def version_store(memory: EditMemory, folder: str | Path | None = None) -> VersionStore:
    """Return the versions that belong to a memory's namespace: in ``folder``, or beside the memory's file.

    Raises:
        InputError: the memory is no file and no folder is given.
    """
    if folder is not None:
        return VersionStore(folder)
    return VersionStore(default_versions(memory.url, memory.namespace))


def default_versions(url: str, namespace: str) -> Path:
    """Return the folder beside a memory's file in which the versions of a namespace lie.

    Raises:
        InputError: the memory is no file.
    """
    if url == ":memory:" or ("://" in url and not url.startswith("sqlite:///")):
        raise InputError(f"the memory {url} is no file beside which versions could lie; name a folder with --versions")
    path = Path(url.removeprefix("sqlite:///"))
    return path.with_name(f"{path.name}.versions") / folder_name(namespace)


def folder_name(namespace: str) -> str:
    """Return a name for a namespace's folder: a namespace may be any text, and two must never share one."""
    plain = "".join(char if char.isalnum() or char in "-_" else "_" for char in namespace)[:60]
    digest = hashlib.sha256(namespace.encode()).hexdigest()[:8]
    return plain if plain == namespace else f"{plain}-{digest}"


def followed_base(model: ModelConfig, store: VersionStore) -> ModelConfig:
    """Return the base on which a line of versions can be followed; ``champion`` stands for what they are made of.

    Raises:
        InputError: the name is that of a single version.
        ModelNotFoundError: there is no version yet that would name its base.
    """
    if not is_version_name(model.name):
        return model
    if model.name != CHAMPION:
        raise InputError(f"{model.name} is one version; to follow what is published name the base model, or {CHAMPION}")
    names = store.names()
    record = store.champion() or (store.record(names[-1]) if names else None)
    if record is None:
        raise ModelNotFoundError(
            f"no version has been made in {store.root} yet, so nothing says which base model to begin with: name it, "
            "as in `memedit serve --model BASE --follow`"
        )
    return model.model_copy(update={"name": record.base_name})


def promote(memory: EditMemory, store: VersionStore, name: str) -> Aliases:
    """Make a version the champion by hand, whatever its verdict; edits' states follow."""
    with only_runner(memory):
        aliases = store.promote(name, {"by": "hand"})
        sync_states(memory, store)
    return aliases


def rollback(memory: EditMemory, store: VersionStore) -> Aliases:
    """Make the previous version (or the plain base) the champion again; edits' states follow.

    Raises:
        StoreError: there never was a champion.
    """
    with only_runner(memory):
        aliases = store.rollback()
        sync_states(memory, store)
    return aliases


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """How two versions differ; "base" is the plain base.

    ``added`` and ``removed`` are the edits that only the second or only the first answers from its weights, ``changed``
    those with other content. ``distance`` is, for each weight, the norm of the difference relative to the base's.
    """

    first: str
    second: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    distance: Mapping[str, float]


def diff(store: VersionStore, first: str, second: str) -> VersionDiff:
    """Compare two versions, aliases or "base".

    Raises:
        ModelNotFoundError: there is no such version.
        FingerprintMismatchError: they are versions of different base models.
    """
    one, two = _side(store, first), _side(store, second)
    bases = {side[0].base_fingerprint for side in (one, two) if side[0] is not None}
    if len(bases) > 1:
        raise FingerprintMismatchError(f"{first} and {second} are versions of different base models")
    before, after = _served(one[0]), _served(two[0])
    norms = {**(one[0].norms if one[0] else {}), **(two[0].norms if two[0] else {})}
    distance = {
        name: float(np.linalg.norm(_change(two[1], name) - _change(one[1], name)) / norms[name][1]) for name in norms
    }
    return VersionDiff(
        first=PLAIN_BASE if one[0] is None else one[0].name,
        second=PLAIN_BASE if two[0] is None else two[0].name,
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(e for e in before.keys() & after.keys() if before[e] != after[e])),
        distance=distance,
    )


def _side(store: VersionStore, name: str) -> tuple[VersionRecord | None, Any]:
    if name == PLAIN_BASE:
        return None, None
    return store.record(name), load_delta(store.folder(name) / DELTA)


def _served(record: VersionRecord | None) -> dict[str, str]:
    return {} if record is None else {edit.id: edit.content_hash for edit in record.served}


def _change(delta: Any, name: str) -> Any:
    if delta is None or name not in delta.terms:
        return np.zeros(())
    return np.asarray(delta.terms[name].matrix(), dtype=np.float64)


__all__ = [
    "CHAMPION", "VersionDiff", "default_versions", "diff", "folder_name", "followed_base", "promote", "rollback",
    "stale_edits", "version_store",
]  # fmt: skip
