"""``memedit serve``: the OpenAI-compatible server with the memory's edits in force."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.options import Needs, command
from memedit.cli.serving import UpstreamOptions, announcement, consolidation_setup, local_parts, proxy_parts
from memedit.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import EditMemory
    from memedit.server.lookups import Lookups

Say = Callable[[str, str], None]
"""Tells the user something, in a style."""

MAX_LAG = 1.0
"""Seconds by which look-ups may lag behind what other servers on one PostgreSQL change."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "serve", Needs.MEMORY | Needs.SCOPE | Needs.MODEL | Needs.CHAINS | Needs.RECHECK)
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
        max_connections: Annotated[int, typer.Option(min=1, help="Connections at once; idle ones make room.")] = 1000,
        request_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is ended.")] = 300.0,
        drain: Annotated[float, typer.Option(min=0.0, help="Seconds for requests under way when stopping.")] = 30.0,
        requests_per_minute: Annotated[
            int, typer.Option(min=0, help="For each key without a limit of its own; 0 is none.")
        ] = 6000,
        response_days: Annotated[
            float, typer.Option(min=0.01, help="Days for which answers of /v1/responses are stored.")
        ] = 30.0,
        show_edits: Annotated[
            bool,
            typer.Option("--show-edits", help="Let keys that may only generate see the texts of edits that fired."),
        ] = False,
        request_log: Annotated[
            bool,
            typer.Option("--request-log", help="Keep in the memory what was asked and which edits fired."),
        ] = False,
        request_log_rows: Annotated[int, typer.Option(min=1, help="Requests that are kept.")] = 100_000,
        request_log_days: Annotated[float, typer.Option(min=0.01, help="Days for which they are kept.")] = 30.0,
        request_log_answers: Annotated[
            bool, typer.Option("--request-log-answers", help="Keep the answers too.")
        ] = False,
        redact: Annotated[
            list[str] | None,
            typer.Option(metavar="PATTERN", help="Regular expression; what matches is not logged. May be repeated."),
        ] = None,
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
        follow: Annotated[
            bool,
            typer.Option(
                "--follow",
                help="Answer the namespace by its champion's weights, and by each that is published from now on, with "
                "--model as their base; --model champion does so by itself.",
            ),
        ] = False,
        log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
        log_format: Annotated[str, typer.Option(help="text, or json: one object a line.")] = "text",
    ) -> None:
        """Serve the model with the memory's edits in force, the API for the edits, and the console, until stopped."""
        _check_installed()
        from memedit.server import ServerSettings, create_app
        from memedit.server.logs import log_to_stderr
        from memedit.server.runner import check_host, listen, run

        check_host(host, auth=not no_auth)
        log_to_stderr(log_level, log_format)
        limits = ServerSettings(
            auth=not no_auth,
            namespace=session.settings.namespace,
            max_connections=max_connections,
            request_timeout=request_timeout,
            drain=drain,
            requests_per_minute=requests_per_minute,
            response_days=response_days,
            show_edits=show_edits,
            request_log=request_log,
            request_log_rows=request_log_rows,
            request_log_days=request_log_days,
            request_log_answers=request_log_answers,
            request_log_redact=tuple(redact or ()),
            cors_origins=tuple(cors_origin or ()),
        )
        memory = session.memory(max_lag=MAX_LAG, absent="make")
        lookups, setup = _lookups(session, memory), consolidation_setup(session, versions)
        listener = listen(host, port)
        if upstream is None:
            sizes = {"max_rows": max_batch, "max_waiting": max_waiting, "default_max_tokens": max_new_tokens}
            parts = local_parts(session, lookups, setup, follow=follow, **sizes)
        elif follow:
            raise InputError("--follow exchanges weights in this process; those of an --upstream are not ours")
        elif session.settings.recheck != "off":
            raise InputError(
                "--recheck writes answers anew from the middle; an --upstream cannot be made to go on from there: "
                "leave it off, or serve a model in this process"
            )
        else:
            engine = UpstreamOptions(upstream, upstream_model, edit_role, request_timeout, overlap)
            parts = proxy_parts(session, lookups, engine)
        say = _teller(session, log_format)
        _warn(say, memory, auth=not no_auth)
        if (told := announcement(lookups, parts, setup)) is not None:
            say(told, "")
        what = session.settings.model.name if upstream is None else upstream
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        run(
            create_app(parts.engine, lookups, limits, consolidator=parts.consolidator, watcher=parts.watcher),
            listener,
            drain=drain,
            started=lambda: say(f"memedit serves {what} on {url}", ""),
        )


def _check_installed() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "server")


def _lookups(session: "Session", memory: "EditMemory") -> "Lookups":
    from memedit.server.lookups import Lookups

    scope = session.settings.scope
    return Lookups(
        memory,
        scope=scope.name,
        options=scope.options,
        threshold=scope.threshold,
        k=scope.candidates,
        chains=session.settings.chains,
    )


def _teller(session: "Session", log_format: str) -> Say:
    """What the server says at its start are notes, and in a JSON log entries like all others."""
    if log_format != "json":
        return session.output.note
    logger = logging.getLogger("memedit.server")
    return lambda text, _: logger.info(text)


def _warn(say: Say, memory: "EditMemory", *, auth: bool) -> None:
    if not auth:
        say(
            "WARNING: no API keys are asked for: every program on this machine may read and change all edits",
            "bold red",
        )
    elif not memory.keys.list():
        say(
            "this memory has no API key yet, so every request will be refused; make one with "
            "`memedit keys create NAME --role admin`",
            "bold yellow",
        )
