"""From waiting requests to answers under way: look-up, rewriting, one job for each answer."""

from collections.abc import Sequence
from dataclasses import replace

from memedit.adapters.base import DecodesInSteps, Row
from memedit.runtime import EditableModel
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.asked import asked_row
from memedit.runtime.continuous import Job, TokenChoice
from memedit.runtime.generation import applied
from memedit.runtime.lengths import check_fits
from memedit.runtime.recheck import Finding
from memedit.server.engines.base import Provenance, Sampling, Started
from memedit.server.engines.rechecking import Rechecks
from memedit.server.engines.tickets import Answer, Ticket
from memedit.server.lookups import Lookups
from memedit.types import Route, ScopeDecision

_KEPT_NAMESPACES = 1_000


class Planner:
    """Plans requests; used by one thread.

    Args:
        model: the model on its memory.
        lookups: finds the edits of prompts.
    """

    def __init__(self, model: EditableModel, lookups: Lookups) -> None:
        self.model, self._lookups = model, lookups
        self._artefacts: dict[str, Artefacts] = {}
        self._ends = model.end_tokens
        self._rechecks = Rechecks(model, lookups)

    @property
    def in_steps(self) -> bool:
        """Whether rows with edits can join a running batch."""
        return isinstance(self.model.adapter, DecodesInSteps)

    def plan(self, tickets: Sequence[Ticket]) -> list[tuple[Ticket, Started | Exception]]:
        """Look up all prompts of each namespace together, and make the jobs of each request.

        What goes wrong with one request, or in one namespace, is no other's concern.
        """
        found: list[tuple[Ticket, Started | Exception]] = []
        for namespace in dict.fromkeys(ticket.request.namespace for ticket in tickets):
            found += self._of_namespace(namespace, [t for t in tickets if t.request.namespace == namespace])
        return found

    def _of_namespace(self, namespace: str, mine: Sequence[Ticket]) -> list[tuple[Ticket, Started | Exception]]:
        asked = [ticket for ticket in mine if ticket.request.edits]
        chats = [self.model.generator.is_chat(ticket.row) for ticket in asked]
        queries = [asked_row(ticket.row, ticket.request.chains) for ticket in asked]
        try:
            looked = self._lookups.decide(namespace, queries, chats=chats, base=self.model.generator.names)
            bare = self._lookups.weights.of(namespace, edits=False)
        except Exception as error:
            if len(mine) == 1:
                return [(mine[0], error)]
            return [told for ticket in mine for told in self._of_namespace(namespace, [ticket])]
        decisions = dict(zip(map(id, asked), looked.decisions, strict=True))
        found: list[tuple[Ticket, Started | Exception]] = []
        for ticket in mine:
            ticket.served = looked.served if ticket.request.edits else bare
            found.append((ticket, self._planned(ticket, decisions.get(id(ticket)), looked.revision)))
        return found

    def _planned(self, ticket: Ticket, decision: ScopeDecision | None, revision: int) -> Started | Exception:
        try:
            fired = decision.fired if decision is not None else ()
            adapter = self.model.adapter.name if fired else None
            silent = decision or ScopeDecision(ticket.row.text, "none", 1.0, (), ())
            ticket.route = Route(0, silent, adapter)
            ticket.begin(self.model.tokenizer, self._jobs(ticket))
            if self.in_steps:
                self._rechecks.watch(ticket, self._of(ticket.request.namespace))
        except Exception as error:
            return error
        version = ticket.served.version_for(decision)
        return Started(Provenance(ticket.request.namespace, revision, adapter, decision, version))

    def _jobs(self, ticket: Ticket) -> list[Job]:
        decision = ticket.route.decision if ticket.route is not None else None
        fired = applied(decision, self.model.adapter) if decision is not None and decision.fired else ()
        edits = tuple(hit.edit for hit in fired)
        row, limit, artefacts, prior = ticket.row, ticket.limit, {}, None
        if decision is not None and decision.asked is not None:
            ticket.reworded = row = self.model.generator.asked(row, decision)
            limit = self._shortened(row, limit)
        asked = row
        if edits:
            prior = self.model.generator.target_prior(row, fired) if ticket.grammar is None else None
            adapter = self.model.adapter
            artefacts = dict(self._of(ticket.request.namespace).of(adapter, edits))
            row = adapter.rewrite(row, edits, artefacts)
            limit = self._shortened(row, limit)
        sampling = ticket.request.sampling
        weights = ticket.served.weights_for(None if ticket.route is None else ticket.route.decision)
        jobs = [
            Job(
                key=(ticket.request.id, index),
                row=row,
                prompt=ticket.row.ids,
                limit=limit,
                choice=_choice(sampling, index),
                ends=frozenset() if sampling.ignore_eos else self._ends,
                edits=edits,
                artefacts=artefacts,
                logprobs=sampling.logprobs,
                weights=weights,
                prior=prior,
            )
            for index in range(sampling.n)
        ]
        if ticket.grammar is not None:
            for job in jobs:
                held = self.model.generator.held(ticket.grammar, asked, fired)
                job.constraint, job.prior = held.constraint, held.prior
        return jobs

    def gone_on(self, answer: Answer, job: Job, found: Finding) -> tuple[Job, list[int]]:
        """Return the job by which an answer goes on from where an edit came up, and what the edit says there."""
        return self._rechecks.gone_on(answer, job, found)

    def _shortened(self, row: Row, limit: int) -> int:
        """An edit's text takes room in the context: the answer gets what is left of it."""
        context = self.model.context_length
        check_fits(len(row.ids), context, edited=True)
        return limit if context is None else min(limit, context - len(row.ids))

    def _of(self, namespace: str) -> Artefacts:
        if namespace not in self._artefacts:
            if len(self._artefacts) >= _KEPT_NAMESPACES:
                self._artefacts.clear()
            self._artefacts[namespace] = Artefacts(self._lookups.memory, namespace)
        return self._artefacts[namespace]


def _choice(sampling: Sampling, index: int) -> TokenChoice:
    choice = TokenChoice(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k if sampling.top_k and sampling.top_k > 0 else None,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=sampling.logit_bias,
    )
    return choice if sampling.seed is None else replace(choice, seed=(sampling.seed + index) % 2**63)
