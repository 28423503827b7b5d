"""A response as it comes to be: its items, and the events that tell of them."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from memedit.server.engines.base import CallPiece, Ended, Event, Piece, Usage
from memedit.server.problems import ApiError

Body = dict[str, Any]


class ResponseBuilder:
    """Takes an engine's events; each brings events of the Responses API.

    Args:
        head: the fields of the response that are known from the start.
    """

    def __init__(self, head: Body) -> None:
        self.body: Body = {**head, "status": "in_progress", "error": None, "incomplete_details": None, "output": []}
        self.body["usage"] = None
        self._number = 0
        self._open: Body | None = None
        self._reason = "stop"

    def begin(self) -> list[Body]:
        """Return the events that open a stream."""
        return [
            self._event("response.created", response=self._shown()),
            self._event("response.in_progress", response=self._shown()),
        ]

    def take(self, item: Event) -> list[Body]:
        """Return the events that an engine's event brings."""
        if isinstance(item, Piece) and item.text:
            return self._text(item.text)
        if isinstance(item, CallPiece):
            return self._call(item)
        if isinstance(item, Ended):
            self._reason = item.reason
            opened = [] if self.body["output"] else self._text("")
            return [*opened, *self._close()]
        if isinstance(item, Usage):
            self.body["usage"] = _usage(item)
        return []

    def end(self, *, stored: bool) -> list[Body]:
        """Return the last event; the response is complete, or cut at its length."""
        self.body["store"] = stored
        cut = self._reason == "length"
        self.body["status"] = "incomplete" if cut else "completed"
        if cut:
            self.body["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.body["completed_at"] = int(time.time())
        return [self._event(f"response.{self.body['status']}", response=self._shown())]

    def fail(self, error: ApiError) -> Body:
        """Return the event of a response that has failed."""
        code = {429: "rate_limit_exceeded", 504: "server_error"}.get(error.status, "server_error")
        self.body |= {"status": "failed", "error": {"code": code, "message": error.envelope()["error"]["message"]}}
        return self._event("response.failed", response=self._shown())

    def _text(self, text: str) -> list[Body]:
        events: list[Body] = []
        if self._open is None or self._open["type"] != "message":
            events += self._close()
            item = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "status": "in_progress", "role": "assistant"}
            events += self._add({**item, "content": []})
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            events.append(self._of_item("response.content_part.added", content_index=0, part=dict(part)))
            self._item["content"] = [part]
        self._item["content"][0]["text"] += text
        if text:
            events.append(self._of_item("response.output_text.delta", content_index=0, delta=text, logprobs=[]))
        return events

    def _call(self, piece: CallPiece) -> list[Body]:
        events: list[Body] = []
        if piece.id is not None:
            events += self._close()
            item = {"type": "function_call", "id": f"fc_{uuid.uuid4().hex}", "status": "in_progress"}
            events += self._add({**item, "call_id": piece.id, "name": piece.name or "", "arguments": ""})
        if self._open is not None and piece.arguments:
            self._item["arguments"] += piece.arguments
            events.append(self._of_item("response.function_call_arguments.delta", delta=piece.arguments))
        return events

    def _add(self, item: Body) -> list[Body]:
        self._open = item
        self.body["output"].append(item)
        return [self._event("response.output_item.added", output_index=self._index, item=dict(item))]

    def _close(self) -> list[Body]:
        """End the item that is open, if any."""
        if self._open is None:
            return []
        item, events = self._item, []
        item["status"] = "incomplete" if self._reason == "length" else "completed"
        if item["type"] == "message":
            part = item["content"][0]
            events.append(self._of_item("response.output_text.done", content_index=0, text=part["text"], logprobs=[]))
            events.append(self._of_item("response.content_part.done", content_index=0, part=dict(part)))
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            events.append(self._of_item("response.function_call_arguments.done", **done))
        events.append(self._event("response.output_item.done", output_index=self._index, item=dict(item)))
        self._open = None
        return events

    @property
    def _item(self) -> Body:
        assert self._open is not None
        return self._open

    @property
    def _index(self) -> int:
        return len(self.body["output"]) - 1

    def _of_item(self, kind: str, **fields: Any) -> Body:
        return self._event(kind, item_id=self._item["id"], output_index=self._index, **fields)

    def _event(self, kind: str, **fields: Any) -> Body:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event

    def _shown(self) -> Body:
        return {**self.body, "output": [dict(item) for item in self.body["output"]]}


def events_of_chunk(body: Mapping[str, Any]) -> list[Event]:
    """Return what a chunk, or a whole answer, of an upstream's chat says about its first choice."""
    found: list[Event] = []
    for choice in body.get("choices") or ():
        if choice.get("index"):
            continue
        said = choice.get("delta") or choice.get("message") or {}
        text = said.get("content")
        if isinstance(text, str) and text:
            found.append(Piece(0, text))
        for number, call in enumerate(said.get("tool_calls") or ()):
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping):
                arguments, name = function.get("arguments"), function.get("name")
                place = call.get("index") if type(call.get("index")) is int else number
                identity = str(call["id"]) if call.get("id") and name else None
                piece = CallPiece(0, place, arguments if isinstance(arguments, str) else "", identity, name)
                found.append(piece)
        if isinstance(choice.get("finish_reason"), str):
            found.append(Ended(0, choice["finish_reason"]))
    return found


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
