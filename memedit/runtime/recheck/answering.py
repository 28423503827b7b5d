"""Answers that are looked up while they are written: whole ones, streamed ones, and what ``generate`` returned."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from memedit.adapters.base import Row
from memedit.runtime.answers import Answer
from memedit.runtime.generation import Generator, PlannedBatch, applied
from memedit.runtime.lazy import LazyAdapter
from memedit.runtime.placing import next_ids
from memedit.runtime.recheck.policy import Recheck
from memedit.runtime.recheck.watching import Finding, Look, Watch
from memedit.types import Hit, Route

_MOST = 8
"""Edits that may come up in one answer."""


class Rechecker:
    """Looks answers up piece by piece; where an edit comes up its target is put in, and the model goes on from there.

    The answer is generated as without it. Only where an edit comes up is anything generated again, so that an answer in
    which none does is the same to the token.

    Args:
        generator: of the model.
        adapter: makes the model follow edits.
        tokenizer: the model's.
        look: looks texts up by single edits.
    """

    def __init__(self, generator: Generator, adapter: LazyAdapter, tokenizer: Any, look: Look) -> None:
        self._generator, self._adapter, self._tokenizer, self._look = generator, adapter, tokenizer, look

    def answers(self, batch: PlannedBatch, answers: Sequence[Answer], policy: Recheck) -> list[Answer]:
        """Return the answers to a batch, those in which edits come up written anew from there."""
        repeats = len(answers) // len(batch.rows)
        return [
            self._checked(batch, batch.rows[number // repeats], answer, policy) for number, answer in enumerate(answers)
        ]

    def sequences(self, batch: PlannedBatch, sequences: Tensor, policy: Recheck) -> Tensor:
        """Return prompts and answers ``[rows * n, width + new]`` as ``generate`` does, looked up."""
        answers = self._generator.read(batch, sequences)
        checked = self.answers(batch, answers, policy)
        if all(one.token_ids == other.token_ids for one, other in zip(answers, checked, strict=True)):
            return sequences
        width, pad = batch.ids.shape[1], self._generator.base.pad
        longest = max(len(answer.token_ids) for answer in checked)
        rows = [[*answer.token_ids, *([pad] * (longest - len(answer.token_ids)))] for answer in checked]
        new = torch.tensor(rows, device=sequences.device, dtype=sequences.dtype)
        return torch.cat([sequences[:, :width], new], dim=1)

    def stream(self, batch: PlannedBatch, policy: Recheck | None) -> Route | None:
        """Generate the one row of a batch to its streamer, which is given nothing that is taken back; return the route.

        Sentences, or pieces of them, come whole. Without a policy nothing is looked up, and the route stays the plan's.
        """
        if policy is None:
            self._generator.run(batch)
            return None
        streamer, row = batch.options["streamer"], batch.rows[0]
        out = _Held(streamer)
        streamer.put(batch.ids)
        route, room = batch.plan.routes[0], self._generator.room(batch)
        watch = self._watch(row, route, policy)
        late: list[Hit] = []
        while True:
            checking = _Checking(watch, out, self._generator.ends(batch.options))
            options = {**batch.options, "streamer": out}
            options["stopping_criteria"] = [*(batch.options.get("stopping_criteria") or ()), checking]
            out.begin()
            if not late:
                self._generator.run(replace(batch, options=options))
            else:
                self._generator.go_on(row, out.ids, route, options, room=room)
            found = checking.found or checking.rest()
            if found is None or len(late) == _MOST:
                out.release(len(out.ids))
                break
            late.append(_marked(found))
            out.cut(found.cut)
            out.say(self._target(found, out.ids, room))
            if len(out.ids) >= room:
                break
        streamer.end()
        return _told(route, late, self._adapter)

    def _checked(self, batch: PlannedBatch, row: Row, answer: Answer, policy: Recheck) -> Answer:
        watch = self._watch(row, answer.route, policy)
        ends, room = self._generator.ends(batch.options), self._generator.room(batch)
        ids = list(answer.token_ids)
        late: list[Hit] = []
        while len(late) < _MOST and (found := watch.check(_without_end(ids, ends), ended=True)) is not None:
            late.append(_marked(found))
            said = ids[: found.cut]
            said += self._target(found, said, room)
            ids = [*said, *self._generator.go_on(row, said, answer.route, batch.options, room=room)]
        if not late:
            return answer
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return Answer(text, tuple(ids), _told(answer.route, late, self._adapter))

    def _target(self, found: Finding, said: Sequence[int], room: int) -> list[int]:
        """Return the ids of a target as they go on from an answer, as many as there is room for."""
        return next_ids(self._tokenizer, found.hit.edit, said)[: max(0, room - len(said))]

    def _watch(self, row: Row, route: Route, policy: Recheck) -> Watch:
        asked = self._generator.asked(row, route.decision)
        hits = applied(route.decision, self._adapter.get()) if route.fired else ()

        def place(hit: Hit, ids: Sequence[int], start: int) -> int | None:
            return self._generator.place(asked, (hit, *hits), ids, start)

        known = [hit.edit.id for hit in (*route.decision.fired, *route.decision.in_weights)]
        return Watch(self._tokenizer, policy, look=self._look, place=place, applied=known)


class _Held(BaseStreamer):
    """Keeps tokens back until they are released; ``ids`` are all of the answer so far."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.ids: list[int] = []
        self._released = 0
        self._begun = False

    def begin(self) -> None:
        """Expect another pass: the first thing that it puts is its prompt."""
        self._begun = False

    def put(self, value: Tensor) -> None:
        if self._begun:
            self.ids += value.reshape(-1).tolist()
        self._begun = True

    def end(self) -> None:
        """Do nothing: another pass may follow."""

    def release(self, count: int) -> None:
        """Pass on the first ``count`` tokens of the answer."""
        for token in self.ids[self._released : count]:
            self._inner.put(torch.tensor([token]))
        self._released = max(self._released, count)

    def say(self, ids: Sequence[int]) -> None:
        """Say something that no pass has generated."""
        self.ids += ids
        self.release(len(self.ids))

    def cut(self, count: int) -> None:
        """Forget what stands behind the first ``count`` tokens, and pass these on."""
        self.release(count)
        del self.ids[count:]


