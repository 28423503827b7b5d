"""The thread that keeps the running batch full."""

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from memedit.errors import MemeditError
from memedit.runtime.continuous import ContinuousBatch, Step, generate_whole
from memedit.server.engines.base import EngineLoad, Event
from memedit.server.engines.planning import Planner
from memedit.server.engines.tickets import Ticket
from memedit.server.problems import ApiError, overloaded, told
from memedit.server.turns import Turns

_log = logging.getLogger("memedit.server")

_GATHER = 0.003
"""Seconds that the first request of an empty batch waits for others sent at the same moment."""

_LOOKED_UP = 8
"""Requests that are looked up between two tokens of those that are being answered."""

_LATELY = 60.0
"""Seconds for which somebody who has asked is expected to ask again."""

_Mail = list[tuple[Ticket, list[Event | Exception]]]


class Worker:
    """Takes requests, plans them, and generates; all calls of the model are made in its one thread.

    Args:
        planner: looks requests up and makes their jobs.
        batch: the running batch; None when the model cannot be decoded in one.
        max_rows: answers under way at once; one key may have three quarters of them while others ask too.
        max_waiting: requests that may wait beside them. One more takes the place of one of the key that has most.
    """

    def __init__(self, planner: Planner, batch: ContinuousBatch | None, max_rows: int, max_waiting: int) -> None:
        self._planner, self._batch, self._max_rows, self._max_waiting = planner, batch, max_rows, max_waiting
        self._new: Turns[Ticket] = Turns()
        self._askers: dict[str, float] = {}
        self._planned: deque[Ticket] = deque()
        self._running: dict[int, Ticket] = {}
        self._wake = threading.Condition()
        self._stopping = self._dropping = False
        self._pace = 1.0
        self._thread = threading.Thread(target=self._run, name="memedit-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._new) + len(self._planned)

    def load(self) -> EngineLoad:
        """Return how busy it is."""
        return EngineLoad(self.waiting, sum(len(ticket.jobs) for ticket in list(self._running.values())))

    def check_room(self, who: str) -> None:
        """Refuse a request that finds no place, and none that it can take.

        Raises:
            ApiError: 429, too many wait, and nobody has more waiting than this one has.
        """
        with self._wake:
            full = self.waiting >= self._max_waiting
            if full and not self._new.gives_way(who):
                raise self._refusal()

    def _refusal(self) -> ApiError:
        return overloaded(f"{self._max_waiting} requests are waiting already", self.expected_wait())

    def expected_wait(self) -> float:
        """Return about how many seconds a request that came now would wait, by how long the last ones took."""
        return self._pace * (1 + self.waiting / self._max_rows)

    def submit(self, ticket: Ticket) -> None:
        """Have a request answered; where all places are taken, another one of the key with most waiting gives way."""
        who, dropped = ticket.request.who, None
        with self._wake:
            if self.waiting >= self._max_waiting:
                dropped = self._new.newest_of_most(who)
            self._new.put(who, ticket)
            self._askers[who] = time.monotonic()
            self._wake.notify()
        if dropped is not None:
            dropped.failed = True
            _deliver([(dropped, [self._refusal()])])

    def stop(self, drain: float) -> None:
        """Answer what is here within ``drain`` seconds, drop what is left, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(drain)
        self._dropping = True
        self._thread.join(10.0)  # a pass of the model cannot be interrupted

    def _run(self) -> None:
        while self._await_work():
            try:
                self._turn()
            except Exception:  # the thread must outlive a defect of its own: nobody knows what state all is in
                _log.exception("the engine failed")
                self._stop_all(ApiError(500, "the engine failed; the server's log says more", code="internal_error"))
        self._stop_all(ApiError(503, "the server has stopped", code="stopped"))

    def _await_work(self) -> bool:
        """Wait until there is something to do; return False when the thread is to end."""
        with self._wake:
            while not (self._new or self._planned or self._running):
                if self._stopping:
                    return False
                self._wake.wait(1.0)
        if not self._running:
            time.sleep(_GATHER)
        return not self._dropping

    def _turn(self) -> None:
        """Let requests in, and generate one token of every answer."""
        self._drop_cancelled()
        self._plan()
        while self._planned and self._alone(self._planned[0]) and not self._dropping:
            self._generate_alone(self._planned.popleft())
        if self._batch is not None:
            steps = self._join(self._batch)
            if len(self._batch):
                steps += self._batch.step()
            self._tell(steps)
            self._try_again(steps)

    def _alone(self, ticket: Ticket) -> bool:
        """Whether no running batch can hold it: the others pause meanwhile."""
        return self._batch is None or (bool(ticket.jobs[0].edits) and not self._planner.in_steps)

    def _plan(self) -> None:
        """Look up as many of the new requests as there may be room for."""
        taken = self._next()
        mail: _Mail = []
        try:
            plans = self._planner.plan(taken)
        except Exception as error:
            plans = [(ticket, error) for ticket in taken]
        for ticket, found in plans:
            mail.append((ticket, [told(found) if isinstance(found, Exception) else found]))
            if not isinstance(found, Exception):
                self._planned.append(ticket)
        _deliver(mail)

    def _next(self) -> list[Ticket]:
        """Take the requests whose turn it is, as far as there are rows for them."""
        rows = Counter[str]()
        for ticket in [*self._planned, *self._running.values()]:
            rows[ticket.request.who] += len(ticket.jobs)
        most = self._most_rows()
        taken: list[Ticket] = []
        with self._wake:
            while rows.total() < self._max_rows and len(taken) < _LOOKED_UP:
                found = self._new.take(lambda who: rows[who] < most)
                if found is None:
                    break
                who, ticket = found
                self._new.done(who)
                rows[who] += ticket.request.sampling.n
                taken.append(ticket)
        return taken

    def _most_rows(self) -> int:
        """Return how many rows one key may have: not all, where another has asked lately, so that it finds some."""
        with self._wake:
            since = time.monotonic() - _LATELY
            self._askers = {who: at for who, at in self._askers.items() if at > since}
            return self._max_rows if len(self._askers) < 2 else max(1, 3 * self._max_rows // 4)

    def _join(self, batch: ContinuousBatch) -> list[Step]:
        """Let planned requests into the batch, in the order in which they came."""
        alone = (i for i, ticket in enumerate(self._planned) if self._alone(ticket))
        fitting = list(self._planned)[: next(alone, None)]
        count = batch.room([ticket.live for ticket in fitting])
        joining = [self._planned.popleft() for _ in range(count)]
        self._running.update((id(ticket), ticket) for ticket in joining)
        return batch.join([group for ticket in joining for group in ticket.groups]) if joining else []

    def _generate_alone(self, ticket: Ticket) -> None:
        self._running[id(ticket)] = ticket

        def heard(steps: Sequence[Step]) -> bool:
            self._tell(list(steps))
            return not (ticket.cancelled or ticket.over or ticket.failed or self._dropping)

        assert ticket.route is not None
        for answer in ticket.answers.values():
            answer.watch = None  # nothing goes on from the middle here
        model, overlay = self._planner.model, ticket.jobs[0].weights
        if model.version is not None and model.version.edits.gated:
            overlay = None  # the model puts its own rows on the weights that answer them
        try:
            with nullcontext() if overlay is None else overlay.on(model.base):
                structured = None if ticket.grammar is None else ticket.grammar.structure
                generate_whole(model, ticket.prompt, ticket.route, ticket.jobs, heard, structured=structured)
        except Exception as error:
            self._give_up(ticket, error)
        self._running.pop(id(ticket), None)

    def _tell(self, steps: Sequence[Step]) -> None:
        """Turn steps into events and send them; requests that have ended leave."""
        owners = {id(job): ticket for ticket in self._running.values() for job in ticket.jobs}
        mail: dict[int, tuple[Ticket, list[Event | Exception]]] = {}
        for step in steps:
            ticket = owners[id(step.job)]
            if step.error is not None or ticket.failed:
                continue
            try:
                mail.setdefault(id(ticket), (ticket, []))[1].extend(ticket.take(step))
            except Exception as error:
                self._give_up(ticket, error)
        _deliver([item for item in mail.values() if item[1]])
        for ticket, _ in mail.values():
            ended = [ticket.jobs[i] for i, answer in ticket.answers.items() if answer.reason is not None]
            if self._batch is not None:
                self._batch.leave(ended)  # those ended by a stop string are still in it
            self._go_on(ticket)
            if ticket.over:
                self._running.pop(id(ticket), None)
                self._pace += 0.2 * (time.monotonic() - ticket.since - self._pace)

    def _go_on(self, ticket: Ticket) -> None:
        """Have the answers in which an edit came up go on from there."""
        for index, answer in ticket.answers.items():
            found, answer.found = answer.found, None
            if found is None or ticket.failed or self._batch is None:
                continue
            old = ticket.jobs[index]
            self._batch.leave([old])
            new, target = self._planner.gone_on(answer, old, found)
            ticket.jobs[index] = new
            _deliver([(ticket, list(ticket.put_in(index, target)))])
            if answer.reason is not None:
                continue
            steps = self._batch.join([[new]])
            self._tell(steps)
            self._try_again(steps)

    def _try_again(self, steps: Sequence[Step]) -> None:
        """Find out whose fault a failed pass was: each request that was in it is tried alone.

        Those that fail alone are told; the others have two tokens more, and join again with what they have said. What
        has failed by what was asked of it, such as an answer that cannot be held to its structure, is told at once.
        """
        failed = {id(step.job): step.error for step in steps if step.error is not None}
        for ticket in list(self._running.values()):
            own = (failed[id(job)] for job in ticket.jobs if isinstance(failed.get(id(job)), MemeditError))
            if (error := next(own, None)) is not None:
                self._give_up(ticket, error)
        hurt = [ticket for ticket in self._running.values() if any(id(job) in failed for job in ticket.jobs)]
        if not hurt or self._batch is None:
            return
        error = next(iter(failed.values()))
        _log.error("a pass of the model failed; its %d requests are tried one by one", len(hurt), exc_info=error)
        for ticket in hurt:
            self._batch.leave(ticket.jobs)
            trial = self._batch.empty()
            tried = trial.join(ticket.groups)
            tried += trial.step() if len(trial) else []
            self._tell(tried)
            alone = next((step.error for step in tried if step.error is not None), None)
            if alone is not None:
                self._give_up(ticket, alone)
            elif self._running.pop(id(ticket), None) is not None:
                self._planned.appendleft(ticket)

    def _drop_cancelled(self) -> None:
        for ticket in [ticket for ticket in self._running.values() if ticket.cancelled]:
            del self._running[id(ticket)]
            if self._batch is not None:
                self._batch.leave(ticket.jobs)
        with self._wake:
            self._new.remove(lambda ticket: ticket.cancelled)
        for ticket in [ticket for ticket in self._planned if ticket.cancelled]:
            self._planned.remove(ticket)

    def _give_up(self, ticket: Ticket, error: Exception) -> None:
        """Tell a request that it has failed, and drop it."""
        if not ticket.failed:
            ticket.failed = True
            _deliver([(ticket, [told(error)])])
        self._running.pop(id(ticket), None)
        if self._batch is not None:
            self._batch.leave(ticket.jobs)

    def _stop_all(self, error: ApiError) -> None:
        with self._wake:
            tickets = [*self._running.values(), *self._planned, *self._new.remove(lambda _: True)]
        _deliver([(ticket, [error]) for ticket in tickets])
        self._running.clear()
        self._planned.clear()
        if self._batch is not None:
            self._batch.clear()


def _deliver(mail: _Mail) -> None:
    """Hand events over to the event loop, all in one call."""
    loops: dict[asyncio.AbstractEventLoop, _Mail] = {}
    for ticket, events in mail:
        loops.setdefault(ticket.loop, []).append((ticket, events))
    for loop, letters in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put, letters)


def _put(letters: Any) -> None:
    for ticket, events in letters:
        for event in events:
            ticket.events.put_nowait(event)
