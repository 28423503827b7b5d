"""The data formats by name. A new one is a module beside this and a line here."""

from typing import Any

from memedit.memory.formats.base import Format, JsonRow
from memedit.registry import Registry

FORMATS: Registry[Any] = Registry("data format")
FORMATS.register("mem0", "memedit.memory.formats.mem0:FORMAT")
FORMATS.register("zsre", "memedit.memory.formats.zsre:FORMAT")
FORMATS.register("knowedit", "memedit.memory.formats.knowedit:FORMAT")
FORMATS.register("counterfact", "memedit.memory.formats.counterfact:FORMAT")
FORMATS.register("openai", "memedit.memory.formats.openai:FORMAT")
FORMATS.register("alpaca", "memedit.memory.formats.alpaca:FORMAT")
FORMATS.register("qa", "memedit.memory.formats.questions:FORMAT")
FORMATS.register("jsonl", "memedit.memory.formats.own:FORMAT")


def format_named(name: str) -> Format:
    """The format registered as ``name``.

    Raises:
        UnknownNameError: there is none.
    """
    found: Format = FORMATS.get(name)
    return found


def recognise(row: JsonRow) -> Format | None:
    """The first registered format whose rows look like this one, None when none does."""
    return next((form for form in map(format_named, FORMATS) if form.matches(row)), None)
