"""Models behind the evaluation's generate/score protocol."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from memedit.evaluation.answering import Firing, Generation, Scoring
from memedit.models import LoadedModel
from memedit.types import BatchPlan, Hit, Route
from memedit.workflows.stopping import AnswerEnd

if TYPE_CHECKING:
    from memedit.runtime import EditableModel

CONSIDERED = 5
"""So many of the judged edits are kept with each answer."""
EDITED_ROWS = 16
"""So many edited rows are answered at once: edits make prompts long and unequal, and small batches pad less."""


class BareAnswerer:
    """The untouched base model: transformers' own ``generate`` on left-padded prompts.

    Args:
        loaded: model and tokenizer.
        end: where answers end; made here when absent.
    """

    def __init__(self, loaded: LoadedModel, end: AnswerEnd | None = None) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self._fingerprint = loaded.fingerprint
        self.end = end or AnswerEnd(loaded.tokenizer, eos_token_ids(loaded.model, loaded.tokenizer))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the base model."""
        return self._fingerprint

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, without special tokens."""
        if not texts:
            return []
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        return self._generated(prompts, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline)

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Samples`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._generated(prompts, max_new_tokens=max_new_tokens, stop_at_newline=False, sampled=True)

    @torch.inference_mode()
    def _generated(
        self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool, sampled: bool = False
    ) -> list[Generation]:
        batch = self.tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
        batch = batch.to(self.model.device)
        output = self.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            **generation_arguments(self.end, self.tokenizer, max_new_tokens, stop_at_newline, sampled=sampled),
        )
        rows = output[:, batch["input_ids"].shape[1] :].tolist()
        return [
            Generation(self._text(ids), ids)
            for ids in (self.end.cut(row, stop_at_newline=stop_at_newline, limit=max_new_tokens) for row in rows)
        ]

    @torch.inference_mode()
    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        heads = self.tokenizer(list(prompts))["input_ids"]
        tails = self.tokenizer(list(targets), add_special_tokens=False)["input_ids"]
        rows = [[*head, *tail] for head, tail in zip(heads, tails, strict=True)]
        width, kept = max(map(len, rows)), max(map(len, tails)) + 1
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        # Left padding puts every target at the end, so logits of the last few places are enough.
        logits = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=kept, use_cache=False
        ).logits
        return [target_scoring(row[-len(tail) - 1 : -1], tail) for row, tail in zip(logits, tails, strict=True)]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


class EditedAnswerer(BareAnswerer):
    """An :class:`~memedit.runtime.EditableModel`: prompts are routed, matched edits applied.

    Batches are mixed and are routed whole. The runtime answers edited rows in a pass of their own and, so that rows
    without an edit are the bare model's to the last bit, all rows in another; here the two kinds of rows are handed
    to it apart, so that no row is computed twice. Their answers are the same tokens.

    Args:
        loaded: the base model and tokenizer.
        editable: the same model with memory, scope and adapter.
        places: place in the stream of each edit, by the store's id.
        end: where answers end.
        fingerprint: hash of everything the outputs depend on.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        editable: "EditableModel",
        places: Mapping[str, int],
        end: AnswerEnd,
        fingerprint: str,
    ) -> None:
        super().__init__(loaded, end)
        self.editable, self.places = editable, places
        self._fingerprint = fingerprint

    def plan(self, prompts: Sequence[str]) -> BatchPlan:
        """Return which edits fire on each prompt, without answering."""
        return self.editable.plan(list(prompts))

    def _generated(
        self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool, sampled: bool = False
    ) -> list[Generation]:
        plan = self.plan(prompts)
        return self.generate_planned(
            prompts, plan, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline, sampled=sampled
        )

    def generate_planned(
        self,
        prompts: Sequence[str],
        plan: BatchPlan,
        *,
        max_new_tokens: int,
        stop_at_newline: bool,
        sampled: bool = False,
    ) -> list[Generation]:
        """Answer prompts that have been routed already."""
        found: dict[int, Generation] = {}
        for rows, part in pieces(prompts, plan):
            arguments = generation_arguments(self.end, self.tokenizer, max_new_tokens, stop_at_newline, sampled=sampled)
            texts = [prompts[i] for i in rows]
            answers = self.editable.answer(texts, plan=part, batch_size=len(rows), **arguments)
            for i, answer in zip(rows, answers, strict=True):
                ids = self.end.cut(answer.token_ids, stop_at_newline=stop_at_newline, limit=max_new_tokens)
                found[i] = Generation(self._text(ids), ids, *firings(answer.route, self.places))
        return [found[i] for i in range(len(prompts))]

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        return self.score_planned(prompts, targets, self.plan(prompts))

    def score_planned(self, prompts: Sequence[str], targets: Sequence[str], plan: BatchPlan) -> list[Scoring]:
        """Score targets behind prompts that have been routed already."""
        size = max(1, len(prompts))
        scores = self.editable.score(list(prompts), list(targets), plan=plan, batch_size=size, as_is=True)
        return [
            Scoring(
                tuple(round_log(x) for x in score.logprobs),
                tuple(score.argmax),
                tuple(score.predicted),
                *firings(score.route, self.places),
            )
            for score in scores
        ]


