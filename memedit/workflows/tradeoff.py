"""What a threshold brings and costs, measured on a memory's own edits by leaving texts out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memedit.memory import EditMemory
from memedit.scope import Scope
from memedit.types import Candidate, Edit, EditState, Encoding, FloatArray

SAMPLE = 100
"""Edits that are asked about."""

_THRESHOLDS = 201
_NEIGHBOURS = 8


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Shares of queries on which an edit fires, by threshold.

    ``right`` are the scores of the edit on a paraphrase that it is asked by as if it were not stored (0: another edit
    wins or it was not found); ``wrong`` the highest score of any other edit on a prompt whose own edit is left out.
    """

    edits: int
    right: tuple[float, ...]
    wrong: tuple[float, ...]

    def points(self) -> list[tuple[float, float | None, float]]:
        """Return (threshold, share of paraphrases that fire, None without any, share of prompts that fire wrongly)."""
        right, wrong = np.sort(self.right), np.sort(self.wrong)
        found = []
        for threshold in np.linspace(0.0, 1.0, _THRESHOLDS):
            caught = None if not len(right) else 1.0 - float(np.searchsorted(right, threshold)) / len(right)
            false = 0.0 if not len(wrong) else 1.0 - float(np.searchsorted(wrong, threshold)) / len(wrong)
            found.append((float(round(threshold, 4)), caught, false))
        return found


def measure(memory: EditMemory, scope: Scope, namespace: str, *, sample: int = SAMPLE) -> Tradeoff:
    """Ask about a sample of the namespace's edits, spread evenly over their order of arrival."""
    stored = memory.list(state=EditState.ACTIVE, namespace=namespace)
    chosen = stored[:: -(-len(stored) // sample)] if stored else []
    if not chosen:
        return Tradeoff(0, (), ())
    encoder = memory.encoder
    prompts = encoder.encode_tokens([edit.prompt for edit in chosen])
    others = memory.candidates(prompts, k=_NEIGHBOURS + 1, namespace=namespace)
    rivals = [
        [candidate for candidate in row if candidate.edit.id != edit.id]
        for edit, row in zip(chosen, others, strict=True)
    ]
    wrong = [_best(decision.considered) for decision in scope.decide(prompts, rivals, threshold=0.0)]
    worded = [edit for edit in chosen if edit.paraphrases]
    asked = encoder.encode_tokens([edit.paraphrases[-1] for edit in worded])
    found = memory.candidates(asked, k=_NEIGHBOURS + 1, namespace=namespace)
    rows = [_without_last(edit, query, row, memory) for edit, query, row in zip(worded, asked, found, strict=True)]
    decisions = scope.decide(asked, rows, threshold=0.0)
    right = [
        decision.fired[0].score if decision.fired and decision.fired[0].edit.id == edit.id else 0.0
        for edit, decision in zip(worded, decisions, strict=True)
    ]
    return Tradeoff(len(chosen), tuple(right), tuple(wrong))


def _without_last(edit: Edit, query: Encoding, row: Sequence[Candidate], memory: EditMemory) -> list[Candidate]:
    """The candidates as they would be had the edit's last paraphrase not been stored."""
    texts = [edit.prompt, *edit.paraphrases[:-1]]
    vectors: FloatArray = memory.encoder.encode(texts)
    # another content hash: what a scope keeps of the whole edit must not be taken for the part
    part = replace(edit, paraphrases=edit.paraphrases[:-1], content_hash=f"{edit.content_hash}/without-last")
    span = next((candidate.subject_span for candidate in row if candidate.edit.id == edit.id), None)
    own = Candidate(part, float((vectors @ query.vector).max()), span)
    return [own, *(candidate for candidate in row if candidate.edit.id != edit.id)]


def _best(hits: Sequence[object]) -> float:
    return max((float(getattr(hit, "score", 0.0)) for hit in hits), default=0.0)
