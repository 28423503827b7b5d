"""``memedit bench``: servers under load, behind a proxy, sharing a store, killed."""

from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench.base import Minutes, Seed, app
from memedit.cli.figures import emit
from memedit.cli.options import Needs, command

if TYPE_CHECKING:
    from memedit.cli.session import Session


@command(app, "serve", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def serve(
    session: "Session",
    *,
    clients: Annotated[list[int] | None, typer.Option(help="Clients at once. [default: 1, 8 and 32]")] = None,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 64,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each client in a round.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds for each number of clients.")] = 3,
    edited: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of requests on which an edit fires.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Load `memedit serve` with clients, beside the bare model's `generate` at the same batch sizes."""
    from memedit.bench.server import run

    settings = session.settings
    with session.output.progress("serving") as progress:
        found = run(
            model=settings.model.name,
            encoder=settings.encoder,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            clients=clients or (1, 8, 32),
            edits=edits,
            new_tokens=new_tokens,
            requests=requests,
            rounds=rounds,
            edited=edited,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "proxy", Needs.ENCODER | Needs.SCOPE)
def proxy(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    requests: Annotated[int, typer.Option(min=1, help="Pairs of requests for each upstream.")] = 200,
    first_token: Annotated[
        list[float] | None, typer.Option(help="Seconds to the pacing upstream's first token. [default: 0 and 0.05]")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="A real engine to measure against. [default: a pacing one]")
    ] = None,
    upstream_model: Annotated[str, typer.Option(help="The real engine's name of its model.")] = "",
) -> None:
    """Time the first token through `memedit serve --upstream` and past it, on prompts that no edit touches."""
    from memedit.bench.proxy import run

    with session.output.progress("asking") as progress:
        found = run(
            edits=edits,
            requests=requests,
            first_token=first_token or (0.0, 0.05),
            encoder=session.settings.encoder,
            scope=session.settings.scope.name,
            upstream=upstream,
            model=upstream_model,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "shared", Needs.ENCODER | Needs.SCOPE)
def shared(
    session: "Session",
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="postgresql:// URL of a database that may be written.")],
    edits: Annotated[int, typer.Option(min=1, help="Edits made at one server and awaited at the other.")] = 200,
) -> None:
    """Time until an edit made at one of two servers on one PostgreSQL is in force at the other."""
    from memedit.bench.shared import run

    with session.output.progress("editing") as progress:
        found = run(
            url,
            edits=edits,
            encoder=session.settings.encoder,
            scope=session.settings.scope.name,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "kills", Needs.ENCODER)
def kills(
    session: "Session",
    *,
    kills: Annotated[int, typer.Option(min=1, help="How often the server is killed.")] = 500,
    minutes: Minutes = None,
    writers: Annotated[int, typer.Option(min=1, help="Clients that write at once.")] = 4,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="An empty memory, as on PostgreSQL. [default: a SQLite file]")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Kill a server at random moments under writers, and count acknowledged changes that are lost or made twice."""
    from memedit.bench.kills import run

    with session.output.progress("killing") as progress:
        found = run(
            kills=kills,
            minutes=minutes,
            writers=writers,
            memory=url,
            encoder=session.settings.encoder,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "soak", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def soak(
    session: "Session",
    *,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="How long, the quiet quarter at the beginning included.")
    ] = 20,
    clients: Annotated[int, typer.Option(min=1, help="Quiet clients, in four tenants.")] = 16,
    think: Annotated[float, typer.Option(min=0.001, help="Seconds between two requests of one, on average.")] = 6.0,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Serve this engine's answers. [default: a model of its own]")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Load a server for long, edits coming and going, one tenant hostile: what the others notice, and its memory."""
    from memedit.bench.soak import Plan, run

    settings = session.settings
    options = ["--scope", settings.scope.name, "--adapter", settings.adapter.name]
    options += ["--model", settings.model.name] if upstream is None else ["--upstream", upstream]
    plan = Plan(minutes, clients, min(4, clients), think, seed, settings.encoder, options)
    with session.output.progress("soaking") as progress:
        found = run(plan, progress=progress)
    emit(session.output, found)
