"""Answers of the running batch that are looked up while they are written."""

from collections.abc import Sequence
from dataclasses import replace

from memedit.runtime import EditableModel
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.continuous import Job
from memedit.runtime.generation import applied
from memedit.runtime.recheck import Finding, Watch
from memedit.server.engines.tickets import Answer, Ticket
from memedit.server.lookups import Lookups
from memedit.types import Hit


class Rechecks:
    """Watches answers for edits that come up in them, and makes the jobs by which these go on.

    Not answers that are held to a structure or may call tools.

    Args:
        model: the model; its ``recheck`` says when to look.
        lookups: finds the edits of what is said.
    """

    def __init__(self, model: EditableModel, lookups: Lookups) -> None:
        self._model, self._lookups = model, lookups

    def watch(self, ticket: Ticket, artefacts: Artefacts) -> None:
        """Have the answers to a request watched, where they are to be."""
        policy = self._model.recheck
        if policy is None or not ticket.request.edits or ticket.grammar is not None or ticket.toolbox is not None:
            return
        decision = ticket.route.decision if ticket.route is not None else None
        fired = () if decision is None else decision.fired
        known = [hit.edit.id for hit in (*fired, *(decision.in_weights if decision is not None else ()))]
        for answer in ticket.answers.values():
            answer.hits = applied(decision, self._model.adapter) if decision is not None and fired else ()

            def place(hit: Hit, ids: Sequence[int], start: int, answer: Answer = answer) -> int | None:
                return self._model.place(ticket.asked, (hit, *answer.hits), ids, start, artefacts)

            answer.watch = Watch(
                self._model.tokenizer,
                policy,
                look=lambda texts: list(self._lookups.decide_spoken(ticket.request.namespace, texts)),
                place=place,
                applied=known,
            )

    def gone_on(self, ticket: Ticket, answer: Answer, job: Job, found: Finding, artefacts: Artefacts) -> Job:
        """Return the job by which an answer goes on from where an edit came up."""
        answer.hits = (found.hit, *answer.hits)
        answer.late.append(replace(found.hit, reasons={**found.hit.reasons, "at_token": float(found.cut)}))
        adapter, edits = self._model.adapter, tuple(hit.edit for hit in answer.hits)
        blobs = dict(artefacts.of(adapter, edits))
        row, said = adapter.rewrite(ticket.asked, edits, blobs), job.tokens[: found.cut]
        limit, context = job.limit, self._model.context_length
        decision = None if ticket.route is None else replace(ticket.route.decision, fired=answer.hits, in_weights=())
        new = Job(
            key=job.key,
            row=row,
            prompt=job.prompt,
            limit=limit if context is None else min(limit, context - len(row.ids)),
            choice=job.choice,
            ends=job.ends,
            edits=edits,
            artefacts=blobs,
            logprobs=job.logprobs,
            weights=job.weights if decision is None else ticket.served.weights_for(decision),
            prior=self._model.late_prior(found.hit, said),
            tokens=list(said),
        )
        new.chooser = job.chooser.rewound(job.prompt, said)
        return new
