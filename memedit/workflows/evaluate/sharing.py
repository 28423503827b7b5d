"""Baselines without double work: a row that reaches the model exactly as another method's did is not generated again.

``rag`` and ``oracle`` differ from the method with the same adapter only in which edits fire. Where the same edits fire
on the same prompt under the same limit, the model would be fed the same tokens; where none fires, the row is the
untouched base's by definition of these two baselines. Methods under test are never served this way.
"""

from collections.abc import Sequence
from dataclasses import replace

from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.cache import Request
from memedit.evaluation.records import Result
from memedit.evaluation.requests import GenerateRequest, ScoreRequest
from memedit.types import BatchPlan
from memedit.workflows.answerers import EditedAnswerer, firings

Key = tuple[str | None, tuple[int, ...], Request]


class SharedOutputs:
    """Results of one data set by adapter, fired edits and request."""

    def __init__(self) -> None:
        self._known: dict[Key, Result] = {}

    def add(self, adapter: str | None, requests: Sequence[Request], results: Sequence[Result]) -> None:
        """Keep the results of a method with this adapter (None: the base)."""
        for request, result in zip(requests, results, strict=True):
            fired = tuple(firing.edit for firing in result.fired)
            self._known.setdefault((adapter if fired else None, fired, request), result)

    def find(self, adapter: str, fired: tuple[int, ...], request: Request) -> Result | None:
        """Return the result of this request with these edits fired, None when it is not known."""
        return self._known.get((adapter if fired else None, fired, request))


class SharingAnswerer:
    """A baseline that takes from ``shared`` what it can and computes the rest.

    Args:
        inner: the baseline itself.
        adapter: name of its adapter.
        shared: what other methods gave.
    """

    def __init__(self, inner: EditedAnswerer, adapter: str, shared: SharedOutputs) -> None:
        self._inner, self._adapter, self._shared = inner, adapter, shared
        self.count_tokens = inner.count_tokens

    @property
    def fingerprint(self) -> str:
        """The baseline's own."""
        return self._inner.fingerprint

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        requests = [GenerateRequest(prompt, max_new_tokens, stop_at_newline) for prompt in prompts]
        plan = self._inner.plan(prompts)
        found, missing = self._known(requests, plan)
        if missing:
            made = self._inner.generate_planned(
                [prompts[i] for i in missing],
                _rows_of(plan, missing),
                max_new_tokens=max_new_tokens,
                stop_at_newline=stop_at_newline,
            )
            found.update(zip(missing, made, strict=True))
        return [result for i in range(len(prompts)) if isinstance(result := found[i], Generation)]

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[Generation]:
        """See :class:`~memedit.evaluation.answering.Samples`; what is drawn is not shared."""
        return self._inner.sample(prompts, max_new_tokens=max_new_tokens, seed=seed)

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        """See :class:`~memedit.evaluation.answering.Answerer`."""
        requests = [ScoreRequest(prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
        plan = self._inner.plan(prompts)
        found, missing = self._known(requests, plan)
        if missing:
            texts, wanted = [prompts[i] for i in missing], [targets[i] for i in missing]
            found.update(zip(missing, self._inner.score_planned(texts, wanted, _rows_of(plan, missing)), strict=True))
        return [result for i in range(len(prompts)) if isinstance(result := found[i], Scoring)]

    def _known(self, requests: Sequence[Request], plan: BatchPlan) -> tuple[dict[int, Result], list[int]]:
        found: dict[int, Result] = {}
        for i, route in enumerate(plan.routes):
            fired, considered = firings(route, self._inner.places)
            known = self._shared.find(self._adapter, tuple(firing.edit for firing in fired), requests[i])
            if known is not None:
                found[i] = replace(known, fired=fired, considered=considered)
        return found, [i for i in range(len(requests)) if i not in found]


def _rows_of(plan: BatchPlan, rows: Sequence[int]) -> BatchPlan:
    return BatchPlan(tuple(replace(plan.routes[row], row=i) for i, row in enumerate(rows)))
