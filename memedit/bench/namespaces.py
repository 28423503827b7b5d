"""Whether an edit of one namespace ever fires, or is even considered, in another."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder, Progress
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.server.lookups import Lookups
from memedit.types import EditDraft, Encoding, FloatArray

_RELATIONS = ("The capital of {} is", "The mayor of {} is", "The official language of {} is", "{} was founded by")
_QUESTIONS = ("What is the capital of {}?", "Who is the mayor of {}?", "Which language do they speak in {}?")
_BATCH = 64


def run(
    *,
    queries: int = 100_000,
    minutes: float | None = None,
    namespaces: int = 50,
    subjects: int = 100,
    encoder: str = "minilm",
    scope: str = "default",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask in one namespace after another about subjects that all of them have edits on, with other answers in each.

    Every namespace holds edits on half of the subjects, chosen at random, so that most queries have an edit that
    matches word for word in some other namespace. Counted are edits fired and considered, and among them those that
    belong to another namespace than the one asked: the leaks. While queries go on, edits are added, superseded and
    withdrawn.

    Args:
        queries: how many in all, or as many as ``minutes`` allow.
        minutes: see ``queries``; None is without end.
        namespaces: how many.
        subjects: shared by all namespaces.
        encoder: name or path; ``scope`` is a registered name.
        seed: of everything that is drawn.
        progress: called with (queries done, queries).

    Raises:
        InputError: a number is too small.
    """
    if queries < 1 or namespaces < 2 or subjects < 2:
        raise InputError(f"queries={queries}, namespaces={namespaces}, subjects={subjects}: at least 1, 2 and 2")
    rng = random.Random(seed)
    names = [f"Place{i:03d}ville" for i in range(subjects)]
    counts = {"fired": 0, "considered": 0, "fired_leaks": 0, "considered_leaks": 0, "changes": 0}
    started = time.perf_counter()
    with EditMemory(":memory:", encoder=_Remembering(load_encoder(encoder))) as memory:
        spaces = [f"space {i}" for i in range(namespaces)]
        for space in spaces:
            memory.add_many(_drafts(space, rng.sample(names, subjects // 2), rng), namespace=space)
        lookups = Lookups(memory, scope=scope)
        done = 0
        while done < queries and (minutes is None or time.perf_counter() - started < 60 * minutes):
            space = rng.choice(spaces)
            asked = [_query(rng, names) for _ in range(min(_BATCH, queries - done))]
            _count(lookups, space, asked, counts)
            done += len(asked)
            if rng.random() < 0.05:
                counts["changes"] += _change(memory, rng.choice(spaces), rng)
            if progress is not None:
                progress(done, queries)
    seconds = time.perf_counter() - started
    return {"benchmark": "namespaces", "queries": done, "namespaces": namespaces, **counts, "seconds": seconds} | {
        "leaks": counts["fired_leaks"] + counts["considered_leaks"]
    }


def _count(lookups: Lookups, space: str, asked: Sequence[str], counts: dict[str, int]) -> None:
    for decision in lookups.decide(space, asked).decisions:
        counts["fired"] += len(decision.fired)
        counts["considered"] += len(decision.considered)
        counts["fired_leaks"] += sum(hit.edit.namespace != space for hit in decision.fired)
        counts["considered_leaks"] += sum(hit.edit.namespace != space for hit in decision.considered)


def _change(memory: EditMemory, space: str, rng: random.Random) -> int:
    """Supersede or withdraw one edit of a namespace."""
    edit = rng.choice(memory.list(namespace=space))
    if rng.random() < 0.5:
        memory.supersede(edit.id, target=f"{edit.target} {rng.randrange(10**6)}", namespace=space)
    else:
        memory.restore(memory.delete(edit.id, namespace=space).id, namespace=space)
    return 1


def _drafts(space: str, names: Sequence[str], rng: random.Random) -> list[EditDraft]:
    return [EditDraft(rng.choice(_RELATIONS).format(name), f"{name} as {space} has it", subject=name) for name in names]


def _query(rng: random.Random, names: Sequence[str]) -> str:
    return rng.choice(_RELATIONS + _QUESTIONS).format(rng.choice(names))


class _Remembering:
    """An encoder that encodes each text once: what is looked at here is not its speed."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self.name, self.dimension, self.fingerprint = inner.name, inner.dimension, inner.fingerprint
        self._known: dict[str, Encoding] = {}

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 64, progress: Callable[[int, int], None] | None = None
    ) -> FloatArray:
        """Encode sentences."""
        return self._inner.encode(texts, batch_size=batch_size, progress=progress)

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        """Encode sentences and tokens."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._inner.encode_tokens(new, batch_size=batch_size), strict=True))
        return [self._known[text] for text in texts]