class _Checking(StoppingCriteria):
    """Ends a pass where an edit comes up, and has the streamer pass on what has been looked up."""

    def __init__(self, watch: Watch, out: _Held, ends: frozenset[int]) -> None:
        self._watch, self._out, self._ends = watch, out, ends
        self.found: Finding | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Any:
        self.found = self._watch.check(_without_end(self._out.ids, self._ends), ended=False)
        if self.found is None:
            self._out.release(self._watch.sure)
        return torch.full((input_ids.shape[0],), self.found is not None, device=input_ids.device, dtype=torch.bool)

    def rest(self) -> Finding | None:
        """Look up what is left when the pass has ended."""
        return self._watch.check(_without_end(self._out.ids, self._ends), ended=True)


def _without_end(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    return list(ids[:-1]) if ids and ids[-1] in ends else list(ids)


def _marked(found: Finding) -> Hit:
    """Return the hit with the place from which it speaks among its reasons."""
    return replace(found.hit, reasons={**found.hit.reasons, "at_token": float(found.cut)})


def _told(route: Route, late: Sequence[Hit], adapter: LazyAdapter) -> Route:
    """Return a route on which edits came up later."""
    if not late:
        return route
    decision = route.decision
    known = {hit.edit.id for hit in late}
    others = tuple(hit for hit in decision.considered if hit.edit.id not in known)
    told = replace(decision, fired=(*decision.fired, *late), considered=(*late, *others), abstained=False)
    return replace(route, decision=told, adapter=adapter.get().name)