def pieces(prompts: Sequence[str], plan: BatchPlan) -> Iterator[tuple[list[int], BatchPlan]]:
    """Yield the rows of a plan piece by piece, each with a plan of its own: edited ones by length, then the rest."""
    edited = sorted(plan.edited_rows, key=lambda row: (_length(prompts[row], plan.routes[row]), row))
    cut = [edited[start : start + EDITED_ROWS] for start in range(0, len(edited), EDITED_ROWS)]
    for rows in (*cut, sorted(set(range(len(plan.routes))) - set(edited))):
        if rows:
            yield rows, BatchPlan(tuple(replace(plan.routes[row], row=i) for i, row in enumerate(rows)))


def _length(prompt: str, route: Route) -> int:
    """Return about how long a row gets: the characters of its prompt and of the edits that fire on it."""
    return len(prompt) + sum(len(hit.edit.prompt) + len(hit.edit.target) for hit in route.fired)


def eos_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the token ids that end a sequence, from the model's generation settings, else from the tokenizer."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = tokenizer.eos_token_id if ids is None else ids
    if ids is None:
        return []
    return [int(i) for i in ids] if isinstance(ids, list | tuple) else [int(ids)]


def generation_arguments(
    end: AnswerEnd, tokenizer: Any, max_new_tokens: int, stop_at_newline: bool, *, sampled: bool = False
) -> dict[str, Any]:
    """Return the arguments of a ``generate`` under the evaluation's rules: greedy, or from the whole distribution."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    arguments: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}
    if pad is not None:
        arguments["pad_token_id"] = pad
    if sampled:
        arguments |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    if stop_at_newline:
        arguments["stopping_criteria"] = [end.criterion()]
    return arguments


def target_scoring(logits: torch.Tensor, target: Sequence[int]) -> Scoring:
    """Return the scoring of a target from the logits ``[t, V]`` that predict its ``t`` tokens."""
    wanted = torch.tensor(list(target), device=logits.device)
    logprobs = logits.float().log_softmax(-1).gather(1, wanted[:, None])[:, 0].tolist()
    predicted = logits.argmax(-1).tolist()
    matches = tuple(p == t for p, t in zip(predicted, target, strict=True))
    return Scoring(tuple(map(round_log, logprobs)), matches, tuple(predicted))


def round_log(value: float) -> float:
    """Round a log-probability to six decimals, finer than float32 is exact here."""
    return round(float(value), 6)


def firings(route: Route, places: Mapping[str, int]) -> tuple[tuple[Firing, ...], tuple[Firing, ...]]:
    """Return the edits that fired and the best that were considered; all that fired are among the latter."""
    fired = [hit for hit in route.fired if hit.edit.id in places]
    considered = [hit for hit in route.decision.considered if hit.edit.id in places]
    return _listed(fired, places), _listed(considered[:CONSIDERED], places)


def _listed(hits: Sequence[Hit], places: Mapping[str, int]) -> tuple[Firing, ...]:
    return tuple(Firing(places[hit.edit.id], round(float(hit.score), 6)) for hit in hits)
