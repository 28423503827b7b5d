"""A running batch over a model, and the models that adapters answer with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.base import Adapter, DecodesInSteps
from memedit.errors import InputError
from memedit.runtime.continuous.decode_batch import DecodeBatch
from memedit.runtime.continuous.jobs import Job, Step
from memedit.runtime.structured import masked
from memedit.runtime.target_bias import mixed


class ContinuousBatch:
    """Generates many answers at once; each joins when it comes and leaves when it is done.

    Rows on which edits fire, by whatever edits, rows of the bare model and rows on other weights than its own share
    every pass: the adapter acts on its own rows alone, and so do other weights, which can therefore be exchanged while
    answers are under way. A pass that fails is told to the rows that were in it, by steps with an error; they have left
    the batch then, and the others are as they were. Not safe to use from several threads.

    Args:
        model: a causal LM in eval mode.
        pad: id to pad with.
        adapter: makes rows follow their edits; must be one that decodes in steps. None: no job has edits.
        max_rows: answers at once.
        max_tokens: rows times columns that the key-value cache may come to hold.

    Raises:
        UnsupportedModelError: the model cannot be decoded row by row.
        InputError: the adapter cannot decode in steps.
    """

    def __init__(
        self, model: Any, pad: int, adapter: Adapter | None, *, max_rows: int = 32, max_tokens: int = 65_536
    ) -> None:
        if adapter is not None and not isinstance(adapter, DecodesInSteps):
            raise InputError(f"adapter {adapter.name!r} cannot decode in steps")
        self._adapter = adapter
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._model, self._pad = model, pad
        self._base = DecodeBatch(model, pad)
        own = adapter.model() if adapter is not None else None
        self._own = DecodeBatch(own, pad, exchanged=False) if own is not None else None

    def empty(self) -> "ContinuousBatch":
        """Return another batch over the same model and adapter, in which nothing runs."""
        return ContinuousBatch(
            self._model, self._pad, self._adapter, max_rows=self._max_rows, max_tokens=self._max_tokens
        )

    def __len__(self) -> int:
        return sum(len(part.jobs) for part in self._parts)

    @property
    def jobs(self) -> list[Job]:
        """The answers under way."""
        return [job for part in self._parts for job in part.jobs]

    @property
    def _parts(self) -> list[DecodeBatch]:
        own = () if self._own is None else (self._own,)
        return [self._base, *own]

    def room(self, waiting: Sequence[Sequence[Job]]) -> int:
        """Return how many of these groups, from the first on, can join now; one always can when nothing runs."""
        rows, columns = len(self), max(part.columns for part in self._parts)
        for taken, group in enumerate(waiting):
            rows, columns = rows + len(group), max(columns, group[0].longest)
            if (rows > self._max_rows or rows * columns > self._max_tokens) and rows > len(group):
                return taken
        return len(waiting)

    @torch.inference_mode()
    def join(self, groups: Sequence[Sequence[Job]]) -> list[Step]:
        """Read prompts and return every job's first token; the jobs of a group share one prompt, read once.

        A job that has said something already (its pass failed) is a group of its own, and goes on from there.
        """
        steps: list[Step] = []
        together: dict[int, tuple[DecodeBatch, list[Sequence[Job]]]] = {}
        for group in groups:
            part = self._part(group[0])
            together.setdefault(id(part), (part, []))[1].append(group)
        for part, mine in together.values():
            jobs = [job for group in mine for job in group]
            try:
                logits = part.prefill(mine, self._adapter)
            except Exception as error:
                steps += [Step.failed(job, error) for job in jobs]
                continue
            steps += self._choose(part, jobs, logits)
        return steps

    @torch.inference_mode()
    def step(self) -> list[Step]:
        """Generate one more token of every answer under way."""
        steps: list[Step] = []
        for part in self._parts:
            if not part.jobs:
                continue
            jobs = list(part.jobs)
            try:
                logits = part.decode(self._adapter)
            except Exception as error:
                part.clear()
                steps += [Step.failed(job, error) for job in jobs]
                continue
            steps += self._choose(part, jobs, logits)
        return steps

    @torch.inference_mode()
    def leave(self, jobs: Sequence[Job]) -> None:
        """Drop answers that nobody waits for any more."""
        for part in self._parts:
            part.leave([job for job in jobs if job in part.jobs])

    def clear(self) -> None:
        """Drop everything."""
        for part in self._parts:
            part.clear()

    def _part(self, job: Job) -> DecodeBatch:
        return self._own if self._own is not None and job.edits else self._base

    def _choose(self, part: DecodeBatch, jobs: Sequence[Job], logits: Tensor) -> list[Step]:
        """Choose a token for each row of ``logits [jobs, v]``; jobs that end with it leave."""
        logits, failed = _held(jobs, logits)
        logits = mixed(logits, [None if job in failed else job.prior for job in jobs], [job.tokens for job in jobs])
        likeliest = logits.argmax(-1).tolist()
        steps: list[Step] = []
        for job, row, best in zip(jobs, logits, likeliest, strict=True):
            try:
                steps.append(Step.failed(job, failed[job]) if job in failed else step_of(job, row, best))
            except Exception as error:
                steps.append(Step.failed(job, error))
        part.leave([step.job for step in steps if step.last])
        return steps


def _held(jobs: Sequence[Job], logits: Tensor) -> tuple[Tensor, dict[Job, Exception]]:
    """Rule out what the structures of jobs do not allow; return the logits, and the jobs that fail at that."""
    failed: dict[Job, Exception] = {}
    if all(job.constraint is None for job in jobs):
        return logits, failed
    rows = list(logits)
    for number, job in enumerate(jobs):
        if job.constraint is None:
            continue
        try:
            rows[number] = masked(logits[number], job.constraint, job.tokens)
        except Exception as error:
            failed[job] = error
    return torch.stack(rows), failed


def step_of(job: Job, logits: Tensor, likeliest: int) -> Step:
    """Choose a job's next token for ``logits [v]``, whose largest is at ``likeliest``, and take it down."""
    token = likeliest if job.chooser.plain else job.chooser.choose(logits)
    logprob, top = _scores(logits, token, job.logprobs) if job.logprobs is not None else (None, ())
    job.take(token)
    return Step(job, token, job.ended, logprob, top)


def _scores(logits: Tensor, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the token's log probability, and the likeliest tokens with theirs."""
    scores = logits.float().log_softmax(-1)
    if not count:
        return float(scores[token]), ()
    values, tokens = scores.topk(min(count, scores.shape[0]))
    likeliest = zip(tokens.tolist(), values.tolist(), strict=True)
    return float(scores[token]), tuple((one, logprob) for one, logprob in likeliest if logprob > float("-inf"))
