"""What other ways make of the same questions: chains off, the right chain given, all facts or the nearest given."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from memedit.bench.chain_files import ChainQuestion, Fact, says
from memedit.errors import InputError
from memedit.evaluation.metrics.statistics import rate
from memedit.runtime import Answer, EditableModel
from memedit.runtime.passages import no_match
from memedit.runtime.rows import prompt_row
from memedit.types import BatchPlan, Route
from memedit.workflows.asking import as_prompt, room_for

ROWS = ("off", "oracle", "context", "topk")
"""Chains off; the question's own facts in the prompt; all facts there; the nearest facts in force there."""
NEAREST = 10
LEAST_TOKENS = 24
BATCH = 8

Done = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of whom: ``in_force`` are the facts that no later one replaces, in serial order."""

    model: EditableModel
    facts: Sequence[Fact]
    questions: Sequence[ChainQuestion]

    @property
    def in_force(self) -> list[Fact]:
        """The facts that no later one replaces."""
        return list({(fact.subject, fact.relation): fact for fact in self.facts}.values())


def check_rows(names: str) -> list[str]:
    """Return the rows named in a list with commas.

    Raises:
        InputError: there is none of a name.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in found if name not in ROWS]
    if unknown:
        raise InputError(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return found


def compared(asking: Asking, names: Sequence[str], done: Done = lambda _: None) -> dict[str, Any]:
    """Return the shares of right answers by row: of one hop, of several, and by hops.

    The bare model reads the facts of all rows but ``off``. Where all of them do not fit into its context, or no
    question says which facts are its own, a row has no value.
    """
    found: dict[str, Any] = {}
    for number, name in enumerate(names):
        before = number * len(asking.questions)
        answers = _ANSWERING[name](asking, partial(_behind, done, before))
        pairs = zip(asking.questions, answers, strict=True) if answers else ()
        found[name] = shares([(question.hops, says(text, question.aliases)) for question, text in pairs])
    return found


def _behind(done: Done, before: int, count: int) -> None:
    done(before + count)


def shares(right: Sequence[tuple[int, bool]]) -> dict[str, Any]:
    """Return the shares of pairs (hops, right) in percent: of one hop, of several, and by hops."""
    several = sorted({hops for hops, _ in right if hops > 1})
    return {
        "one_hop": share([ok for hops, ok in right if hops == 1]),
        "several_hops": share([ok for hops, ok in right if hops > 1]),
        "by_hops": {str(n): share([ok for hops, ok in right if hops == n]) for n in several},
    }


def share(right: Sequence[bool]) -> dict[str, Any]:
    """Return a share in percent with Wilson's interval; no value where nothing was asked."""
    if not right:
        return {"value": None, "n": 0}
    found = rate(right)
    return {"value": found.value, "n": found.n, "ci_low": found.ci_low, "ci_high": found.ci_high}


def with_memory(
    model: EditableModel, questions: Sequence[str], done: Done = lambda _: None, *, chains: Any = None
) -> list[Answer]:
    """Return greedy answers from the model's memory; ``chains`` in place of its own policy."""
    answers: list[Answer] = []
    for start in range(0, len(questions), BATCH):
        prompts = [as_prompt(model, text) for text in questions[start : start + BATCH]]
        plan = model.plan(prompts, chains=chains)
        length = max(room_for(model, route, least=LEAST_TOKENS) for route in plan.routes)
        answers += model.answer(prompts, plan=plan, batch_size=BATCH, max_new_tokens=length, do_sample=False)
        done(len(answers))
    return answers


def _off(asking: Asking, done: Done) -> list[str]:
    asked = [question.questions[0] for question in asking.questions]
    return [answer.text for answer in with_memory(asking.model, asked, done, chains="off")]


def _oracle(asking: Asking, done: Done) -> list[str]:
    by_serial = {fact.serial: fact for fact in asking.facts}
    if not all(question.chain and {*question.chain} <= {*by_serial} for question in asking.questions):
        return []
    texts = [_with_facts([by_serial[n] for n in question.chain], question) for question in asking.questions]
    return _read(asking.model, texts, done)


def _topk(asking: Asking, done: Done) -> list[str]:
    facts, encoder = asking.in_force, asking.model.memory.encoder
    told = encoder.encode([_said(fact) for fact in facts])
    asked = encoder.encode([question.questions[0] for question in asking.questions])
    texts = []
    for question, vector in zip(asking.questions, asked, strict=True):
        nearest = sorted((told @ vector).argsort()[::-1][:NEAREST].tolist())
        texts.append(_with_facts([facts[place] for place in nearest], question))
    return _read(asking.model, texts, done)


def _context(asking: Asking, done: Done) -> list[str]:
    """Return answers with all facts in the prompt, which are read once; none where they do not fit."""
    model = asking.model
    texts = [_with_facts(asking.facts, question) for question in asking.questions]
    rows = [list(prompt_row(model.tokenizer, as_prompt(model, text)).ids) for text in texts]
    limit = model.context_length
    if limit is not None and max(map(len, rows)) + LEAST_TOKENS > limit:
        return []
    common = rows[0][: _alike(rows)]
    answers = []
    with torch.inference_mode():
        cache = model.base(torch.tensor([common], device=model.base.device), use_cache=True).past_key_values
        for ids in rows:
            answers.append(_gone_on(model, ids, copy.deepcopy(cache)))
            done(len(answers))
    return answers


def _alike(rows: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all rows begin alike, the last of none counted: a model is given at least one."""
    most = min(map(len, rows)) - 1
    return next((place for place in range(most) if len({row[place] for row in rows}) > 1), most)


def _gone_on(model: EditableModel, ids: Sequence[int], cache: Any) -> str:
    given = torch.tensor([ids], device=model.base.device)
    new = model.base.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        past_key_values=cache,
        max_new_tokens=LEAST_TOKENS,
        do_sample=False,
        pad_token_id=model.pad_token_id,
    )
    return str(model.tokenizer.decode(new[0, len(ids) :], skip_special_tokens=True))


def _read(model: EditableModel, texts: Sequence[str], done: Done) -> list[str]:
    """Return the bare model's answers."""
    answers: list[str] = []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        plan = BatchPlan(tuple(Route(row, no_match(text), None) for row, text in enumerate(part)))
        prompts = [as_prompt(model, text) for text in part]
        found = model.answer(prompts, plan=plan, batch_size=BATCH, max_new_tokens=LEAST_TOKENS, do_sample=False)
        answers += [answer.text for answer in found]
        done(len(answers))
    return answers


def _with_facts(facts: Sequence[Fact], question: ChainQuestion) -> str:
    told = "\n".join(_said(fact) for fact in facts)
    return f"{told}\n\nWhere these facts contradict each other the later one holds. {question.questions[0]}"


def _said(fact: Fact) -> str:
    return f"{fact.prompt.rstrip(' .:')} {fact.target}."


_ANSWERING: Mapping[str, Callable[[Asking, Done], list[str]]] = {
    "off": _off,
    "oracle": _oracle,
    "context": _context,
    "topk": _topk,
}
