"""From a request and its answer to the row that the request log has of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from memedit.errors import InputError
from memedit.memory import JudgedEdit, LoggedRequest, request_id
from memedit.runtime.rows import content_text
from memedit.server.engines.base import GenerationRequest, Provenance, Usage

LONGEST = 8_000
"""Characters that are kept of a text."""
SLACK = 512
"""Characters beyond these that are held until the text is redacted, so that no cut lies inside what is to go."""
_EARLIER, _EARLIER_LONGEST = 12, 2_000
_CONSIDERED = 16


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, by which request and route."""

    name: str
    request: str
    route: str
    logged: bool = True


@dataclass(slots=True)
class Note:
    """What is known of a request so far."""

    asker: Asker
    asked: GenerationRequest
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    provenance: Provenance | None = None
    usage: Usage | None = None
    first_token: float | None = None
    seconds: float = 0.0
    status: str = "ok"
    answer: list[str] = field(default_factory=list)
    pieces: int = 0

    def spent(self) -> Usage:
        """Return the tokens it cost; where they were never told, because it was cut short, what can be said of them."""
        if self.usage is not None:
            return self.usage
        query, earlier = asked_texts(self.asked)
        return Usage(sum(map(len, (query, *earlier))) // 4, self.pieces)

    def row(self, *, answer: bool) -> LoggedRequest:
        """Return the row; texts are whole but for what is cut anyway, and not yet redacted."""
        query, earlier = asked_texts(self.asked)
        found = self.provenance
        usage = self.usage or Usage(0, self.pieces)
        row = LoggedRequest(
            id=request_id(),
            at=self.at,
            namespace=self.asked.namespace,
            actor=self.asker.name,
            request=self.asker.request,
            route=self.asker.route,
            query=query,
            earlier=earlier,
            answer="".join(self.answer)[: LONGEST + SLACK] if answer else None,
            model=self.asked.model,
            status=self.status,
            seconds=round(self.seconds, 6),
            first_token=None if self.first_token is None else round(self.first_token, 6),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        return row if found is None else replace(row, **_judged(found))


def asked_texts(asked: GenerationRequest) -> tuple[str, tuple[str, ...]]:
    """Return what is asked, and the turns before it; nothing for token ids, whose text is the tokenizer's."""
    if isinstance(asked.prompt, str):
        return asked.prompt[: LONGEST + SLACK], ()
    if not asked.chat:
        return "", ()
    messages: Sequence[Mapping[str, Any]] = asked.prompt  # type: ignore[assignment]
    last = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=len(messages) - 1)
    texts = [_text(message) for message in messages[: last + 1]]
    earlier = [text[: _EARLIER_LONGEST + SLACK] for text in texts[:-1] if text.strip()]
    return texts[-1][: LONGEST + SLACK], tuple(earlier[-_EARLIER:])


def said_in(body: Mapping[str, Any]) -> str:
    """Return the text of the first choice of an upstream's body or chunk."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return ""
    first = next((c for c in choices if isinstance(c, Mapping) and not c.get("index")), {})
    for holder in (first.get("message"), first.get("delta"), first):
        for name in ("content", "text"):
            if isinstance(holder, Mapping) and isinstance(holder.get(name), str):
                return str(holder[name])
    return ""


def _text(message: Mapping[str, Any]) -> str:
    try:
        return content_text(message)
    except InputError:
        return ""  # what has no text is refused elsewhere


def _judged(found: Provenance) -> dict[str, Any]:
    decision = found.decision
    common = {"revision": found.revision, "adapter": found.adapter, "version": found.version}
    if decision is None:
        return common
    fired = {hit.edit.id for hit in found.fired}
    known = {hit.edit.id for hit in decision.in_weights}
    hits = {hit.edit.id: hit for hit in (*decision.considered, *decision.fired, *decision.in_weights)}
    kept = [
        JudgedEdit(hit.edit.id, round(float(hit.score), 6), hit.edit.id in fired, hit.edit.id in known)
        for number, hit in enumerate(hits.values())
        if number < _CONSIDERED or hit.edit.id in fired or hit.edit.id in known
    ]
    return common | {
        "scope": decision.scope,
        "threshold": float(decision.threshold),
        "abstained": decision.abstained,
        "considered": tuple(sorted(kept, key=lambda edit: -edit.score)),
    }
