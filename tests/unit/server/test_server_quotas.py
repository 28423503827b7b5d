"""Keys and quotas: who sets them, what they hold, and how a client is told."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from memedit.memory import EditMemory, Quota, Role
from memedit.server.rates import RateLimiter
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app
from support.scripted_upstream import ScriptedUpstream

ASK = {"messages": [{"role": "user", "content": "How long is a year?"}]}
RIVER = {"prompt": "The river of Norvik is", "target": "Lind"}


class Users:
    """Clients with keys of their own, on one server."""

    def __init__(self, client: TestClient, memory: EditMemory) -> None:
        self.client, self.memory, self.secrets = client, memory, {"root": ""}

    def make(self, name: str, roles: list[Role], **options: Any) -> str:
        key, self.secrets[name] = self.memory.keys.create(name, roles=roles, **options)
        return key.id

    def __call__(self, name: str, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets[name]}", **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[EditMemory]:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder()) as found:
        yield found


@pytest.fixture
def users(memory: EditMemory) -> Iterator[Users]:
    with TestClient(proxy_app(memory, ScriptedUpstream(), auth=True)) as client:
        found = Users(client, memory)
        found.make("root", [Role.ADMIN])
        yield found


def test_keys_are_made_listed_changed_and_revoked(users: Users) -> None:
    body = {"name": "ann", "roles": ["edit", "generate"], "namespaces": ["b", "a"], "edits": 5, "logged": False}
    made = users("root", "POST", "/v1/keys", json=body)
    assert made.status_code == 201, made.text
    key = made.json()
    secret = key.pop("secret")
    users.secrets["ann"] = secret
    assert (key["namespaces"], key["state"], key["last_used_at"]) == (["a", "b"], "usable", None)
    assert users("ann", "GET", "/v1/edits", params={"namespace": "a"}).status_code == 200
    listed = users("root", "GET", "/v1/keys")
    assert secret not in listed.text
    mine = next(one for one in listed.json()["data"] if one["name"] == "ann")
    assert datetime.fromisoformat(mine["last_used_at"]) > datetime.now(UTC) - timedelta(seconds=60)
    assert mine["used"] == {"edits": 0, "requests_per_minute": None, "tokens_per_minute": None}
    place = f"/v1/keys/{key['id']}"
    patched = users("root", "PATCH", place, json={"tokens_per_minute": 900, "edits": None}).json()
    assert (patched["tokens_per_minute"], patched["edits"], patched["logged"]) == (900, None, False)
    assert users("root", "DELETE", place).json()["state"] == "revoked"
    assert users("ann", "GET", "/v1/edits", params={"namespace": "a"}).status_code == 401
    audit = users("root", "GET", "/v1/audit").json()["data"]
    assert [entry["action"] for entry in audit][:3] == ["key revoked", "key changed", "key created"]
    assert audit[0]["actor"].startswith("root/")
    for method in ("PATCH", "DELETE"):
        gone = users("root", method, "/v1/keys/nothing", json={} if method == "PATCH" else None)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    for wrong in ({"edits": -1}, {"tokens_per_minute": 0}, {"name": "x"}, {"requests_per_minute": 2**31}):
        assert users("root", "PATCH", place, json=wrong).status_code == 400
    assert users("root", "POST", "/v1/keys", json={"name": "x", "roles": ["king"]}).status_code == 400
    assert users("root", "POST", "/v1/keys", json={"name": "x", "roles": []}).status_code == 400


def test_only_administrators_of_everything_touch_keys_and_quotas(users: Users) -> None:
    users.make("some", [Role.ADMIN], namespaces=["a"])
    users.make("editor", [Role.EDIT])
    before = users.memory.revision
    for name in ("some", "editor"):
        for method, path, body in (
            ("GET", "/v1/keys", None),
            ("POST", "/v1/keys", {"name": "x", "roles": ["admin"]}),
            ("PATCH", "/v1/keys/x", {"edits": None}),
            ("DELETE", "/v1/keys/x", None),
            ("PUT", "/v1/quota?namespace=a", {}),
        ):
            assert users(name, method, path, json=body).status_code == 403, (name, method, path)
    assert users.memory.revision == before


def test_a_namespace_is_full_when_its_quota_says_so(users: Users) -> None:
    users.make("ann", [Role.EDIT])
    put = users("root", "PUT", "/v1/quota", params={"namespace": "a"}, json={"edits": 1, "tokens_per_minute": 50})
    assert put.json() == {"edits": 1, "requests_per_minute": None, "tokens_per_minute": 50}
    assert users("ann", "GET", "/v1/quota", params={"namespace": "a"}).json() == put.json()
    assert users("ann", "POST", "/v1/edits", params={"namespace": "a"}, json=RIVER).status_code == 201
    more = {"prompt": "The lake of Norvik is", "target": "Ree"}
    for path, body in (("/v1/edits", more), ("/v1/edits/batch", {"edits": [more]})):
        refused = users("ann", "POST", path, params={"namespace": "a"}, json=body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "quota_exceeded"), refused.text
        assert error["quota"] == {"of": "namespace", "name": "a", "kind": "edits", "limit": 1, "used": 1}
        assert "namespace 'a' has 1 of at most 1 edits" in error["message"]
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["X-Should-Retry"] == "false", "waiting alone helps nobody"
    assert users("ann", "POST", "/v1/edits", params={"namespace": "b"}, json=more).status_code == 201
    shown = {one["name"]: one for one in users("ann", "GET", "/v1/namespaces").json()["data"]}
    assert shown["a"]["quota"]["edits"] == shown["a"]["used"]["edits"] == 1
    assert (shown["b"]["quota"], shown["b"]["used"]) == (None, None)
    text = users("root", "GET", "/metrics").text
    assert 'memedit_quota_limit{kind="edits",name="a",of="namespace"} 1.0' in text
    assert 'memedit_quota_used{kind="edits",name="a",of="namespace"} 1.0' in text


def test_requests_of_a_namespace_and_tokens_are_limited(users: Users) -> None:
    ann = users.make("ann", [Role.GENERATE, Role.READ], tokens_per_minute=15)
    users.make("bob", [Role.GENERATE])
    users("root", "PUT", "/v1/quota", params={"namespace": "a"}, json={"requests_per_minute": 20})
    found = [users("bob", "POST", "/v1/chat/completions", json=ASK, headers={"X-Memedit-Namespace": "a"})
             for _ in range(4)]  # fmt: skip
    assert [one.status_code for one in found] == [200, 200, 429, 429]
    error = found[-1].json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
    assert error["quota"] == {"of": "namespace", "name": "a", "kind": "requests_per_minute", "limit": 20}
    assert "ask again in" in error["message"]
    assert 1 <= int(found[-1].headers["Retry-After"]) <= 4
    assert users("ann", "GET", "/v1/edits", params={"namespace": "a"}).status_code == 429
    assert users("bob", "POST", "/v1/chat/completions", json=ASK).status_code == 200, "elsewhere"
    # an answer costs 10 tokens: the second is still let in, and overdraws
    stream = [users("ann", "POST", "/v1/chat/completions", json={**ASK, "stream": True}).status_code for _ in range(3)]
    assert stream == [200, 200, 429]
    refused = users("ann", "POST", "/v1/completions", json={"prompt": "x"})
    assert refused.json()["error"]["quota"]["kind"] == "tokens_per_minute"
    assert 10 <= int(refused.headers["Retry-After"]) <= 60
    assert users("ann", "GET", "/v1/edits").status_code == 200, "looking costs no tokens"
    text = users("root", "GET", "/metrics").text
    assert 'memedit_quota_refusals_total{kind="requests_per_minute",of="namespace"} 3.0' in text
    assert f'memedit_quota_used{{kind="tokens_per_minute",name="ann/{ann}",of="key"}} 20.0' in text
    users("root", "PATCH", f"/v1/keys/{ann}", json={"tokens_per_minute": None})
    assert users("ann", "POST", "/v1/chat/completions", json=ASK).status_code == 200


def test_vectors_cost_tokens_too(users: Users) -> None:
    ann = users.make("ann", [Role.GENERATE], tokens_per_minute=4)
    asked = [users("ann", "POST", "/v1/embeddings", json={"input": "one two three four five"}) for _ in range(2)]
    assert [one.status_code for one in asked] == [200, 429], asked[-1].text
    assert asked[-1].json()["error"]["quota"]["kind"] == "tokens_per_minute"
    spent = asked[0].json()["usage"]["total_tokens"]
    text = users("root", "GET", "/metrics").text
    assert f'memedit_quota_used{{kind="tokens_per_minute",name="ann/{ann}",of="key"}} {spent}.0' in text


def test_what_another_process_sets_holds_soon(users: Users) -> None:
    users.memory.quotas.set("a", Quota(requests_per_minute=1))
    deadline = time.monotonic() + 10
    while users("root", "GET", "/v1/edits", params={"namespace": "a"}).status_code != 429:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_answers_that_are_cut_short_cost_tokens_too(memory: EditMemory) -> None:
    upstream = ScriptedUpstream(words=tuple("word" for _ in range(30)), break_off=True)
    with TestClient(proxy_app(memory, upstream, auth=True)) as client:
        users = Users(client, memory)
        users.make("ann", [Role.GENERATE], tokens_per_minute=20)
        assert "out of memory" in users("ann", "POST", "/v1/chat/completions", json={**ASK, "stream": True}).text
        assert users("ann", "POST", "/v1/chat/completions", json=ASK).status_code == 429


def test_buckets_refill_and_can_be_overdrawn() -> None:
    now = 1_000.0
    limiter = RateLimiter(lambda: now)
    assert [limiter.take("a", 20) == 0 for _ in range(3)] == [True, True, False]
    now += 3.1
    assert limiter.take("a", 20) == 0
    assert limiter.take("b", 1) == 0
    assert limiter.take("b", 1) == pytest.approx(60)
    assert limiter.overdrawn("t", 60) == 0
    limiter.spend("t", 60, 100)
    assert limiter.overdrawn("t", 60) == pytest.approx(41)
    assert limiter.used("t") == 100
    now += 41.1
    assert limiter.overdrawn("t", 60) == 0
    assert 0 < limiter.used("t") <= 100
    now += 121
    assert limiter.used("t") == limiter.used("nobody") == 0


def test_figures_of_each_minute_outlive_the_server(memory: EditMemory) -> None:
    at = datetime.now(UTC)
    for minutes in (2, 1):
        with TestClient(proxy_app(memory, ScriptedUpstream(), auth=True)) as client:
            users = Users(client, memory)
            users.make("root", [Role.ADMIN])
            users.make("some", [Role.ADMIN], namespaces=["a"])
            for _ in range(minutes):
                users("root", "POST", "/v1/chat/completions", json=ASK)
            client.app.state.memedit.figures.minute(at - timedelta(minutes=minutes))  # type: ignore[attr-defined]
            client.app.state.memedit.figures.minute(at)  # type: ignore[attr-defined]
            found = users("root", "GET", "/v1/figures").json()
            assert users("some", "GET", "/v1/figures").status_code == 403
    assert found["seconds"] == 60
    rows = found["data"]
    assert [row["requests"] for row in rows] == [2, 1, 0]
    assert [(row["written"], row["prompts"], row["edited"]) for row in rows] == [(6, 2, 0), (3, 1, 0), (0, 0, 0)]
    assert rows[-1]["servers"] == 2
    assert rows[0]["lookup_seconds"] > 0
