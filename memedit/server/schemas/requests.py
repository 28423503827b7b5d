"""Bodies of the request log and of feedback."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from memedit.memory import Feedback, LoggedRequest
from memedit.server.schemas.common import In, Out
from memedit.types import Edit


class JudgedOut(Out):
    """An edit that was looked at; ``prompt`` and ``target`` as they are now, null for one that is gone."""

    id: str
    score: float
    fired: bool
    in_weights: bool
    prompt: str | None = None
    target: str | None = None


class RequestOut(Out):
    """A prompt that was answered. ``status`` is ok, or the code of what went wrong; times are in seconds.

    ``query`` was looked up, ``earlier`` are the turns before it; texts are redacted as the server was told to.
    ``answer`` is null unless the server keeps answers.
    """

    object: Literal["request"] = "request"
    id: str
    at: datetime
    namespace: str
    key: str
    request_id: str
    route: str
    model: str
    query: str
    earlier: list[str]
    answer: str | None
    status: str
    seconds: float
    first_token: float | None
    prompt_tokens: int
    completion_tokens: int
    revision: int | None
    adapter: str | None
    version: str | None
    scope: str | None
    threshold: float | None
    abstained: bool
    considered: list[JudgedOut]

    @classmethod
    def of(cls, row: LoggedRequest, edits: Mapping[str, Edit]) -> "RequestOut":
        """Return a row as a body, with the texts of ``edits``, by id."""
        plain = ("id", "at", "namespace", "route", "model", "query", "answer", "status", "seconds", "first_token",
                 "prompt_tokens", "completion_tokens", "revision", "adapter", "version", "scope", "threshold",
                 "abstained")  # fmt: skip
        judged = []
        for hit in row.considered:
            edit = edits.get(hit.id)
            texts = {"prompt": None, "target": None} if edit is None else {"prompt": edit.prompt, "target": edit.target}
            judged.append(JudgedOut(id=hit.id, score=hit.score, fired=hit.fired, in_weights=hit.in_weights, **texts))
        fields = {name: getattr(row, name) for name in plain}
        return cls(**fields, key=row.actor, request_id=row.request, earlier=list(row.earlier), considered=judged)


class RequestList(Out):
    """A page of the log, newest first. ``next`` is the ``before`` of the next page; ``enabled``: a log is kept."""

    object: Literal["list"] = "list"
    data: list[RequestOut]
    next: str | None
    enabled: bool


class FeedbackIn(In):
    """What should have been: ``edit`` fires on the text of the request, or does not."""

    edit: str = Field(min_length=1, max_length=200)
    should_fire: bool


class FeedbackOut(Out):
    """A verdict. ``settled_at`` is when it was acted upon, ``outcome`` how; ``prompt``, ``target`` are the edit's."""

    object: Literal["feedback"] = "feedback"
    id: str
    at: datetime
    namespace: str
    key: str
    edit: str
    should_fire: bool
    query: str
    earlier: list[str]
    request: str | None
    settled_at: datetime | None
    outcome: str | None
    prompt: str | None = None
    target: str | None = None

    @classmethod
    def of(cls, found: Feedback, edit: Edit | None = None) -> "FeedbackOut":
        """Return a verdict as a body."""
        plain = ("id", "at", "namespace", "should_fire", "query", "request", "settled_at", "outcome")
        fields = {name: getattr(found, name) for name in plain}
        fields |= {"prompt": edit and edit.prompt, "target": edit and edit.target}
        return cls(**fields, key=found.actor, edit=found.edit_id, earlier=list(found.earlier))


class FeedbackList(Out):
    """Verdicts, newest first."""

    object: Literal["list"] = "list"
    data: list[FeedbackOut]
