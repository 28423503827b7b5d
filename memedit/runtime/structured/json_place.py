"""Where in a JSON text its end stands: in which value, and what of that value has been said."""

import json
from dataclasses import dataclass

_BLANKS = b" \t\r\n"
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A value that is about to begin, or is being said: its path of keys and numbers, and its bytes so far."""

    path: Path
    said: bytes


class JsonText:
    """A JSON text as it is written, byte by byte; text that is no JSON has no place."""

    def __init__(self) -> None:
        self._stack: list[str | int] = []
        self._kinds: list[str] = []  # of the objects and arrays that are open
        self._want = "value"  # value, key, colon or more
        self._scalar = b""
        self._string = self._escaped = self._lost = False
        self.values: list[Place] = []
        """The texts, numbers and words that are whole, in order."""

    def add(self, data: bytes) -> None:
        """Take more of the text."""
        for at in range(len(data)):
            if not self._lost:
                self._take(data[at : at + 1])

    @property
    def place(self) -> Place | None:
        """The value at which the text stands; None within a key, behind a value, and in what is no JSON."""
        return None if self._lost or self._want != "value" else Place(tuple(self._stack), self._scalar)

    def _take(self, byte: bytes) -> None:
        if self._string:
            self._in_string(byte)
        elif byte in _STRUCTURE or (byte in _BLANKS and self._scalar):
            self._finish()
            self._structure(byte)
        elif byte in _BLANKS:
            return
        elif byte == b'"' and self._want in ("value", "key") and not self._scalar:
            self._scalar, self._string = byte, True
        elif self._want == "value":
            self._scalar += byte
        else:
            self._lost = True

    def _in_string(self, byte: bytes) -> None:
        self._scalar += byte
        if self._escaped:
            self._escaped = False
        elif byte == b"\\":
            self._escaped = True
        elif byte == b'"':
            self._string = False
            if self._want == "key":
                self._name()
            else:
                self._finish()

    def _name(self) -> None:
        try:
            self._stack[-1] = str(json.loads(self._scalar))
        except (ValueError, IndexError):
            self._lost = True
        self._scalar, self._want = b"", "colon"

    def _finish(self) -> None:
        """End the value that is being said, if any."""
        if self._scalar:
            self.values.append(Place(tuple(self._stack), self._scalar))
            self._scalar, self._want = b"", "more"

    def _structure(self, byte: bytes) -> None:
        if byte in b"{[" and self._want == "value":
            self._kinds.append(byte.decode())
            self._stack.append("" if byte == b"{" else 0)
            self._want = "key" if byte == b"{" else "value"
        elif byte in b"}]" and self._kinds:
            self._kinds.pop()
            self._stack.pop()
            self._want = "more"
        elif byte == b":" and self._want == "colon":
            self._want = "value"
        elif byte == b"," and self._want == "more" and self._kinds:
            if self._kinds[-1] == "[":
                self._stack[-1] = int(self._stack[-1]) + 1
            self._want = "key" if self._kinds[-1] == "{" else "value"
        elif byte not in _BLANKS:
            self._lost = True


_STRUCTURE = b"{}[],:"
