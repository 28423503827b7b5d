"""Options that many commands share, added to a command by :func:`command`."""

import functools
import inspect
from collections.abc import Callable
from datetime import datetime
from enum import Flag, auto
from pathlib import Path
from typing import Annotated, Any

import typer

from memedit.cli.arguments import TextCommand
from memedit.cli.files import file_or_shipped
from memedit.zones import in_utc, notice

MemoryUrl = Annotated[
    str | None,
    typer.Option(
        "--memory",
        "-m",
        envvar="MEMEDIT_MEMORY",
        metavar="URL",
        help="Edit memory: a file, or postgresql://. [default: edits.db]",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", envvar="MEMEDIT_NAMESPACE", help="Namespace of the edits. [default: default]"),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        envvar="MEMEDIT_ENCODER",
        help="Sentence encoder: minilm, multilingual, a model id or a path. [default: minilm]",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", envvar="MEMEDIT_MODEL__NAME", help="Language model: an alias, path or hub id. [default: smollm2]"
    ),
]
ScopeName = Annotated[
    str | None,
    typer.Option(
        "--scope", envvar="MEMEDIT_SCOPE__NAME", help="What decides whether an edit applies. [default: default]"
    ),
]
AdapterName = Annotated[
    str | None,
    typer.Option(
        "--adapter", envvar="MEMEDIT_ADAPTER__NAME", help="How an edit changes the answer. [default: default]"
    ),
]
ChainsName = Annotated[
    str | None,
    typer.Option(
        "--chains",
        envvar="MEMEDIT_CHAINS",
        metavar="[off|on|auto]",
        help="Look questions up along chains of edits, one's target being the next one's subject. [default: off]",
    ),
]
RecheckName = Annotated[
    str | None,
    typer.Option(
        "--recheck",
        envvar="MEMEDIT_RECHECK",
        metavar="[off|sentence|TOKENS]",
        help="Look up answers too while they are written: at the end of each sentence, or after so many tokens. "
        "[default: off]",
    ),
]
ConfigFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=file_or_shipped("configs"),
        metavar="FILE",
        help="Settings as YAML (a file, or a shipped one such as scope/cautious), may be repeated; options win.",
    ),
]
JsonMode = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


class Needs(Flag):
    """What a command works on, and so which shared options it takes."""

    NOTHING = 0
    MEMORY = auto()
    ENCODER = auto()
    TRAINING = auto()
    SCOPE = auto()
    MODEL = auto()
    BASE = auto()
    CHAINS = auto()
    RECHECK = auto()


_OPTIONS: dict[Needs, dict[str, Any]] = {
    Needs.MEMORY: {"memory": MemoryUrl, "namespace": Namespace, "encoder": EncoderName},
    Needs.ENCODER: {"encoder": EncoderName},
    Needs.TRAINING: {"model": ModelName},
    Needs.SCOPE: {"scope": ScopeName},
    Needs.MODEL: {"model": ModelName, "adapter": AdapterName},
    Needs.BASE: {"model": ModelName},
    Needs.CHAINS: {"chains": ChainsName},
    Needs.RECHECK: {"recheck": RecheckName},
}


def command(
    app: typer.Typer, name: str, needs: Needs = Needs.NOTHING
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as command ``name``; its first parameter receives the :class:`~memedit.cli.session.Session`.

    The shared options that ``needs`` asks for, ``--config`` and ``--json`` are added to the function's own.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        shared = shared_options(needs)
        _, *own = inspect.signature(function).parameters.values()

        @functools.wraps(function)
        def run(**values: Any) -> None:
            from memedit.cli.session import Session

            with Session(**{option: values.pop(option) for option in shared}) as session:
                function(session, **values)

        extra = [_parameter(option, kind) for option, kind in shared.items()]
        everything = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + extra
        run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in everything}
        del run.__dict__["__wrapped__"]  # typer would read the signature of the function inside
        app.command(name, cls=TextCommand)(run)
        return function

    return register


def shared_options(needs: Needs) -> dict[str, Any]:
    """Return the annotations of the options that a command with these needs takes beside its own, by parameter name."""
    shared: dict[str, Any] = {}
    for need, options in _OPTIONS.items():
        if need in needs:
            shared |= options
    return shared | {"config": ConfigFile, "json_mode": JsonMode}


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    default = False if name == "json_mode" else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def read_time(text: str) -> datetime:
    """Read a time of the command line; one without a zone is UTC, which is said on stderr.

    Raises:
        typer.BadParameter: it is no time.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; give 2026-01-31 or 2026-01-31T12:00:00+01:00") from None
    if (told := notice(when)) is not None:
        typer.echo(told, err=True)
    return in_utc(when)


def key_values(option: str, items: list[str] | None) -> dict[str, str]:
    """Read ``KEY=VALUE`` items of a repeatable option; the first ``=`` separates.

    Raises:
        typer.BadParameter: an item has no key or no ``=``.
    """
    pairs = {}
    for item in items or ():
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{option} takes NAME=VALUE, got {item!r}")
        pairs[key] = value
    return pairs
