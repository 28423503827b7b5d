"""A memory with a bit of everything in it, and what it held after each of its changes."""

import random
from pathlib import Path
from typing import Any

from memedit.memory import Actor, EditMemory
from memedit.memory.schema import tables
from memedit.memory.store.database import Database
from memedit.types import EditState
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder(dimension=8)
SPACES = ("default", "other place")
States = dict[int, dict[str, list[Any]]]
"""All edits by namespace after each revision."""


def everything(url: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in order; leases are nobody's business but the process's that holds them."""
    database = Database(url)
    try:
        with database.read() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(table.select())), key=repr)
                for table in tables.sorted_tables
                if table.name not in ("leases", "memedit_migrations")
            }
    finally:
        database.close()


def held(memory: EditMemory) -> dict[str, list[Any]]:
    return {space: list(memory.list(state="all", namespace=space)) for space in SPACES}


def lived_in(url: str | Path, changes: int = 60, seed: int = 0) -> States:
    """Change a memory at random in every way there is; return what it held after each revision."""
    rng = random.Random(seed)
    with EditMemory(url, encoder=ENCODER) as memory:
        states: States = {memory.revision: held(memory)}
        for number in range(changes):
            with memory.as_actor(Actor(f"person {number % 3}", f"request {number}")):
                _change(memory, rng, number)
            states[memory.revision] = held(memory)
        return states


def _change(memory: EditMemory, rng: random.Random, number: int) -> None:
    space = rng.choice(SPACES)
    live, gone = list(memory.list(namespace=space)), list(memory.list(state=EditState.RETIRED, namespace=space))
    what = rng.choice(
        ["add", "add", "update", "reword", "supersede", "delete", "restore", "also", "artefacts", "state"]
    )
    edit = rng.choice(live) if live else None
    if what == "restore" and gone:
        memory.restore(rng.choice(gone).id, namespace=space, on_conflict="supersede")
    elif what == "add" or edit is None or what == "restore":
        memory.add(f"The colour of thing {number} is", f"shade {number}", subject=f"thing {number}", namespace=space)
    elif what == "update":
        memory.update(edit.id, target=f"hue {number}", namespace=space, on_conflict="keep")
    elif what == "reword":
        memory.update(edit.id, prompt=f"What colour has thing {number}?", namespace=space, on_conflict="keep")
    elif what == "supersede":
        memory.supersede(edit.id, target=f"tint {number}", namespace=space, on_conflict="keep")
    elif what == "delete":
        memory.delete(edit.id, namespace=space)
    elif what == "also":
        memory.also(edit.id, f"How is thing {number} painted?", namespace=space)
    elif what == "artefacts":
        memory.put_artefacts("soft", "f1", {edit.id: bytes([number % 256])}, namespace=space)
    else:
        memory.set_states([edit.id], rng.choice(["pending", "active"]), namespace=space)
