"""The fields of an edit have one home, EditDraft: memory, client, HTTP and command line take the same ones."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from memedit.cli import edit as commands
from memedit.client.edits import EditCalls
from memedit.memory import EditMemory
from memedit.memory.rows import edit_draft
from memedit.server.schemas.edits import EditIn, EditOut, EditPatch
from memedit.types import Edit, EditDraft, EditKind
from support.hashing_encoder import HashingEncoder

FIELDS = {field.name: field for field in dataclasses.fields(EditDraft)}
OPTIONS = {"paraphrase": "paraphrases", "block": "blocks", "meta": "metadata"}
"""Options of the command line that may be repeated have the singular for a name."""
EMPTY: tuple[Any, ...] = (None, (), {}, [])


def default(name: str) -> Any:
    field = FIELDS[name]
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def taken(function: Callable[..., Any], *others: str) -> Mapping[str, Any]:
    """The parameters of a function by the field they fill, with their defaults; without ``others``."""
    parameters = inspect.signature(function).parameters.values()
    found = {OPTIONS.get(p.name, p.name): p.default for p in parameters}
    return {name: value for name, value in found.items() if name not in ("self", "session", *others)}


@pytest.mark.parametrize(
    ("function", "others"),
    [
        (EditMemory.add, ("namespace", "on_conflict")),
        (EditCalls.add, ("on_conflict",)),
        (commands.add, ("on_conflict",)),
    ],
)
def test_whoever_adds_an_edit_gives_every_field_with_the_same_default(
    function: Callable[..., Any], others: tuple[str, ...]
) -> None:
    found = taken(function, *others)
    assert found.keys() == FIELDS.keys()
    for name, value in found.items():
        if name in ("prompt", "target"):  # the command line finds the target of a statement
            assert value in (inspect.Parameter.empty, None)
        else:
            wanted = default(name)
            assert value == wanted or (value in EMPTY and wanted in EMPTY), name


def test_http_takes_every_field_and_changes_every_field_and_the_state() -> None:
    assert EditIn.model_fields.keys() == FIELDS.keys()
    assert EditPatch.model_fields.keys() == {*FIELDS, "state"}
    made = EditIn(prompt="a", target="b").model_dump()
    assert {name: made[name] for name in FIELDS if name not in ("prompt", "target")} == {
        name: [] if default(name) == () else default(name) for name in FIELDS if name not in ("prompt", "target")
    }


def test_the_command_line_changes_every_field_but_the_kind_and_blocks_which_have_a_command() -> None:
    found = taken(commands.update, "id", "edit_id", "state", "on_conflict", "if_version")
    assert found.keys() == FIELDS.keys() - {"kind", "blocks"}
    assert {"text", "remove"} <= taken(commands.block_text).keys()


def test_an_edit_shows_every_field_it_was_made_of() -> None:
    assert FIELDS.keys() <= {field.name for field in dataclasses.fields(Edit)}
    assert EditOut.model_fields.keys() == {"object", *(field.name for field in dataclasses.fields(Edit))}


def test_a_draft_is_what_its_edit_was_made_of() -> None:
    with EditMemory(encoder=HashingEncoder(8)) as memory:
        draft = EditDraft(
            "who keeps the lake?", "Ann", "the lake", ("the lake's keeper?",), "Bo", EditKind.CORRECTION,
            {"a": 1}, "a letter", None, None, ("who keeps the pond?",),
        )  # fmt: skip
        (found,) = memory.add_many([draft]).ids
        assert edit_draft(memory.get(found)) == draft
