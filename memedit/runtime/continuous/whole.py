"""Answers one at a time by the model's own ``generate``, for models and adapters that no running batch can hold."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from memedit.runtime.continuous.batch import step_of
from memedit.runtime.continuous.jobs import Job, Step
from memedit.runtime.editable import EditableModel
from memedit.runtime.rows import Prompt
from memedit.runtime.structured import Structure
from memedit.types import BatchPlan, Route

Heard = Callable[[list[Step]], bool]
"""Told of each step; returns whether anybody still listens."""


def generate_whole(
    model: EditableModel,
    prompt: Prompt,
    route: Route,
    jobs: Sequence[Job],
    heard: Heard,
    *,
    structured: Structure | None = None,
) -> None:
    """Generate the answers ``jobs`` to one prompt, on the route that was found for it.

    Tokens are chosen, and ends found, as in a running batch: only the forward passes are ``generate``'s own, and
    answers are held to ``structured`` there.
    """
    chooser = _Chooser(jobs, heard)
    plan = BatchPlan(tuple(Route(row, route.decision, route.adapter) for row in range(len(jobs))))
    model.answer(
        [prompt] * len(jobs),
        batch_size=len(jobs),
        plan=plan,
        structured=structured,
        do_sample=False,
        num_beams=1,
        max_new_tokens=max(job.limit for job in jobs),
        eos_token_id=-1,  # where an answer ends is decided here
        logits_processor=LogitsProcessorList([chooser]),
        stopping_criteria=StoppingCriteriaList([_Ended(chooser)]),
    )


class _Chooser(LogitsProcessor):
    """Chooses each row's token and leaves ``generate`` no other."""

    def __init__(self, jobs: Sequence[Job], heard: Heard) -> None:
        self.jobs, self._heard = jobs, heard
        self.listening = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        steps = []
        only = torch.full_like(scores, float("-inf"))
        for number, job in enumerate(self.jobs):
            if job.ended:
                only[number, 0] = 0.0
                continue
            step = step_of(job, scores[number], int(scores[number].argmax()))
            only[number, step.token] = 0.0
            steps.append(step)
        self.listening = self._heard(steps)
        return only


class _Ended(StoppingCriteria):
    def __init__(self, chooser: _Chooser) -> None:
        self._chooser = chooser

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Any:
        over = [job.ended or not self._chooser.listening for job in self._chooser.jobs]
        return torch.tensor(over, device=input_ids.device)
