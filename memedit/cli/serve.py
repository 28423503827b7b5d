"""``memedit serve``: the OpenAI-compatible server with the memory's edits in force."""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import EditMemory
    from memedit.server.consolidations import Consolidator
    from memedit.server.engines.base import Engine
    from memedit.server.lookups import Lookups

MAX_LAG = 1.0
"""Seconds by which look-ups may lag behind what other servers on one PostgreSQL change."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "serve", Needs.MEMORY | Needs.SCOPE | Needs.MODEL)
    def serve(
        session: "Session",
        *,
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8000,
        no_auth: Annotated[
            bool, typer.Option("--no-auth", help="Ask for no API key; on a loopback address only.")
        ] = False,
        max_batch: Annotated[int, typer.Option(min=1, help="Answers generated at once.")] = 32,
        max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get 429.")] = 256,
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of a chat answer unless asked.")] = 512,
        request_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is ended.")] = 300.0,
        drain: Annotated[float, typer.Option(min=0.0, help="Seconds for requests under way when stopping.")] = 30.0,
        requests_per_minute: Annotated[
            int, typer.Option(min=0, help="For each key without a limit of its own; 0 is none.")
        ] = 6000,
        cors_origin: Annotated[
            list[str] | None, typer.Option(help="Web page that may call, may be repeated. [default: none]")
        ] = None,
        upstream: Annotated[
            str | None,
            typer.Option(
                metavar="URL",
                help="OpenAI-compatible engine to put memory and scope in front of, instead of a model in this "
                "process; its key, if it wants one, is read from MEMEDIT_UPSTREAM_KEY.",
            ),
        ] = None,
        upstream_model: Annotated[
            str | None,
            typer.Option(help="Upstream's name of the model for requests that name none. [default: its first]"),
        ] = None,
        edit_role: Annotated[
            str, typer.Option(help="Message that edits are put into for an upstream: system or user.")
        ] = "system",
        overlap: Annotated[
            bool, typer.Option(help="Send prompts that name no edit's subject upstream while they are looked up.")
        ] = True,
        versions: Annotated[
            Path | None,
            typer.Option(file_okay=False, help="Folder of consolidated versions. [default: beside the memory's file]"),
        ] = None,
        log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    ) -> None:
        """Serve the model with the memory's edits in force, the API for the edits, and the console, until stopped."""
        _check_installed()
        from memedit.server import ServerSettings, create_app
        from memedit.server.serving import check_host, listen, log_to_stderr, run

        check_host(host, auth=not no_auth)
        limits = ServerSettings(
            auth=not no_auth,
            namespace=session.settings.namespace,
            request_timeout=request_timeout,
            drain=drain,
            requests_per_minute=requests_per_minute,
            cors_origins=tuple(cors_origin or ()),
        )
        memory = session.memory(max_lag=MAX_LAG)
        lookups = _lookups(session, memory)
        listener = listen(host, port)
        engine: Engine
        if upstream is None:
            engine = _local_engine(session, lookups, max_batch, max_waiting, max_new_tokens)
        else:
            engine = _proxy_engine(lookups, upstream, upstream_model, edit_role, request_timeout, overlap=overlap)
        consolidator = _consolidator(session, versions) if upstream is None else None
        log_to_stderr(log_level)
        _warn(session, memory, auth=not no_auth)
        what = session.settings.model.name if upstream is None else upstream
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        run(
            create_app(engine, lookups, limits, consolidator=consolidator),
            listener,
            drain=drain,
            started=lambda: session.output.note(f"memedit serves {what} on {url}", style=""),
        )


def _check_installed() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "server")


def _lookups(session: "Session", memory: "EditMemory") -> "Lookups":
    from memedit.server.lookups import Lookups
    from memedit.workflows.open import edits_in_weights

    scope = session.settings.scope
    return Lookups(
        memory,
        scope=scope.name,
        options=scope.options,
        threshold=scope.threshold,
        k=scope.candidates,
        in_weights=edits_in_weights(session.settings.model.name, memory),
    )


def _local_engine(
    session: "Session", lookups: "Lookups", max_batch: int, max_waiting: int, max_new_tokens: int
) -> "Engine":
    from memedit.server.engines.local import LocalEngine
    from memedit.workflows.open import open_model

    settings = session.settings
    with session.output.working(f"loading {settings.model.name}"):
        model = open_model(settings.model, lookups.memory, scope=lookups.scope, adapter=settings.adapter)
    return LocalEngine(
        model,
        lookups,
        name=settings.model.name,
        aliases=_other_names(settings.model.name),
        max_rows=max_batch,
        max_waiting=max_waiting,
        default_max_tokens=max_new_tokens,
    )


def _other_names(name: str) -> list[str]:
    """Return the other short names of a packaged model."""
    from memedit.models.aliases import ALIASES

    mine = ALIASES.get(name)
    return [] if mine is None else [alias for alias, model in ALIASES.items() if model is mine and alias != name]


def _proxy_engine(
    lookups: "Lookups", url: str, model: str | None, edit_role: str, timeout: float, *, overlap: bool
) -> "Engine":
    from memedit.server.engines.proxy import ProxyEngine
    from memedit.server.engines.upstream import Upstream

    if edit_role not in ("system", "user"):
        raise InputError(f"--edit-role {edit_role!r} is neither 'system' nor 'user'")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--upstream {url!r} is no address; give one such as http://127.0.0.1:8001")
    client = Upstream(url, api_key=os.environ.get("MEMEDIT_UPSTREAM_KEY"), timeout=timeout)
    role: Any = edit_role
    return ProxyEngine(lookups, client, model=model, note_role=role, overlap=overlap)


def _consolidator(session: "Session", versions: Path | None) -> "Consolidator | None":
    """Return what runs consolidation jobs; None where a job's process could not reach the memory or the base."""
    from memedit.consolidation.versions import is_version_name
    from memedit.server.consolidations import ConsolidationSetup, Consolidator

    settings = session.settings
    remote = "://" in settings.memory and not settings.memory.startswith("sqlite:")
    if settings.memory == ":memory:" or (remote and versions is None) or is_version_name(settings.model.name):
        return None
    return Consolidator(ConsolidationSetup(settings.memory, settings.encoder, settings.model, settings.index, versions))


def _warn(session: "Session", memory: "EditMemory", *, auth: bool) -> None:
    if not auth:
        session.output.note(
            "WARNING: no API keys are asked for: every program on this machine may read and change all edits",
            style="bold red",
        )
    elif not memory.keys.list():
        session.output.note(
            "this memory has no API key yet, so every request will be refused; make one with "
            "`memedit keys create NAME --role admin`",
            style="bold yellow",
        )
