"""What ``memedit serve`` puts together: the engine, its weights, and who keeps them those of the champion."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.config import ModelConfig
    from memedit.consolidation.versions import VersionStore
    from memedit.memory import EditMemory
    from memedit.runtime import EditableModel
    from memedit.server.consolidations import ConsolidationSetup, Consolidator
    from memedit.server.engines.base import Engine
    from memedit.server.lookups import Lookups
    from memedit.server.version_watcher import VersionWatcher


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server beside its look-ups; ``consolidator`` and ``watcher`` None where there are none."""

    engine: "Engine"
    consolidator: "Consolidator | None" = None
    watcher: "VersionWatcher | None" = None


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """The engine behind a proxy, as the command's options have it."""

    url: str
    model: str | None
    edit_role: str
    timeout: float
    overlap: bool


def consolidation_setup(session: "Session", versions: Path | None) -> "ConsolidationSetup":
    """Return where edits, base and versions are."""
    from memedit.server.consolidations import ConsolidationSetup

    settings = session.settings
    return ConsolidationSetup(settings.memory, settings.encoder, settings.model, settings.index, versions)


def local_parts(
    session: "Session", lookups: "Lookups", setup: "ConsolidationSetup", *, follow: bool, **limits: Any
) -> Parts:
    """Load the model and what belongs to it; ``limits`` are arguments of the engine.

    Raises:
        InputError: versions are to be followed, and the model's name is that of a single one.
        ModelNotFoundError: there is no such model, or none that the versions are made of.
        MemeditError: the champion is to be followed and cannot be loaded.
    """
    if follow or _is_champion(setup.model.name):
        model, setup, watcher = _following(session, lookups, setup)
    else:
        model, watcher = _open_model(session, lookups, setup.model), None
        _pin(lookups, model)
    consolidator = _consolidator(setup) if model.version is None else None
    return Parts(_engine(session, lookups, model, setup.model.name, limits), consolidator, watcher)


def proxy_parts(session: "Session", lookups: "Lookups", upstream: UpstreamOptions) -> Parts:
    """Connect to the engine upstream; a version named as the model is what that engine is said to run.

    Raises:
        InputError: an option has a value that means nothing.
        ModelNotFoundError: the model's name is a version's, and there is no such version.
    """
    from memedit.server.active_weights import ActiveVersion, ActiveWeights
    from memedit.server.engines.proxy import ProxyEngine
    from memedit.server.engines.upstream import Upstream
    from memedit.workflows.open import version_record

    if upstream.edit_role not in ("system", "user"):
        raise InputError(f"--edit-role {upstream.edit_role!r} is neither 'system' nor 'user'")
    if not upstream.url.startswith(("http://", "https://")):
        raise InputError(f"--upstream {upstream.url!r} is no address; give one such as http://127.0.0.1:8001")
    record = version_record(session.settings.model.name, lookups.memory)
    if record is not None:
        lookups.weights = ActiveWeights(record.namespace, ActiveVersion(record), None)
    client = Upstream(upstream.url, api_key=os.environ.get("MEMEDIT_UPSTREAM_KEY"), timeout=upstream.timeout)
    role: Any = upstream.edit_role
    return Parts(ProxyEngine(lookups, client, model=upstream.model, note_role=role, overlap=upstream.overlap))


def announcement(lookups: "Lookups", parts: Parts, setup: "ConsolidationSetup") -> str | None:
    """Return who is answered by which weights; None on a plain server over a namespace without a champion."""
    weights = lookups.weights
    version, others = weights.own.version or "the plain base", "all other namespaces by the plain base"
    if parts.watcher is not None:
        return (
            f"namespace {weights.namespace!r} is answered by the champion's weights (now {version}), also those that "
            f"are published later; {others}"
        )
    if weights.namespace is not None:
        others = others if weights.others is not None else "no other namespace"
        return f"namespace {weights.namespace!r} is answered by the weights of {version}, and stays so; {others}"
    champion = _champion(setup, lookups.memory)
    if champion is not None:
        return (
            f"namespace {lookups.memory.namespace!r} has a champion, {champion}; this server answers everyone by the "
            "plain base and the memory. Start it with --model champion to answer by the champion's weights"
        )
    return None


def _champion(setup: "ConsolidationSetup", memory: "EditMemory") -> str | None:
    """Return the champion of the server's namespace, None without one."""
    try:
        return setup.store(memory).aliases().champion
    except InputError:
        return None  # no folder that versions could lie in


def _following(
    session: "Session", lookups: "Lookups", setup: "ConsolidationSetup"
) -> "tuple[EditableModel, ConsolidationSetup, VersionWatcher]":
    from memedit.consolidation.overlays import FrozenBase
    from memedit.server.active_weights import ActiveWeights
    from memedit.server.version_watcher import VersionWatcher
    from memedit.workflows.consolidate.versions import followed_base

    store = setup.store(lookups.memory)
    setup = replace(setup, model=followed_base(setup.model, store))
    model = _open_base(session, lookups, setup.model, store)
    lookups.weights = ActiveWeights(lookups.memory.namespace)
    watcher = VersionWatcher(lookups.weights, store, FrozenBase(model.base, model.tokenizer, setup.model.name))
    return model, setup, watcher


def _open_base(session: "Session", lookups: "Lookups", base: "ModelConfig", store: "VersionStore") -> "EditableModel":
    try:
        model = _open_model(session, lookups, base)
    except ModelNotFoundError as error:
        if base == session.settings.model:
            raise
        raise ModelNotFoundError(
            f"the versions in {store.root} are made of {base.name!r}, and that cannot be loaded: {error}. Say where it "
            "is with `--model BASE --follow`, or name one version to serve that as it is"
        ) from error
    if model.version is not None:
        raise InputError(f"{base.name} is a version itself; to follow what is published name its base model")
    return model


def _open_model(session: "Session", lookups: "Lookups", model: "ModelConfig") -> "EditableModel":
    from memedit.workflows.open import open_model

    with session.output.working(f"loading {model.name}"):
        settings = session.settings
        return open_model(
            model, lookups.memory, scope=lookups.scope, adapter=settings.adapter, recheck=settings.recheck
        )


def _pin(lookups: "Lookups", model: "EditableModel") -> None:
    """Let a model that was loaded as a version answer the version's namespace only."""
    from memedit.consolidation.loaded import LoadedVersion
    from memedit.server.version_watcher import fixed_weights

    if isinstance(model.version, LoadedVersion):
        lookups.weights = fixed_weights(model.version, model.base)


def _engine(
    session: "Session", lookups: "Lookups", model: "EditableModel", base: str, limits: dict[str, Any]
) -> "Engine":
    from memedit.server.engines.local import LocalEngine

    name = session.settings.model.name
    return LocalEngine(model, lookups, name=name, aliases=_other_names(base, name), **limits)


def _other_names(base: str, name: str) -> list[str]:
    """Return the other short names of a packaged model."""
    from memedit.models.aliases import ALIASES

    mine = ALIASES.get(base)
    return [] if mine is None else [alias for alias, model in ALIASES.items() if model is mine and alias != name]


def _is_champion(name: str) -> bool:
    from memedit.workflows.consolidate.versions import CHAMPION

    return name == CHAMPION and not Path(name).exists()


def _consolidator(setup: "ConsolidationSetup") -> "Consolidator | None":
    """Return what runs consolidation jobs; None where a job's process could not reach the memory or the versions."""
    from memedit.server.consolidations import Consolidator

    remote = "://" in setup.memory and not setup.memory.startswith("sqlite:")
    if setup.memory == ":memory:" or (remote and setup.versions is None):
        return None
    return Consolidator(setup)
