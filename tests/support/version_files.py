"""Made-up versions for tests of the store: small files in place of weights, and a process that makes them."""

import random
from multiprocessing.connection import Connection
from pathlib import Path

from memedit.consolidation.records import SolvedEdit, VersionRecord, write_record
from memedit.consolidation.verdicts import Gate, Verdict
from memedit.consolidation.versions import VersionStore


def made_up_record(name: str, edits: tuple[SolvedEdit, ...] = (), **changes: object) -> VersionRecord:
    fields: dict[str, object] = {
        "name": name,
        "created_at": "2026-01-02T03:04:05+00:00",
        "namespace": "default",
        "method": "alphaedit",
        "base_name": "tiny",
        "base_fingerprint": "f" * 64,
        "base": {},
        "settings": {},
        "edits": edits,
        "rejected": (),
        "gates": (Gate("efficacy", Verdict.PASS, "all", 1, 100.0, 0.0),),
        "verdict": Verdict.PASS,
        "reasons": (),
        "norms": {"layers.1.down": (1.0, 10.0)},
        "samples": {},
    }
    return VersionRecord(**{**fields, **changes})  # type: ignore[arg-type]


def build(name: str, folder: Path) -> None:
    """Fill a version's folder the way a job does, with a few files of some size."""
    write_record(folder, made_up_record(name))
    for number in range(3):
        (folder / f"part{number}.bin").write_bytes(name.encode() * 20_000)


def change_until_killed(root: str, seed: int, acknowledge: Connection) -> None:
    """Make, promote, reject, roll back and prune versions for ever, telling of each step after it has returned."""
    rng = random.Random(seed)
    store = VersionStore(root)
    while True:
        action = rng.choice(["make", "make", "promote", "promote", "rollback", "reject", "prune"])
        candidate = store.aliases().candidate
        if action == "make":
            acknowledge.send(("make", store.make(build)))
        elif action == "promote" and candidate is not None:
            acknowledge.send(("promote", store.promote(candidate).named()))
        elif action == "reject" and candidate is not None:
            acknowledge.send(("reject", store.reject(candidate).named()))
        elif action == "rollback" and store.aliases().champion is not None:
            acknowledge.send(("rollback", store.rollback().named()))
        elif action == "prune":
            acknowledge.send(("prune", store.prune(keep=4)))
