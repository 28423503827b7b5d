"""One request inside the local engine: its answers under way, and the events that come of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memedit.adapters.base import Row
from memedit.runtime.continuous import Job, Step, TextAssembler
from memedit.runtime.recheck import Finding, Watch
from memedit.runtime.rows import Prompt
from memedit.runtime.structured import Grammar
from memedit.server.active_weights import PLAIN, ActiveVersion
from memedit.server.engines.base import CallPiece, Ended, Event, GenerationRequest, Piece, TokenScore, Usage
from memedit.server.engines.calls import CallPart, CallReader, Part
from memedit.server.engines.toolbox import Toolbox, spells_call, style_of
from memedit.types import Hit, Route


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits or is being answered.

    ``prompt`` is what the runtime takes, ``row`` its tokens, ``limit`` the most that each answer may have. ``events``
    is read in the event loop ``loop``; ``since`` is when it came. ``served`` are the weights that answer it, from its
    look-up to its last token, whatever is put in their place meanwhile. ``toolbox`` are the tools offered, ``grammar``
    is what its answers are held to. ``failed`` is whether it was told an error.
    """

    request: GenerationRequest
    prompt: Prompt
    row: Row
    limit: int
    loop: asyncio.AbstractEventLoop
    toolbox: Toolbox | None = None
    grammar: Grammar | None = None
    events: asyncio.Queue[Event | Exception] = field(default_factory=asyncio.Queue)
    since: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    failed: bool = False
    reworded: Row | None = None
    route: Route | None = None
    served: ActiveVersion = PLAIN
    jobs: list[Job] = field(default_factory=list)
    answers: dict[int, "Answer"] = field(default_factory=dict)

    @property
    def asked(self) -> Row:
        """The row as the model is asked, before any edit's text is put into it."""
        return self.row if self.reworded is None else self.reworded

    @property
    def late(self) -> list[Hit]:
        """The edits that came up in its answers."""
        return list({hit.edit.id: hit for answer in self.answers.values() for hit in answer.late}.values())

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
        named = self.toolbox is not None and self.toolbox.named
        self.answers = {
            i: Answer(i, TextAssembler(tokenizer, stops), tokenizer, self._reader(tokenizer), named)
            for i in range(len(jobs))
        }

    def _reader(self, tokenizer: Any) -> CallReader | None:
        """What finds calls in an answer; none where an edit's target spells one: it is text, and calls nothing."""
        fired = self.route.fired if self.route is not None else ()
        if self.toolbox is None or any(spells_call(hit.edit.target) for hit in fired):
            return None
        return CallReader(style_of(tokenizer), self.toolbox.names)

    def take(self, step: Step) -> list[Event]:
        """Return the events that a step brings, the last ones included when it ends the request."""
        answer = self.answers[self.jobs.index(step.job)]
        events = answer.watched(step) if answer.watch is not None else answer.take(step)
        return self._closed(answer, events)

    def put_in(self, index: int, tokens: Sequence[int]) -> list[Event]:
        """Return the events of tokens that an edit says in an answer; it ends with them where it has no more room."""
        answer, job = self.answers[index], self.jobs[index]
        full = len(job.tokens) >= job.limit
        events = [event for token in tokens for event in answer.take(Step(job, token, last=False))]
        answer.passed += len(tokens)
        return self._closed(answer, events + answer.end("length") if full and answer.reason is None else events)

    def _closed(self, answer: "Answer", events: list[Event]) -> list[Event]:
        if answer.reason is not None and self.over:
            written = sum(answer.tokens for answer in self.answers.values())
            events.append(Usage(len(self.row.ids), written))
        return events


@dataclass(slots=True)
class Answer:
    """One answer as text. ``reason`` is why it ended, None while it goes on.

    ``watch`` looks it up while it is written; ``held`` are its steps that may yet be taken back, ``found`` is the edit
    that came up and from which it is to go on, ``late`` are all that did.
    """

    index: int
    text: TextAssembler
    tokenizer: Any
    calls: CallReader | None = None
    named: bool = False
    reason: str | None = None
    tokens: int = 0
    scores: list[TokenScore] = field(default_factory=list)
    watch: Watch | None = None
    held: list[Step] = field(default_factory=list)
    passed: int = 0
    found: Finding | None = None
    late: list[Hit] = field(default_factory=list)

    def watched(self, step: Step) -> list[Event]:
        """Hold a token back until what it belongs to has been looked up; return the events of those that are sure."""
        if self.watch is None or self.reason is not None:
            return []
        self.held.append(step)
        said = step.job.tokens
        ids = said[:-1] if said[-1] in step.job.ends else said
        self.found = self.watch.check(ids, ended=step.last)
        if self.found is not None:
            events = self._released(self.found.cut)
            self.held.clear()
            return events
        return self._released(len(said) if step.last else self.watch.sure)

    def _released(self, count: int) -> list[Event]:
        """Return the events of the tokens up to ``count`` that were held back."""
        events: list[Event] = []
        while self.held and self.passed < count:
            self.passed += 1
            events += self.take(self.held.pop(0))
        return events

    def end(self, reason: str) -> list[Event]:
        """Return the events by which it ends without another token."""
        self.reason = reason
        text = self.text.end()
        return [*(self._event(part) for part in self._parts(text)), Ended(self.index, reason)]

    def take(self, step: Step) -> list[Event]:
        """Return the events of one token; nothing comes of tokens after a stop string."""
        if self.reason is not None:
            return []
        self.tokens += 1
        ended = step.token in step.job.ends
        whole = ended or step.job.whole
        text = "" if ended else self.text.add(step.token)
        if step.logprob is not None and not ended:
            self.scores.append(self._score(step))
        if self.text.stopped or step.last:
            text += self.text.end()
            self.reason = "stop" if self.text.stopped or whole else "length"
        events = [self._event(part) for part in self._parts(text)]
        if self.reason is not None:
            if self.reason == "stop" and self.calls is not None and self.calls.calls and not self.named:
                self.reason = "tool_calls"  # OpenAI's API says "stop" of a call that was asked for by its name
            events.append(Ended(self.index, self.reason))
        return events

    def _parts(self, text: str) -> list[Part]:
        """Return the text, and the calls in it."""
        if self.calls is None:
            return [text] if text else []
        parts = self.calls.add(text)
        return parts if self.reason is None else [*parts, *self.calls.end()]

    def _event(self, part: Part) -> Event:
        if isinstance(part, CallPart):
            return CallPiece(self.index, part.number, part.arguments, part.id, part.name)
        scores, self.scores = tuple(self.scores), []
        return Piece(self.index, part, scores)

    def _score(self, step: Step) -> TokenScore:
        top = tuple((self._text(token), logprob) for token, logprob in step.top)
        return TokenScore(self._text(step.token), step.logprob or 0.0, top)

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))
