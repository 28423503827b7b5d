"""Contradictions among many true facts about the same subjects: which are found, and what is retired by mistake."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.evaluation.metrics.statistics import rate
from memedit.memory import EditMemory
from memedit.training.scope.inventory import Family, Relation, read_families
from memedit.types import EditDraft, EditState

_WORST = 50


@dataclass(frozen=True, slots=True)
class Mistake:
    """A pair of edits that was taken for a contradiction and is none, or the other way round."""

    kind: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class _Fact:
    family: Family
    relation: Relation
    draft: EditDraft


def run_conflicts(
    files: Sequence[Path],
    *,
    facts: int = 2000,
    contradictions: int = 500,
    seed: int = 0,
    encoder: str | Encoder = "minilm",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Store true facts, 8 to 12 a subject, then contradict some of them in other words, all with ``supersede``.

    Args:
        files: files of the relation inventory.
        facts: so many true facts are stored in one go.
        contradictions: so many of them are contradicted afterwards.
        seed: of the draws.
        encoder: sentence encoder, or its name.
        progress: called with (edits added, edits in all).

    Returns:
        ``retired``: the share of true facts retired by others; ``found``: the share of contradictions that retired
        the fact they contradict, and ``beside``: that retired another one; ``mistakes`` to look at.

    Raises:
        DatasetError: a file is no inventory.
        InputError: the files hold too few relations.
    """
    rng = random.Random(seed)
    stored = _facts(read_families(files), facts, rng)
    if len(stored) < facts:
        raise InputError(f"the inventory gives {len(stored)} facts; ask for at most as many")
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    mistakes: list[Mistake] = []
    with EditMemory(":memory:", encoder=used) as memory:
        ids = memory.add_many([fact.draft for fact in stored], on_conflict="supersede").ids
        live = {edit.id for edit in memory.list(state=EditState.ACTIVE)}
        lost = [edit_id not in live for edit_id in ids]
        mistakes += [
            Mistake("retired", f.draft.prompt, f.draft.target) for f, gone in zip(stored, lost, strict=True) if gone
        ]
        if progress is not None:
            progress(len(ids), len(ids) + contradictions)
        chosen = rng.sample([i for i, gone in enumerate(lost) if not gone], contradictions)
        found, beside = [], []
        for number, i in enumerate(chosen):
            before = {edit.id for edit in memory.list(state=EditState.ACTIVE)}
            draft = _contradiction(stored[i], rng)
            memory.add_many([draft], on_conflict="supersede")
            gone = before - {edit.id for edit in memory.list(state=EditState.ACTIVE)}
            found.append(ids[i] in gone)
            beside.append(bool(gone - {ids[i]}))
            if not found[-1]:
                mistakes.append(Mistake("missed", stored[i].draft.prompt, draft.prompt))
            mistakes += [Mistake("beside", memory.get(other).prompt, draft.prompt) for other in gone - {ids[i]}]
            if progress is not None:
                progress(len(ids) + number + 1, len(ids) + contradictions)
    return {
        "retired": rate(lost).as_json(),
        "found": rate(found).as_json(),
        "beside": rate(beside).as_json(),
        "mistakes": [asdict(mistake) for mistake in mistakes[: 4 * _WORST]],
    }


def _facts(families: Sequence[Family], count: int, rng: random.Random) -> list[_Fact]:
    """Return facts about the relations of one subject after the other; of two that may be one question, one."""
    found: list[_Fact] = []
    subjects = [(family, subject) for family in families for subject in family.subjects]
    rng.shuffle(subjects)
    named: set[str] = set()
    for family, subject in subjects:
        if subject in named:
            continue
        named.add(subject)
        taken: list[Relation] = []
        for relation in rng.sample(list(family.relations), min(12, len(family.relations))):
            if all(family.different(relation.id, other.id) for other in taken):
                taken.append(relation)
                found.append(_Fact(family, relation, _draft(relation, subject, rng.choice(relation.objects), rng)))
            if len(found) == count:
                return found
    return found


def _draft(relation: Relation, subject: str, value: str, rng: random.Random, other_than: str = "") -> EditDraft:
    wordings = [*relation.questions, *relation.questions, *relation.cloze]
    prompts = [text.replace("{s}", subject) for text in wordings]
    return EditDraft(rng.choice([text for text in prompts if text != other_than] or prompts), value, subject)


def _contradiction(fact: _Fact, rng: random.Random) -> EditDraft:
    """Return the same fact in other words with another value."""
    values = [value for value in fact.relation.objects if value != fact.draft.target] or [f"not {fact.draft.target}"]
    return _draft(fact.relation, fact.draft.subject or "", rng.choice(values), rng, fact.draft.prompt)
