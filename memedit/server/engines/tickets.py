"""One request inside the local engine: its answers under way, and the events that come of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memedit.adapters.base import Row
from memedit.runtime.continuous import Job, Step, TextAssembler
from memedit.runtime.rows import Prompt
from memedit.server.active_weights import PLAIN, ActiveVersion
from memedit.server.engines.base import Ended, Event, GenerationRequest, Piece, TokenScore, Usage
from memedit.types import Route


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits or is being answered.

    ``prompt`` is what the runtime takes, ``row`` its tokens, ``limit`` the most that each answer may have. ``events``
    is read in the event loop ``loop``; ``since`` is when it came. ``served`` are the weights that answer it, from its
    look-up to its last token, whatever is put in their place meanwhile. ``failed`` is whether it was told an error.
    """

    request: GenerationRequest
    prompt: Prompt
    row: Row
    limit: int
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event | Exception] = field(default_factory=asyncio.Queue)
    since: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    failed: bool = False
    route: Route | None = None
    served: ActiveVersion = PLAIN
    jobs: list[Job] = field(default_factory=list)
    answers: dict[int, "Answer"] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether every answer has ended."""
        return bool(self.answers) and all(answer.reason is not None for answer in self.answers.values())

    @property
    def live(self) -> list[Job]:
        """The answers that have not ended."""
        return [self.jobs[i] for i, answer in self.answers.items() if answer.reason is None]

    @property
    def groups(self) -> list[list[Job]]:
        """The answers that have not ended as they join a batch: those that have said nothing yet share their prompt."""
        fresh = [job for job in self.live if not job.tokens]
        return ([fresh] if fresh else []) + [[job] for job in self.live if job.tokens]

    def begin(self, tokenizer: Any, jobs: Sequence[Job]) -> None:
        """Take the jobs of the answers, in order."""
        self.jobs = list(jobs)
        stops = self.request.sampling.stop
        self.answers = {i: Answer(i, TextAssembler(tokenizer, stops), tokenizer) for i in range(len(jobs))}

    def take(self, step: Step) -> list[Event]:
        """Return the events that a step brings, the last ones included when it ends the request."""
        answer = self.answers[self.jobs.index(step.job)]
        events = answer.take(step)
        if answer.reason is not None and self.over:
            written = sum(answer.tokens for answer in self.answers.values())
            events.append(Usage(len(self.row.ids), written))
        return events


@dataclass(slots=True)
class Answer:
    """One answer as text. ``reason`` is why it ended, None while it goes on."""

    index: int
    text: TextAssembler
    tokenizer: Any
    reason: str | None = None
    tokens: int = 0
    scores: list[TokenScore] = field(default_factory=list)

    def take(self, step: Step) -> list[Event]:
        """Return the events of one token; nothing comes of tokens after a stop string."""
        if self.reason is not None:
            return []
        self.tokens += 1
        ended = step.token in step.job.ends
        text = "" if ended else self.text.add(step.token)
        if step.logprob is not None and not ended:
            self.scores.append(self._score(step))
        if self.text.stopped or step.last:
            text += self.text.end()
            self.reason = "stop" if self.text.stopped or ended else "length"
        events: list[Event] = []
        if text:
            scores, self.scores = tuple(self.scores), []
            events.append(Piece(self.index, text, scores))
        if self.reason is not None:
            events.append(Ended(self.index, self.reason))
        return events

    def _score(self, step: Step) -> TokenScore:
        top = tuple((self._text(token), logprob) for token, logprob in step.top)
        return TokenScore(self._text(step.token), step.logprob or 0.0, top)

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))
