"""What a process that writes to a memory does in the tests of crashes and of writers side by side."""

import random
from multiprocessing.connection import Connection

from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder

BATCH = 5


def write_until_killed(path: str, seed: int, acknowledge: Connection) -> None:
    """Change a memory at random for ever, telling of each change after it has returned."""
    rng = random.Random(seed)
    with EditMemory(path, encoder=HashingEncoder(dimension=8)) as memory:
        live = [edit.id for edit in memory.list() if not edit.metadata]
        acknowledge.send(("open",))
        count = 0
        while True:
            count += 1
            name = f"{seed} {count}"
            action = rng.choices(["add", "batch", "supersede", "delete", "save"], [5, 2, 5, 1, 2])[0]
            if action == "add" or len(live) < 3:
                live.append(memory.add(f"the colour of thing {name} is", f"shade {name}", subject=name).id)
                acknowledge.send(("add", live[-1], f"shade {name}"))
            elif action == "batch":
                drafts = [
                    {"prompt": f"the size of thing {name} {i} is", "target": "x", "metadata": {"batch": name}}
                    for i in range(BATCH)
                ]
                acknowledge.send(("batch", name, memory.add_many(drafts).ids))
            elif action == "supersede":
                old = live.pop(rng.randrange(len(live)))
                live.append(memory.supersede(old, target=f"shade {name}").id)
                acknowledge.send(("supersede", old, live[-1], f"shade {name}"))
            elif action == "delete":
                old = live.pop(rng.randrange(len(live)))
                memory.delete(old)
                acknowledge.send(("delete", old))
            else:
                memory.save_index()
                acknowledge.send(("save",))


def write_beside_others(path: str, name: str, count: int, results: Connection) -> None:
    """Add, supersede and look up ``count`` times; send what was made, or the error that was shown."""
    try:
        made = []
        with EditMemory(path, encoder=HashingEncoder(dimension=8)) as memory:
            for i in range(count):
                edit = memory.add(f"the colour of thing {name} {i} is", "red", subject=f"{name} {i}")
                if i % 3 == 0:
                    edit = memory.supersede(edit.id, target="blue")
                memory.add("the fact that all agree on is", "shared")
                query = memory.encoder.encode_tokens([edit.prompt])
                assert memory.candidates(query)[0][0].edit == edit
                made.append(edit.id)
        results.send(made)
    except BaseException as error:
        results.send(repr(error))
        raise
