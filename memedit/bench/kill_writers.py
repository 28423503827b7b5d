"""Clients that change edits, keep what was acknowledged, and repeat what had no answer when the server is back."""

import random
import ssl
import threading
from dataclasses import dataclass
from typing import Any

import httpx

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For addresses without TLS: by itself each client would read all certificates there are, which costs 40 ms."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an edit must be after its last acknowledged change."""

    target: str
    state: str


@dataclass(frozen=True, slots=True)
class _Request:
    """A change, under its idempotency key."""

    method: str
    path: str
    body: dict[str, Any] | None
    key: str


class Writer:
    """One client; each has edits of its own.

    Args:
        name: unlike all others.
        seed: of what it does.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._rng = name, random.Random(seed)
        self.expected: dict[str, Expected] = {}
        self.acknowledged = 0
        self.repeated = 0
        self.refusal: str | None = None
        self._unanswered: _Request | None = None
        self._count = 0

    def work(self, url: str, stop: threading.Event) -> None:
        """Repeat what had no answer, then make changes until the connection breaks or ``stop`` is set.

        A change that the server refuses ends it; ``refusal`` says why.
        """
        with httpx.Client(base_url=url, timeout=60, params={"on_conflict": "keep"}, verify=PLAIN) as client:
            while True:
                again = self._unanswered
                if again is None and stop.is_set():
                    return
                request = again or self._next()
                self._unanswered = request
                try:
                    response = client.request(
                        request.method, request.path, json=request.body, headers={"Idempotency-Key": request.key}
                    )
                except httpx.TransportError:
                    return
                if not response.is_success:
                    self.refusal = f"{request} was answered {response.status_code}: {response.text[:500]}"
                    return
                self._heard(request, response.json())
                self._unanswered = None
                self.repeated += again is not None

    def _next(self) -> _Request:
        self._count += 1
        key = f"{self._name}-{self._count}"
        live = [edit_id for edit_id, edit in self.expected.items() if edit.state != "retired"]
        gone = [edit_id for edit_id, edit in self.expected.items() if edit.state == "retired"]
        what = self._rng.choices(("add", "batch", "supersede", "update", "withdraw", "restore"), (4, 1, 2, 1, 1, 1))[0]
        if what == "restore" and gone:
            return _Request("POST", f"/v1/edits/{self._rng.choice(gone)}/restore", None, key)
        if what == "batch":
            return _Request("POST", "/v1/edits/batch", {"edits": [self._edit(f"{key}.{i}") for i in range(3)]}, key)
        if what in ("add", "restore") or not live:
            return _Request("POST", "/v1/edits", self._edit(key), key)
        edit_id = self._rng.choice(live)
        if what == "supersede":
            return _Request("POST", f"/v1/edits/{edit_id}/supersede", {"target": f"shade {key}"}, key)
        if what == "update":
            return _Request("PATCH", f"/v1/edits/{edit_id}", {"target": f"hue {key}"}, key)
        return _Request("DELETE", f"/v1/edits/{edit_id}", None, key)

    @staticmethod
    def _edit(name: str) -> dict[str, str]:
        return {"prompt": f"The colour of thing {name} is", "target": f"shade {name}", "subject": f"thing {name}"}

    def _heard(self, request: _Request, answer: dict[str, Any]) -> None:
        """Take down what an acknowledged change has made of which edits."""
        self.acknowledged += 1
        if request.path.endswith("/batch"):
            assert request.body is not None
            for edit_id, edit in zip(answer["ids"], request.body["edits"], strict=True):
                self.expected[edit_id] = Expected(edit["target"], "active")
            return
        self.expected[answer["id"]] = Expected(answer["target"], answer["state"])
        if request.path.endswith("/supersede"):
            old = request.path.split("/")[3]
            self.expected[old] = Expected(self.expected[old].target, "retired")
