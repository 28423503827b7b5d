"""From the engine's events to the bodies of OpenAI's API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from memedit.server.engines.base import (
    CallPiece,
    Choice,
    Completion,
    Ended,
    Passed,
    Piece,
    Provenance,
    TokenScore,
    Usage,
)
from memedit.types import ChainHop, Hit

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of the edits behind an answer its reader sees.

    ``texts`` are prompt and target, ``reasons`` the features behind each score, ``considered`` also the edits that did
    not fire.
    """

    texts: bool = True
    reasons: bool = False
    considered: bool = False


def shown_hits(hits: Sequence[Hit], shown: Shown) -> list[Body]:
    """Return judged edits as a body."""
    return [
        {
            "id": hit.edit.id,
            "prompt": hit.edit.prompt if shown.texts else None,
            "target": hit.edit.target if shown.texts else None,
            "score": float(hit.score),
            "similarity": float(hit.similarity),
            "target_probability": float(hit.target_probability),
            "direct": float(hit.target_probability),  # the former name, for one version
            "reasons": {name: float(value) for name, value in hit.reasons.items()} if shown.reasons else {},
        }
        for hit in hits
    ]


def shown_chain(chain: Sequence[ChainHop], shown: Shown) -> list[Body]:
    """Return the hops of a chain of edits as a body."""
    return [
        {
            "id": hop.edit_id,
            "question": hop.question if shown.texts else None,
            "value": hop.value if shown.texts else None,
        }
        for hop in chain
    ]


def shown_provenance(found: Provenance, shown: Shown) -> Body:
    """Return why an answer came out as it did, as a body."""
    decision = found.decision
    body: Body = {
        "namespace": found.namespace,
        "revision": found.revision,
        "adapter": found.adapter,
        "version": found.version,
        "scope": None if decision is None else decision.scope,
        "threshold": None if decision is None else float(decision.threshold),
        "abstained": decision is not None and decision.abstained,
        "edits": shown_hits(found.fired, shown),
        "in_weights": [] if decision is None else shown_hits(decision.in_weights, shown),
        "chain": [] if decision is None else shown_chain(decision.chain, shown),
    }
    if shown.considered and decision is not None:
        body["considered"] = shown_hits(decision.considered, shown)
    return body


def provenance_headers(found: Sequence[Provenance]) -> dict[str, str]:
    """Return the headers that tell why, among them ``X-Memedit-Edits: id;score=0.97, id;score=0.91``."""
    fired = {hit.edit.id: hit.score for one in found for hit in one.fired}
    headers = {"X-Memedit-Revision": str(min(one.revision for one in found))}
    versions = dict.fromkeys(one.version for one in found if one.version is not None)
    if versions:
        headers["X-Memedit-Version"] = ", ".join(versions)
    adapter = next((one.adapter for one in found if one.adapter is not None), None)
    if fired and adapter is not None:
        headers["X-Memedit-Adapter"] = adapter
        shown = (f"{_token(edit_id)};score={score:.4f}" for edit_id, score in fired.items())
        headers["X-Memedit-Edits"] = ", ".join(shown)
    return headers


def _token(text: str) -> str:
    """Return text as a header can carry it: imported ids may be anything."""
    return quote(text, safe="")


def usage_body(usages: Sequence[Usage]) -> Body:
    """Return the tokens of one or several requests."""
    prompt, written = sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _passed_on(head: Body, body: Mapping[str, Any], *, several: bool = False) -> Body:
    """An upstream's body with what it lacks of ``head``; one of ``several`` has all of it, so that they are alike."""
    own = {name: value for name, value in body.items() if name != "memedit"}
    for name, value in head.items():
        if several or type(own.get(name)) is not type(value):
            own[name] = value
    return own


