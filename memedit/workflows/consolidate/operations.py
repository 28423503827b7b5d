"""Consolidation as users see it: plan, run, publish, roll back, withdraw, compare.

A job takes all edits in force that may become weights, solves for them together from the frozen base, asks every one
of them, measures gates on the candidate, writes a version, and publishes it when the gates allow. Nothing it does
before the one entry in the ledger that makes the version champion can be seen by anyone who answers questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.versions import VersionStore
from memedit.errors import FingerprintMismatchError
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.clock import Callback
from memedit.workflows.consolidate.forecast import SAMPLE, Forecast, forecast_job
from memedit.workflows.consolidate.job import Job, JobResult
from memedit.workflows.consolidate.planning import JobPlan, plan_job
from memedit.workflows.consolidate.selecting import Selection, TokenLimits, select_edits
from memedit.workflows.consolidate.settings import JobSettings, settings_like
from memedit.workflows.consolidate.states import only_runner, sync_states
from memedit.workflows.consolidate.versions import VersionDiff, diff, promote, rollback, stale_edits, version_store


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


def forecast(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    settings: JobSettings | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    edits: int | None = None,
    sample: int = SAMPLE,
) -> Forecast:
    """Say how long :func:`run` would take and what memory it needs, from some edits done for real; writes nothing.

    ``edits`` plans for another number of edits like those there are; see
    :func:`~memedit.workflows.consolidate.forecast.forecast_job`.

    Raises:
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
    """
    settings = settings or JobSettings()
    selection = _selection(memory, loaded, store, settings, metadata)
    return forecast_job(memory, loaded, selection, settings, edits=edits, sample=sample)


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
        settings: see :class:`~memedit.workflows.consolidate.settings.JobSettings`.
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
            return JobResult(planned, None, False, store.aliases(), _why_nothing(store, selection))
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
        limits=TokenLimits(settings.prompt_tokens, settings.target_tokens, BareAnswerer(loaded).count_tokens),
    )


def _why_nothing(store: VersionStore, selection: Selection) -> str:
    if store.champion() is not None:
        return "nothing to do: the champion holds these edits"
    if not selection.skipped:
        return "nothing to do: the memory holds no edits to consolidate"
    first, reason = selection.skipped[0]
    return f"nothing to do: no edit can become weights; {first.id}, one of {len(selection.skipped)}, {reason}"


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
    withdrawn, and the next job takes them out of the weights. Without ``settings`` it is solved as the champion was.

    Raises:
        EditNotFoundError: an id is not in the memory; nothing was withdrawn.
    """
    champion = store.champion()
    if settings is None and champion is not None:
        settings = settings_like(champion.settings)
    memory.delete_many(list(ids))
    return run(memory, loaded, store, settings, progress=progress)


__all__ = [
    "ConsolidationSettings", "Forecast", "JobPlan", "JobResult", "JobSettings", "VersionDiff", "diff",
    "forecast", "plan", "promote", "rollback", "run", "stale_edits", "version_store", "withdraw",
]  # fmt: skip
