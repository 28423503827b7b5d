"""Length limits: the caller's are about the caller's prompt, the model's about what is fed."""

import copy
from collections.abc import Sequence
from typing import Any

from memedit.adapters.base import Row
from memedit.errors import ContextLengthError, InputError


def effective(options: dict[str, Any], model: Any, name: str) -> Any:
    """Return a generation setting as ``generate`` will see it: argument, then given config, then the model's."""
    if options.get(name) is not None:
        return options[name]
    configs = (options.get("generation_config"), model.generation_config)
    values = (getattr(config, name, None) for config in configs if config is not None)
    return next((value for value in values if value is not None), None)


def restate_lengths(options: dict[str, Any], model: Any, width: int) -> None:
    """Turn total lengths, which count the caller's prompt of ``width`` columns, into numbers of new tokens, in place.

    Raises:
        InputError: ``max_length`` leaves no room for a new token.
    """
    for total, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        asked = effective(options, model, total)
        if asked is None or effective(options, model, new) is not None:
            continue
        room = int(asked) - width
        if total == "max_length" and room < 1:
            raise InputError(f"max_length={asked} leaves no room: the prompt has {width} columns already")
        options.pop(total, None)
        config = copy.deepcopy(options.get("generation_config") or model.generation_config)
        setattr(config, total, None)
        options["generation_config"] = config
        if room > 0:
            options[new] = room


def check_fits(longest: int, limit: int | None, *, edited: bool = False) -> None:
    """Refuse prompts that leave the model no room for an answer.

    Raises:
        ContextLengthError: names the length of the longest prompt and the limit.
    """
    if limit is None or longest < limit:
        return
    with_edits = "with the edits that fire on it, " if edited else ""
    raise ContextLengthError(
        f"{with_edits}a prompt has {longest} tokens, but the model reads at most {limit}, the answer included; "
        "shorten it"
    )


def longest(rows: Sequence[Row]) -> int:
    """Return the most tokens that a row has; 0 without rows."""
    return max((len(row.ids) for row in rows), default=0)
