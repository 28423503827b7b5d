"""Long answers in which a stored fact comes up after the first sentence: whether its value stands, and what it costs.

What comes up is decided by the model itself: it answers a file's questions with nothing stored, and a sentence behind
the first of an answer in which the tagger finds a subject and, behind it, a name or number becomes an edit of another
value of that kind. Asked again, the model comes to that sentence, word for word, and the value has to change.
"""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memedit.adapters.base import Row
from memedit.bench.chain_files import says
from memedit.bench.chain_rows import share
from memedit.bench.common import without_edits
from memedit.encoders import split_sentences
from memedit.errors import InputError
from memedit.evaluation.datasets.reading import read_records
from memedit.index import Reading, tagger_for
from memedit.runtime import Answer, EditableModel
from memedit.runtime.rows import prompt_row
from memedit.types import EditDraft
from memedit.workflows.asking import as_prompt

_BATCH = 8
_WORDS = 6
_SHORTEST = 4
"""Words that a sentence has before its value."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that an answer comes to: the question, the sentence before the value, its subject and its value."""

    question: str
    prompt: str
    subject: str
    value: str

    @property
    def number(self) -> bool:
        """Whether the value has digits."""
        return any(char.isdigit() for char in self.value)


def run(
    model: EditableModel,
    data: Path,
    *,
    rows: int,
    policy: str = "sentence",
    new_tokens: int = 96,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask a file's questions bare, store what comes up with other values, and ask those again.

    Args:
        model: on an empty memory.
        data: JSONL rows of ``question``, as UnKE's.
        rows: so many questions are asked first; those in whose answers nothing is found fall away.
        policy: of re-check.
        new_tokens: length of an answer.
        seed: chooses values.
        progress: called with (answers written, answers to write, about).

    Raises:
        InputError: no answer comes to a fact.
    """
    questions = [record.text("question") for _, record in zip(range(rows), read_records(data), strict=False)]
    done = _Done(progress, 2 * len(questions))
    bare = _answers(model, questions, new_tokens, "off", done)
    facts = [fact for question, answer in zip(questions, bare, strict=True) for fact in _facts(model, question, answer)]
    if len(facts) < 2:
        raise InputError(f"the answers to {len(questions)} questions come to {len(facts)} facts; ask more")
    values = _other_values(facts, seed)
    drafts = [EditDraft(fact.prompt, value, fact.subject) for fact, value in zip(facts, values, strict=True)]
    model.memory.add_many(drafts, on_conflict="keep")
    asked = [fact.question for fact in facts]
    plans = model.plan([as_prompt(model, question) for question in asked])
    late = [number for number, route in enumerate(plans.routes) if not route.fired]
    found = dict(zip(late, _answers(model, [asked[i] for i in late], new_tokens, policy, done), strict=True))
    alone = dict(zip(questions, bare, strict=True))  # what is said without re-check: no edit fires on the question
    shown: list[dict[str, Any]] = [
        {
            "question": asked[i],
            "edit": drafts[i].prompt,
            "value": values[i],
            "came_up": bool(found[i].edits),
            "stands": says(found[i].text, [values[i]]),
            "without": says(alone[asked[i]].text, [values[i]]),
            "answer": found[i].text,
        }
        for i in late
    ]
    return {
        "stands": share([row["stands"] for row in shown]),
        "came_up": share([row["came_up"] for row in shown]),
        "without_recheck": share([row["without"] for row in shown]),
        "fired_on_the_question": len(facts) - len(late),
        "rest_perplexity": _rests(model, [(found[i], alone[asked[i]]) for i in late]),
        "rows": shown,
    }


class _Done:
    """Counts answers."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def more(self, count: int) -> None:
        self._count += count
        if self._progress is not None:
            self._progress(min(self._count, self._total), self._total)


def _answers(model: EditableModel, texts: Sequence[str], length: int, policy: str, done: _Done) -> list[Answer]:
    found: list[Answer] = []
    for start in range(0, len(texts), _BATCH):
        prompts = [as_prompt(model, text) for text in texts[start : start + _BATCH]]
        found += model.answer(prompts, recheck=policy, max_new_tokens=length, do_sample=False, batch_size=_BATCH)
        done.more(len(prompts))
    return found


def _facts(model: EditableModel, question: str, answer: Answer) -> list[Fact]:
    """Return the first fact behind the first sentence of an answer; none where nothing is found."""
    encoder = model.memory.encoder
    tagger = tagger_for(encoder.fingerprint)
    if tagger is None:
        raise InputError("no tagger of subjects fits this encoder; use minilm or multilingual")
    sentences = split_sentences(answer.text)[1:-1]  # the last may be cut off
    for encoding in encoder.encode_tokens(sentences) if sentences else ():
        fact = _fact(question, tagger.read(encoding))
        if fact is not None:
            return [fact]
    return []


def _fact(question: str, read: Reading) -> Fact | None:
    subject, value = read.subject, (read.value or "").strip(" .,")
    if subject is None or read.subject_span is None or read.value_span is None or not value:
        return None
    before = read.text[: read.value_span[0]].strip()
    named = re.match(r"[A-Z0-9]", value) is not None and len(value.split()) <= _WORDS and subject[:1].isupper()
    behind = read.value_span[0] >= read.subject_span[1] and len(before.split()) >= _SHORTEST
    return Fact(question, before, subject, value) if named and behind and says(before, [subject]) else None


def _other_values(facts: Sequence[Fact], seed: int) -> list[str]:
    """Return for each fact a value of the same kind that its own answer does not hold."""
    rng = random.Random(seed)
    values = []
    for fact in facts:
        others = [other.value for other in facts if other.number == fact.number and other.value != fact.value]
        values.append(rng.choice(sorted(others) or ["Maren Bay"]))
    return values


def _rests(model: EditableModel, pairs: Sequence[tuple[Answer, Answer]]) -> dict[str, Any]:
    """Return the bare model's perplexity of what stands behind a value, and of the bare answer's from there on."""
    sums: dict[str, list[float]] = {"with_recheck": [], "bare": []}
    for answer, bare in pairs:
        late = [hit for hit in answer.edits if "at_token" in hit.reasons]
        if not late:
            continue
        at = int(late[0].reasons["at_token"])
        skipped = len(model.tokenizer(f" {late[0].edit.target}", add_special_tokens=False)["input_ids"])
        for name, one in (("with_recheck", answer), ("bare", bare)):
            sums[name] += _logprobs(model, answer.route.decision.query, one.token_ids, at + skipped)
    return {name: math.exp(-sum(row) / len(row)) if row else None for name, row in sums.items()} | {
        "tokens": {name: len(row) for name, row in sums.items()}
    }


def _logprobs(model: EditableModel, question: str, said: Sequence[int], at: int) -> list[float]:
    """Return the log probabilities (nats) of an answer's tokens from ``at`` on under the bare model."""
    rest = model.tokenizer.decode(list(said[at:]), skip_special_tokens=True)
    if not rest.strip():
        return []
    row = prompt_row(model.tokenizer, as_prompt(model, question))
    prompt: Row = replace(row, ids=(*row.ids, *said[:at]))
    plan = without_edits(model.plan([as_prompt(model, question)]))
    (score,) = model.score([prompt], [rest], plan=plan, as_is=True)
    return list(score.logprobs)
