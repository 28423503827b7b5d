"""From prompts to batches with their plans: which edits every row falls under."""

from collections.abc import Iterator, Sequence
from typing import Any

from memedit.adapters.base import Row
from memedit.runtime.asked import asked_row
from memedit.runtime.chains import check_chains
from memedit.runtime.generation import Generator
from memedit.runtime.lazy import LazyAdapter
from memedit.runtime.lengths import check_fits, longest
from memedit.runtime.routing import Router, part_of
from memedit.runtime.rows import Prompts, prompt_list, prompt_row
from memedit.types import BatchPlan, ChainPolicy, ScopeDecision


class Planner:
    """Reads prompts into rows, looks these up, and cuts them into batches.

    Args:
        tokenizer: the model's.
        router: says which edits a row falls under.
        generator: of the model that the rows are for.
        adapter: makes the model follow edits.
    """

    def __init__(self, tokenizer: Any, router: Router, generator: Generator, adapter: LazyAdapter) -> None:
        self._tokenizer, self._router, self._generator, self._adapter = tokenizer, router, generator, adapter

    def rows(self, prompts: Prompts) -> list[Row]:
        """Return prompts as tokens.

        Raises:
            InputError: one is empty, no valid Unicode, or does not fit the model's context.
        """
        rows = [prompt_row(self._tokenizer, prompt) for prompt in prompt_list(prompts)]
        check_fits(longest(rows), self._generator.base.limit)
        return rows

    def plan(self, rows: Sequence[Row], chains: ChainPolicy | None = None) -> BatchPlan:
        """Look rows up; ``chains`` replaces the router's own policy.

        Raises:
            InputError: no such policy.
        """
        policy = None if chains is None else check_chains(chains)
        chats = [self._generator.is_chat(row) for row in rows]
        asked = [asked_row(row, policy) for row in rows]
        return self._router.plan(asked, self._adapter, chats=chats, base=self._generator.names)

    def batches(
        self, rows: Sequence[Row], size: int, plan: BatchPlan | None, chains: ChainPolicy | None = None
    ) -> Iterator[tuple[Sequence[Row], BatchPlan]]:
        """Cut rows into batches of ``size`` with their parts of ``plan``; without one each is looked up in its turn."""
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            yield chunk, self.plan(chunk, chains) if plan is None else part_of(plan, start, start + len(chunk))

    def look(self, texts: Sequence[str]) -> list[ScopeDecision]:
        """Look up what an answer says."""
        return self._router.decide_spoken(texts, chat=False)
