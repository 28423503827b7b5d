"""Tool calls in what a model writes, found while it is being written."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memedit.runtime.continuous.text import overlap
from memedit.server.engines.toolbox import CLOSE, OPEN, CallStyle

_HEAD = re.compile(
    r'\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*'
)
_PYTHON_TAG = "<|python_tag|>"
_LONGEST_HEAD = 1_000


@dataclass(frozen=True, slots=True)
class CallPart:
    """More of a tool call: its number, with its first part its id and name, and more of its arguments as JSON text."""

    number: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


Part = str | CallPart


class CallReader:
    """Takes what a model writes and tells text from calls; what may still become a call is held back.

    Args:
        style: how the model writes calls.
        names: of the tools; what names another one is text.
    """

    def __init__(self, style: CallStyle, names: frozenset[str]) -> None:
        self._style, self._names = style, names
        self._held = ""
        self._state = self._text if style is CallStyle.HERMES else self._bare
        self._raw = ""  # of the call that is being read, in case that it is none
        self._arguments = _Value()
        self.calls = 0

    def add(self, text: str) -> list[Part]:
        """Take more text; return what is sure by now."""
        self._held += text
        return list(self._parts(ended=False))

    def end(self) -> list[Part]:
        """Return what was held back."""
        found = list(self._parts(ended=True))
        rest = (
            self._raw + self._held if self._state == self._head else self._held if self._state != self._arguing else ""
        )
        self._held = self._raw = ""
        return [*found, rest] if rest.strip() or (rest and not self.calls) else found

    def _parts(self, *, ended: bool) -> Iterator[Part]:
        while True:
            before = (self._state, len(self._held))
            yield from self._state(ended)
            if (self._state, len(self._held)) == before:
                return

    def _text(self, ended: bool) -> Iterator[Part]:
        """Text up to where a call opens."""
        at = self._held.find(OPEN)
        if at >= 0:
            before = self._held[:at].rstrip()
            self._raw, self._held, self._state = (
                self._held[len(before) : at + len(OPEN)],
                self._held[at + len(OPEN) :],
                self._head,
            )
            if before:
                yield before
            return
        keep = 0 if ended else overlap(self._held, OPEN)
        sure = self._held[: len(self._held) - keep]
        sure = sure if ended else sure.rstrip()
        self._held = self._held[len(sure) :]
        if sure.strip() or (sure and not self.calls):
            yield sure

    def _bare(self, ended: bool) -> Iterator[Part]:
        """The beginning of an answer, or of what follows a call, in which a call has no tag of its own."""
        ahead = self._held.lstrip("; \n\t" if self.calls else " \n\t").removeprefix(_PYTHON_TAG).lstrip()
        if not ahead or (not ended and _PYTHON_TAG.startswith(ahead)):
            return
        if ahead.startswith("{"):
            self._raw, self._held, self._state = self._held[: len(self._held) - len(ahead)], ahead, self._head
        else:
            self._state = self._plain
        yield from ()

    def _plain(self, ended: bool) -> Iterator[Part]:
        text, self._held = self._held, ""
        if text:
            yield text

    def _head(self, ended: bool) -> Iterator[Part]:
        """The name of a call, up to its arguments."""
        found = _HEAD.match(self._held)
        if found is not None and json.loads(found[1]) in self._names:
            self._raw, self._held = "", self._held[found.end() :]
            self._arguments, self._state = _Value(), self._arguing
            yield self._begun(json.loads(found[1]))
            return
        whole = self._whole(ended)
        if whole is None:
            return
        body, behind = whole
        call = _as_call(body)
        if call is not None and call[0] in self._names:
            self._raw, self._held = "", behind
            yield self._begun(call[0])
            yield CallPart(self.calls - 1, call[1])
        else:
            text, self._raw, self._held = self._raw + self._held[: len(self._held) - len(behind)], "", behind
            yield text
        self._state = self._text if self._style is CallStyle.HERMES else self._bare

    def _whole(self, ended: bool) -> tuple[str, str] | None:
        """What stands where a call should, and what stands behind it; None while more may come."""
        if self._style is CallStyle.HERMES:
            body, close, behind = self._held.partition(CLOSE)
            return (body, behind) if close or ended else None
        value = _Value()
        value.add(self._held)
        if value.over:
            return self._held[: value.length], self._held[value.length :]
        return (self._held, "") if ended or (len(self._held) > _LONGEST_HEAD and '"name"' not in self._held) else None

    def _arguing(self, ended: bool) -> Iterator[Part]:
        """The arguments of a call, and what closes it."""
        if not self._arguments.begun:
            self._held = self._held.lstrip()
        if not self._arguments.over:
            text = self._arguments.add(self._held)
            self._held = self._held[len(text) :]
            said = self._arguments.told(text)
            if said:
                yield CallPart(self.calls - 1, said)
        if not self._arguments.over:
            return
        closing = re.match(r"\s*\}\s*" + (CLOSE if self._style is CallStyle.HERMES else ""), self._held)
        if closing is not None or ended:
            self._held = self._held[closing.end() :] if closing is not None else ""
            self._state = self._text if self._style is CallStyle.HERMES else self._bare

    def _begun(self, name: str) -> CallPart:
        self.calls += 1
        return CallPart(self.calls - 1, "", f"call_{uuid.uuid4().hex[:24]}", name)


class _Value:
    """One JSON value, as it comes; ``over`` when it is whole."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escaped = False
        self._first = ""
        self._kept = ""
        self.over = False
        self.length = 0

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._first)

    def add(self, text: str) -> str:
        """Take as much of a text as is part of the value; return that."""
        for at, char in enumerate(text):
            if not self._first and not char.isspace():
                self._first = char
            self._take(char)
            if self.over:
                self.length += at + 1
                return text[: at + 1]
        self.length += len(text)
        return text

    def _take(self, char: str) -> None:
        if self._string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._string = False
                self.over = not self._depth
        elif char == '"':
            self._string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self.over = self._depth <= 0

    def told(self, text: str) -> str:
        """Return what of the value can be passed on: arguments in quotes are taken out of them when they are whole."""
        if self._first == "{":
            return text
        self._kept += text
        if not self.over:
            return ""
        try:
            inner = json.loads(self._kept)
        except ValueError:
            return self._kept
        return inner if isinstance(inner, str) else self._kept


def _as_call(body: str) -> tuple[str, str] | None:
    """Return name and arguments of a whole call, whatever the order of its fields."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = found.get("function", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    return found["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
