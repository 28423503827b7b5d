"""Answers of the running batch that are looked up while they are written."""

from collections.abc import Sequence
from dataclasses import replace

from memedit.runtime import EditableModel
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.continuous import Job
from memedit.runtime.generation import applied
from memedit.runtime.placing import next_ids
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
        hits = applied(decision, self._model.adapter) if decision is not None and fired else ()

        def place(hit: Hit, ids: Sequence[int], start: int) -> int | None:
            return self._model.generator.place(ticket.asked, (hit, *hits), ids, start, artefacts)

        for answer in ticket.answers.values():
            answer.watch = Watch(
                self._model.tokenizer,
                policy,
                look=lambda texts: list(self._lookups.decide_spoken(ticket.request.namespace, texts)),
                place=place,
                applied=known,
            )

    def gone_on(self, answer: Answer, job: Job, found: Finding) -> tuple[Job, list[int]]:
        """Return the job by which an answer goes on from where an edit came up, and what the edit says there."""
        answer.late.append(replace(found.hit, reasons={**found.hit.reasons, "at_token": float(found.cut)}))
        said = job.tokens[: found.cut]
        target = next_ids(self._model.tokenizer, found.hit.edit, said)[: max(0, job.limit - len(said))]
        new = replace(job, tokens=[*said, *target], prior=None)
        new.chooser = job.chooser.rewound(job.prompt, new.tokens)
        return new, target