@dataclass(slots=True)
class ChatRenderer:
    """Bodies of ``/v1/chat/completions``. ``logprobs`` says whether they were asked for."""

    id: str
    model: str
    created: int
    logprobs: bool
    shown: Shown

    def whole(self, completions: Sequence[Completion]) -> Body:
        """Return the one response."""
        completion = completions[0]
        provenance = {"memedit": shown_provenance(completion.provenance, self.shown)}
        if completion.body is not None:
            head = self._head("chat.completion") | {"usage": usage_body([completion.usage])}
            return _passed_on(head, completion.body) | provenance
        choices = [
            {
                "index": choice.index,
                "message": _message(choice),
                "logprobs": self._logprobs(choice.tokens),
                "finish_reason": choice.reason,
            }
            for choice in completion.choices
        ]
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": usage_body([completion.usage]),
            **provenance,
        }

    def first(self, found: Sequence[Provenance], n: int) -> list[Body]:
        """Return the chunks that open a stream: each choice's role; the provenance goes with the first."""
        chunks = [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(n)]
        return [chunks[0] | self.provenance(found), *chunks[1:]]

    def provenance(self, found: Sequence[Provenance]) -> Body:
        """Return what the first chunk of a stream has beside all others."""
        return {"memedit": shown_provenance(found[0], self.shown)}

    def passed(self, _: int, item: Passed) -> Body:
        """Return an upstream's chunk."""
        return _passed_on(self._head("chat.completion.chunk"), item.body)

    def piece(self, _: int, piece: Piece) -> Body:
        """Return a chunk with more text."""
        return self._chunk(piece.index, {"content": piece.text}, logprobs=self._logprobs(piece.tokens))

    def call(self, _: int, piece: CallPiece) -> Body:
        """Return a chunk with more of a tool call."""
        function: Body = {"arguments": piece.arguments}
        call: Body = {"index": piece.number, "function": function}
        if piece.id is not None:
            call |= {"id": piece.id, "type": "function", "function": {"name": piece.name, **function}}
        return self._chunk(piece.index, {"tool_calls": [call]})

    def ended(self, _: int, ended: Ended) -> Body:
        """Return the chunk that closes a choice."""
        return self._chunk(ended.index, {}, reason=ended.reason)

    def usage(self, usages: Sequence[Usage]) -> Body:
        """Return the chunk with the counts, which has no choices."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_body(usages)}

    def _head(self, kind: str) -> Body:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, index: int, delta: Body, *, logprobs: Body | None = None, reason: str | None = None) -> Body:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _logprobs(self, tokens: Sequence[TokenScore]) -> Body | None:
        if not self.logprobs:
            return None
        return {"content": [_chat_token(token) for token in tokens], "refusal": None}


def _message(choice: Choice) -> Body:
    message: Body = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.calls
        ]
    return message


def _chat_token(token: TokenScore) -> Body:
    def shown(text: str, logprob: float) -> Body:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return shown(token.text, token.logprob) | {"top_logprobs": [shown(text, score) for text, score in token.top]}


@dataclass(slots=True)
class TextRenderer:
    """Bodies of ``/v1/completions``; several prompts have ``n`` choices each, numbered through."""

    id: str
    model: str
    created: int
    logprobs: bool
    shown: Shown
    n: int
    _offsets: dict[int, int] = field(default_factory=dict)
    _several: bool = False

    def whole(self, completions: Sequence[Completion]) -> Body:
        """Return the one response."""
        if completions[0].body is not None:
            return self._passed_whole(completions)
        choices = [
            {
                "index": number * self.n + choice.index,
                "text": choice.text,
                "logprobs": self._logprobs(number * self.n + choice.index, choice.tokens),
                "finish_reason": choice.reason,
            }
            for number, completion in enumerate(completions)
            for choice in completion.choices
        ]
        return {
            **self._head(),
            "choices": choices,
            "usage": usage_body([completion.usage for completion in completions]),
            **self.provenance([completion.provenance for completion in completions]),
        }

    def _passed_whole(self, completions: Sequence[Completion]) -> Body:
        """Put the upstream's responses to all prompts together."""
        head = self._head() | {"usage": usage_body([completion.usage for completion in completions])}
        bodies = [completion.body or {} for completion in completions]
        choices = [choice for number, body in enumerate(bodies) for choice in self._numbered(number, body["choices"])]
        merged = _passed_on(head, bodies[0], several=len(bodies) > 1) | {"choices": choices}
        return merged | self.provenance([completion.provenance for completion in completions])

    def _numbered(self, number: int, choices: Sequence[Mapping[str, Any]]) -> list[Body]:
        """The choices of a prompt with the numbers that they have among those of all prompts."""
        return [{**choice, "index": number * self.n + (choice.get("index") or 0)} for choice in choices]

    def first(self, found: Sequence[Provenance], n: int) -> list[Body]:
        """Return the chunk that opens a stream: it has the provenance."""
        return [self._chunk(0, "") | self.provenance(found)]

    def provenance(self, found: Sequence[Provenance]) -> Body:
        """Return what the first chunk of a stream has beside all others."""
        self._several = len(found) > 1
        shown = [shown_provenance(one, self.shown) for one in found]
        return {"memedit": shown if self._several else shown[0]}

    def passed(self, number: int, item: Passed) -> Body | None:
        """Return an upstream's chunk; None for the counts of one of several prompts, which are added up in the end."""
        choices = item.body.get("choices") or []
        if self._several and not choices:
            return None
        body = _passed_on(self._head(), item.body, several=self._several)
        return body | ({"choices": self._numbered(number, choices)} if self._several else {})

    def piece(self, number: int, piece: Piece) -> Body:
        """Return a chunk with more text."""
        index = number * self.n + piece.index
        return self._chunk(index, piece.text, logprobs=self._logprobs(index, piece.tokens))

    def ended(self, number: int, ended: Ended) -> Body:
        """Return the chunk that closes a choice."""
        return self._chunk(number * self.n + ended.index, "", reason=ended.reason)

    def usage(self, usages: Sequence[Usage]) -> Body:
        """Return the chunk with the counts, which has no choices."""
        return {**self._head(), "choices": [], "usage": usage_body(usages)}

    def _head(self) -> Body:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}

    def _chunk(self, index: int, text: str, *, logprobs: Body | None = None, reason: str | None = None) -> Body:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head(), "choices": [choice]}

    def _logprobs(self, index: int, tokens: Sequence[TokenScore]) -> Body | None:
        if not self.logprobs:
            return None
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [dict(token.top) for token in tokens],
            "text_offset": offsets,
        }


Renderer = ChatRenderer | TextRenderer
