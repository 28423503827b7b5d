"""Running text: how often an edit fires on passages that ask nothing, and on questions that stand in one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder, Progress
from memedit.errors import DatasetError, InputError
from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.datasets import DataFile, read_cases
from memedit.evaluation.metrics.perplexity import read_text
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.stream import AskedProbe, StreamOrder, sample_queries
from memedit.runtime.routing import Router
from memedit.scope import load_scope
from memedit.types import ScopeDecision
from memedit.workflows.evaluate.runs import held_out_of
from memedit.workflows.evaluate.stage import FilledMemory, fill_memory

_BATCH = 16

PLACES: Mapping[str, Callable[[str, str, str], str]] = {
    "alone": lambda question, before, after: question,
    "start": lambda question, before, after: f"{question}\n{before} {after}",
    "middle": lambda question, before, after: f"{before}\n{question}\n{after}",
    "within": lambda question, before, after: f"{before} {question} {after}",
    "end": lambda question, before, after: f"{before} {after}\n{question}",
}
"""Where a question stands: by itself, on a line before, between or behind the halves of a passage, or in its text."""


def run_passages(
    data: DataFile,
    text: Path,
    *,
    edits: int | None = None,
    queries: int = 100,
    passages: int = 400,
    words: int = 256,
    scope: str = "default",
    held_out: bool = False,
    seed: int = 0,
    encoder: str | Encoder = "minilm",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Look passages up in a memory as the runtime does, bare and with a question planted in them.

    Args:
        data: edits, and the questions: one paraphrase of each case drawn, else its edit prompt.
        text: file the passages are cut from, evenly spread over it.
        edits: so many edits from the start of ``data``; None takes all.
        queries: cases drawn to be asked about.
        passages: passages looked up without a question.
        words: words in a passage.
        scope: registered name, or "default".
        held_out: draw only rows that the shipped weights were not trained on.
        seed: seed of the draw.
        encoder: sentence encoder, or its name.
        progress: called with (texts looked up, texts in all).

    Returns:
        ``{"passages.fired": .., "alone.hit": .., "start.hit": .., ...}``: percentages with n and interval, and by
        ``.other`` how often any other edit fired; with the settings under ``settings``.

    Raises:
        DatasetError: the data are wrong, or the text is shorter than one passage.
        InputError: a number is below 1, or nothing is left to ask.
    """
    if min(queries, passages, words) < 1:
        raise InputError(f"queries={queries}, passages={passages}, words={words}; each must be at least 1")
    bare = _passages(text, count=passages, words=words)
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    cases = list(read_cases(data.path, data.format, limit=edits))
    filled = fill_memory(cases, StreamOrder(), used)
    try:
        keep = held_out_of(data.format) if held_out else None
        asked = _questions(sample_queries(cases, filled.state(), count=queries, seed=seed, keep=keep).probes)
        made = load_scope(scope, used)
        router = Router(filled.memory, made)
        found = _looked_up(router, [*bare, *_planted(asked, bare)], progress)
    finally:
        filled.memory.close()
    return {
        "passages.fired": rate([bool(decision.fired) for decision in found[: len(bare)]]).as_json(),
        **_rates(asked, found[len(bare) :], filled),
        "settings": {
            "data": data.path.name, "text": text.name, "edits": len(filled.in_force), "words": words,
            "scope": made.name, "threshold": made.threshold, "held_out": held_out, "seed": seed,
        },
    }  # fmt: skip


def _passages(path: Path, *, count: int, words: int) -> list[str]:
    read = read_text(path).split()
    if len(read) < words:
        raise DatasetError(f"holds {len(read)} words; one passage takes {words}", path=str(path))
    step = max(words, len(read) // count)
    return [" ".join(read[at : at + words]) for at in range(0, len(read) - words + 1, step)][:count]


def _questions(probes: Sequence[AskedProbe]) -> list[AskedProbe]:
    """Return one question of each case: its first paraphrase, else its edit prompt."""
    chosen: dict[int, AskedProbe] = {}
    for kind in (ProbeKind.PARAPHRASE, ProbeKind.EDIT):
        for asked in probes:
            if asked.probe.kind is kind:
                chosen.setdefault(asked.case, asked)
    return list(chosen.values())


def _planted(asked: Sequence[AskedProbe], passages: Sequence[str]) -> list[str]:
    """Return every question at every place, passages taken in turn."""
    texts = []
    for number, one in enumerate(asked):
        words = passages[number % len(passages)].split()
        half = len(words) // 2
        before, after = " ".join(words[:half]), " ".join(words[half:])
        texts += [place(one.probe.prompt, before, after) for place in PLACES.values()]
    return texts


def _looked_up(router: Router, texts: Sequence[str], progress: Progress | None) -> list[ScopeDecision]:
    found: list[ScopeDecision] = []
    for at in range(0, len(texts), _BATCH):
        found += router.decide(texts[at : at + _BATCH])
        if progress is not None:
            progress(len(found), len(texts))
    return found


def _rates(asked: Sequence[AskedProbe], found: Sequence[ScopeDecision], filled: FilledMemory) -> dict[str, Any]:
    at, rates = filled.places(), {}
    for number, place in enumerate(PLACES):
        fired = [{at[hit.edit.id] for hit in decision.fired} for decision in found[number :: len(PLACES)]]
        rates[f"{place}.hit"] = rate([bool(one.own & hits) for one, hits in zip(asked, fired, strict=True)]).as_json()
        rates[f"{place}.other"] = rate([bool(hits - one.own) for one, hits in zip(asked, fired, strict=True)]).as_json()
    return rates
