"""Consolidation as users see it: plan, run, publish, roll back, withdraw, compare.

A job takes all edits in force that may become weights, solves for them together from the frozen base, asks every one
of them, measures gates on the candidate, writes a version, and publishes it when the gates allow. Nothing it does
before the one entry in the ledger that makes the version champion can be seen by anyone who answers questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.ledger import Aliases
from memedit.consolidation.loaded import DELTA
from memedit.consolidation.records import VersionRecord
from memedit.consolidation.versions import VersionStore
from memedit.errors import FingerprintMismatchError, InputError, UnsupportedModelError
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidation.clock import Callback
from memedit.workflows.consolidation.job import Job, JobResult
from memedit.workflows.consolidation.planning import JobPlan, plan_job
from memedit.workflows.consolidation.selecting import Selection, select_edits
from memedit.workflows.consolidation.settings import JobSettings
from memedit.workflows.consolidation.states import PLAIN_BASE, only_runner, stale_edits, sync_states


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
    plain = "".join(char if char.isalnum() or char in "-_" else "_" for char in namespace)
    return path.with_name(f"{path.name}.versions") / plain


def plan(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    settings: JobSettings | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> JobPlan:
    """Say what :func:`run` would do, and estimate time, memory and disk; writes nothing.

    Raises:
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
    """
    settings = settings or JobSettings()
    return plan_job(memory, loaded, _selection(memory, loaded, store, settings, metadata), settings)


def run(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    settings: JobSettings | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    publish: bool = True,
    again: bool = False,
    progress: Callback | None = None,
) -> JobResult:
    """Consolidate: solve for all edits that may become weights, measure, write a version, and publish it.

    A job that is stopped leaves keys and targets in the memory and statistics in the cache; the next goes on from
    there. Until the version is made champion nothing has changed for anyone.

    Args:
        memory: the edits.
        loaded: the frozen base model, unquantised.
        store: where versions go.
        settings: see :class:`~memedit.workflows.consolidation.settings.JobSettings`.
        metadata: take only new edits whose metadata has these values; what the champion holds stays.
        publish: make the candidate champion when its verdict allows.
        again: solve even when the champion holds just these edits already.
        progress: told how far the job is and how long it will take.

    Raises:
        StoreBusyError: another process consolidates this namespace.
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
        FingerprintMismatchError: the champion was made from another base model.
    """
    settings = settings or JobSettings()
    with only_runner(memory):
        _check_base(store, loaded)
        sync_states(memory, store)
        selection = _selection(memory, loaded, store, settings, metadata)
        planned = plan_job(memory, loaded, selection, settings)
        if selection.changes_nothing and not again:
            return JobResult(planned, None, False, store.aliases(), "nothing to do: the champion holds these edits")
        if not selection.edits:
            return _to_plain_base(memory, store, planned, publish)
        return Job(memory, loaded, store, settings, selection, planned, progress).run(publish)


def _selection(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    settings: JobSettings,
    metadata: Mapping[str, Any] | None,
) -> Selection:
    return select_edits(
        memory,
        store.champion(),
        metadata=metadata,
        target_tokens=settings.target_tokens,
        count_tokens=BareAnswerer(loaded).count_tokens,
    )


def _check_base(store: VersionStore, loaded: LoadedModel) -> None:
    champion = store.champion()
    if champion is not None and champion.base_fingerprint != loaded.fingerprint:
        raise FingerprintMismatchError(
            f"the versions in {store.root} are of base model {champion.base_name!r} "
            f"({champion.base_fingerprint[:12]}), this is {loaded.name!r} ({loaded.fingerprint[:12]}): weights are "
            "always solved for from the same frozen base. Load that one, or name another folder with --versions"
        )


def _to_plain_base(memory: EditMemory, store: VersionStore, planned: JobPlan, publish: bool) -> JobResult:
    """No edit is left for the weights: the plain base is the right version."""
    if publish and store.aliases().champion is not None:
        store.promote(None)
        sync_states(memory, store)
    message = "no edits are left for the weights: the plain base is the champion"
    return JobResult(planned, None, publish, store.aliases(), message)


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


def withdraw(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    ids: Sequence[str],
    settings: JobSettings | None = None,
    *,
    progress: Callback | None = None,
) -> JobResult:
    """Withdraw edits from the memory and, by solving again without them, from the weights.

    The edits are withdrawn in the memory first: should the job be stopped, or its candidate fail, they are still
    withdrawn, and the next job takes them out of the weights.

    Raises:
        EditNotFoundError: an id is not in the memory; nothing was withdrawn.
    """
    memory.delete_many(list(ids))
    return run(memory, loaded, store, settings, progress=progress)


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
    "ConsolidationSettings", "JobPlan", "JobResult", "JobSettings", "UnsupportedModelError", "VersionDiff",
    "default_versions", "diff", "plan", "promote", "rollback", "run", "stale_edits", "version_store", "withdraw",
]  # fmt: skip
