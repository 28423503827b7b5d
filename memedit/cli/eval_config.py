"""``memedit eval --config``: a file of ``kind: eval`` in place of the options' defaults."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.files import file_or_shipped

if TYPE_CHECKING:
    from memedit.config import EvalConfig


def use_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the file's values the defaults of the options that are read after this one.

    Raises:
        ConfigError: the file is not of ``kind: eval``, or a value is wrong; all problems are listed.
    """
    if path is not None:
        from memedit.config import EvalConfig, load_config
        from memedit.errors import ConfigError

        config = load_config(path)
        if not isinstance(config, EvalConfig):
            raise ConfigError(["is not of kind 'eval', which `memedit eval` reads"], str(path))
        ctx.default_map = {**(ctx.default_map or {}), **option_defaults(config)}
    return path


EvalConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        parser=file_or_shipped("configs"),
        is_eager=True,
        callback=use_config,
        metavar="FILE",
        help="Values as YAML of kind eval (a file, or a shipped one such as eval/held_out); options win over it.",
    ),
]


def option_defaults(config: "EvalConfig") -> dict[str, Any]:
    """Return the values of ``config`` under the names of the options of ``memedit eval``."""
    same: tuple[str, ...] = (
        "queries",
        "stream",
        "seed",
        "held_out",
        "baselines",
        "batch_size",
        "probes_per_kind",
        "fluency_queries",
    )
    same += ("perplexity", "capability", "capability_questions", "out", "encoder")
    values: dict[str, Any] = {name: getattr(config, name) for name in same}
    values |= {"data": list(config.data), "format": list(config.format)}
    values |= {"method": ",".join(config.methods), "protocol": ",".join(config.protocols)}
    values |= {"rows": ",".join(config.rows)}
    values |= {"edits": ",".join(map(str, config.edits)) or "all"}
    values |= {"model": config.model.name, "dtype": config.model.dtype}
    values |= {"scope": config.scope.name, "threshold": config.scope.threshold}
    return {name: value for name, value in values.items() if value is not None and value != []}
