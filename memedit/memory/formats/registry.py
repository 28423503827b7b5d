"""The data formats by name. A new one is a module beside this and a line here."""

from typing import Any

from memedit.memory.formats.base import Format, JsonRow
from memedit.registry import Registry

FORMATS: Registry[Any] = Registry("data format")
FORMATS.register("mem0", "memedit.memory.formats.mem0:FORMAT")
FORMATS.register("zsre", "memedit.memory.formats.zsre:FORMAT")
FORMATS.register("knowedit", "memedit.memory.formats.knowedit:FORMAT")
FORMATS.register("counterfact", "memedit.memory.formats.counterfact:FORMAT")
FORMATS.register("jsonl", "memedit.memory.formats.own:FORMAT")


def format_named(name: str) -> Format:
    """The format registered as ``name``.

    Raises:
        UnknownNameError: there is none.
    """
    found: Format = FORMATS.get(name)
    return found


def recognise(row: JsonRow) -> Format:
    """The first registered format whose rows look like this one; our own when none does."""
    for name in FORMATS:
        candidate = format_named(name)
        if candidate.matches(row):
            return candidate
    return format_named("jsonl")
