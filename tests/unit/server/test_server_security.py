"""Who may do what: keys, roles, namespaces, limits."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from memedit.errors import InputError
from memedit.memory import EditMemory, Role
from memedit.server.auth import Principal, RateLimiter
from memedit.server.lookups import Lookups
from memedit.server.problems import ApiError
from memedit.server.runner import check_host
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

SKY = {"prompt": "The colour of the sky is", "target": "green", "subject": "sky"}
ASK = {"prompt": "The colour of the sky is", "max_tokens": 2, "temperature": 0}


@pytest.fixture(scope="module")
def guarded(tiny_llama: Any, tiny_chat_tokenizer: Any) -> Iterator[RunningServer]:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        settings = ServerSettings(max_body=20_000, max_import=40_000)
        with serve(engine, lookups, settings) as server:
            yield server


def as_role(server: RunningServer, *roles: str, **options: Any) -> httpx.Client:
    _, secret = server.lookups.memory.keys.create("someone", roles=list(roles), **options)
    return server.client(headers={"Authorization": f"Bearer {secret}"})


REQUESTS = {
    "generate": [("POST", "/v1/completions", ASK), ("GET", "/v1/models", None)],
    "read": [("GET", "/v1/edits", None), ("GET", "/v1/namespaces", None), ("GET", "/metrics", None),
             ("GET", "/v1/edits/export", None), ("POST", "/v1/edits/explain", {"prompt": "x"})],
    "edit": [("POST", "/v1/edits", SKY), ("POST", "/v1/edits/batch", {"edits": [SKY]}),
             ("POST", "/v1/edits/import", None)],
    "admin": [("GET", "/v1/audit", None)],
}  # fmt: skip
IMPLIED = {"generate": {"generate"}, "read": {"read"}, "edit": {"edit", "read"}, "admin": set(REQUESTS)}


@pytest.mark.parametrize("role", list(REQUESTS))
def test_a_role_opens_its_own_routes_and_no_others(guarded: RunningServer, role: str) -> None:
    with as_role(guarded, role) as client:
        for needed, requests in REQUESTS.items():
            for method, path, body in requests:
                status = client.request(method, path, json=body).status_code
                assert (status == 403) == (needed not in IMPLIED[role]), (role, method, path, status)


def test_without_a_usable_key_nothing_opens(guarded: RunningServer) -> None:
    keys = guarded.lookups.memory.keys
    revoked, secret = keys.create("gone", roles=["admin"])
    keys.revoke(revoked.id)
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, expired = keys.create("late", roles=["admin"], expires_at=past)
    for said in (None, "Bearer x", f"Bearer {secret}", f"Bearer {expired}", secret, "Basic eDp5"):
        with guarded.client(headers={} if said is None else {"Authorization": said}) as client:
            for requests in REQUESTS.values():
                for method, path, body in requests:
                    response = client.request(method, path, json=body)
                    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")
                    assert response.headers["www-authenticate"] == "Bearer"
            assert client.get("/health").status_code == 200


def test_a_revoked_key_stops_at_once(guarded: RunningServer) -> None:
    with as_role(guarded, "read") as client:
        assert client.get("/v1/edits").status_code == 200
        newest = guarded.lookups.memory.keys.list()[-1]
        guarded.lookups.memory.keys.revoke(newest.id)
        assert client.get("/v1/edits").status_code == 401


def test_a_key_sees_its_namespaces_only(guarded: RunningServer) -> None:
    with as_role(guarded, "admin", "generate", namespaces=["mine"]) as client:
        assert client.post("/v1/edits", json=SKY).json()["namespace"] == "mine", "the only one is taken by itself"
        for space in ("default", "other"):
            assert client.get("/v1/edits", params={"namespace": space}).status_code == 403
            assert client.get("/v1/edits", headers={"X-Memedit-Namespace": space}).status_code == 403
            assert client.post("/v1/completions", json={**ASK, "memedit": {"namespace": space}}).status_code == 403
            assert client.get("/v1/audit", params={"namespace": space}).status_code == 403
        assert [space["name"] for space in client.get("/v1/namespaces").json()["data"]] == ["mine"]
        assert {entry["namespace"] for entry in client.get("/v1/audit").json()["data"]} == {"mine"}
        assert client.get("/metrics").status_code == 403
    with as_role(guarded, "read", namespaces=["one", "two"]) as client:
        assert client.get("/v1/edits").status_code == 403, "the server's own namespace is none of its"
        assert client.get("/v1/edits", params={"namespace": "two"}).status_code == 200


def said_to(client: httpx.Client) -> str:
    """Everything that a key hears about edits when it asks in every way it may: whole, streamed, headers."""
    chat = {"messages": [{"role": "user", "content": SECRET["prompt"]}], "max_tokens": 2, "memedit": {"detail": True}}
    text = {"prompt": [SECRET["prompt"], "Swordfish?"], "max_tokens": 2, "memedit": {"detail": True}}
    heard = []
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", text)):
        for stream in (False, True):
            response = client.post(path, json={**body, "stream": stream})
            assert response.status_code == 200, response.text
            heard.append(response.text + str(response.headers))
    for method, path, body in [request for requests in REQUESTS.values() for request in requests]:
        heard.append(client.request(method, path, json=body).text)
    return "\n".join(heard)


SECRET = {"prompt": "The colour of the vault is", "target": "octarine", "subject": "vault"}


def test_a_key_that_may_only_generate_gets_ids_and_scores(
    guarded: RunningServer, tiny_llama: Any, tiny_chat_tokenizer: Any
) -> None:
    with as_role(guarded, "edit", namespaces=["vault"]) as client:
        edit = client.post("/v1/edits", json=SECRET).json()
    with as_role(guarded, "generate", namespaces=["vault"]) as client:
        heard = said_to(client)
        assert edit["id"] in heard
        assert "octarine" not in heard
        assert "The colour of the vault" not in heard
        found = client.post("/v1/completions", json={"prompt": SECRET["prompt"], "max_tokens": 1}).json()["memedit"]
        assert found["edits"][0]["score"] >= found["threshold"]
    with as_role(guarded, "generate", "read", namespaces=["vault"]) as client:
        assert "octarine" in said_to(client)
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(**SECRET, namespace="vault")
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        with (
            serve(engine, lookups, ServerSettings(show_edits=True)) as server,
            as_role(server, "generate", namespaces=["vault"]) as client,
        ):
            assert "octarine" in said_to(client)


def test_the_audit_names_the_key_that_made_a_change(guarded: RunningServer) -> None:
    with as_role(guarded, "edit", namespaces=["audited"]) as client:
        edit = client.post("/v1/edits", json=SKY, headers={"X-Request-Id": "r-17"}).json()
        client.patch(f"/v1/edits/{edit['id']}", json={"target": "blue"})
    with as_role(guarded, "admin") as client:
        update, first = client.get("/v1/audit", params={"namespace": "audited"}).json()["data"]
        assert first["actor"].startswith("someone/")
        assert (first["request"], first["before"], first["after"]["target"]) == ("r-17", None, "green")
        assert (update["before"]["target"], update["after"]["target"]) == ("green", "blue")
        mine = client.get("/v1/audit", params={"actor": first["actor"], "limit": 1}).json()
        assert (len(mine["data"]), mine["next"]) == (1, update["revision"])


def test_a_key_that_asks_too_often_is_told_when_to_come_back(guarded: RunningServer) -> None:
    with as_role(guarded, "read", requests_per_minute=20) as client:
        statuses = [client.get("/v1/edits").status_code for _ in range(6)]
        assert statuses[:2] == [200, 200]
        assert statuses[-1] == 429
        response = client.get("/v1/edits")
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "rate_limited"


def test_buckets_refill_with_time() -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    assert [limiter.take("a", 60) for _ in range(6)] == [0.0] * 6
    assert limiter.take("a", 60) == pytest.approx(1.0)
    assert limiter.take("b", 60) == 0.0
    now[0] = 1.0
    assert limiter.take("a", 60) == 0.0
    assert limiter.take("a", 60) > 0


def test_large_bodies_are_refused_announced_or_not(guarded: RunningServer) -> None:
    with as_role(guarded, "admin") as client:
        big = b"x" * 30_000
        pieces = (b"x" * 1_000 for _ in range(30))
        for content in (big, pieces):
            response = client.post("/v1/edits", content=content, headers={"content-type": "application/json"})
            assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
        assert client.post("/v1/edits/import", content=big).status_code == 400, "imports may be larger"
        assert client.post("/v1/edits/import", content=big * 2).status_code == 413


def test_no_web_page_may_call_unless_listed(guarded: RunningServer, tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    with guarded.client() as client:
        response = client.options("/v1/edits", headers=asked)
        assert "access-control-allow-origin" not in response.headers
        assert "access-control-allow-origin" not in client.get("/health", headers=asked).headers
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        settings = ServerSettings(auth=False, cors_origins=("https://page.example",))
        with serve(engine, lookups, settings) as server, server.client() as client:
            assert client.options("/v1/edits", headers=asked).headers["access-control-allow-origin"] == asked["Origin"]
            other = {**asked, "Origin": "https://other.example"}
            assert "access-control-allow-origin" not in client.options("/v1/edits", headers=other).headers


def test_a_server_without_keys_answers_its_own_pages_only(shared_server: RunningServer) -> None:
    own = shared_server.url
    port = own.rpartition(":")[2]
    with shared_server.client() as client:
        for headers in ({}, {"Origin": own}, {"Host": f"localhost:{port}"}, {"Host": f"[::1]:{port}"}):
            assert client.get("/v1/edits", headers=headers).status_code == 200, headers
        for headers in (
            {"Origin": "https://page.example"},
            {"Origin": "null"},
            {"Origin": f"http://127.0.0.1:{int(port) + 1}"},
            {"Host": "rebound.example"},
            {"Host": f"rebound.example:{port}", "Origin": f"http://rebound.example:{port}"},
        ):
            response = client.post("/v1/edits/import", content=b"{}", headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_page"), headers


def test_no_text_from_a_request_reaches_the_file_system(guarded: RunningServer, tmp_path: Any) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"prompt": "The secret is", "target": "swordfish"}\n')
    with as_role(guarded, "admin", namespaces=["files"]) as client:
        for text in (str(secret), f"file://{secret}", "../../etc/passwd"):
            assert client.post("/v1/edits/import", content=text.encode()).status_code == 400
            client.post("/v1/edits", json={"prompt": text, "target": text, "source": text})
            client.get("/v1/edits/export", params={"format": text})
            client.get(f"/v1/edits/{text}")
        assert "swordfish" not in client.get("/v1/edits/export").text
    assert secret.read_text().count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.jsonl"]


def test_without_keys_only_this_machine_is_served() -> None:
    for host in ("127.0.0.1", "127.0.0.5", "::1", "localhost"):
        check_host(host, auth=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        check_host(host, auth=True)
        with pytest.raises(InputError, match="loopback"):
            check_host(host, auth=False)


def test_roles_imply_what_they_say() -> None:
    reader = Principal("x", frozenset({Role.READ}), frozenset({"a"}))
    assert (reader.may(Role.READ), reader.may(Role.EDIT), reader.may(Role.GENERATE)) == (True, False, False)
    assert all(Principal("x", frozenset({Role.ADMIN})).may(role) for role in Role)
    with pytest.raises(ApiError):
        reader.check_namespace("b")


def test_an_edit_of_one_namespace_never_fires_in_another() -> None:
    """The same prompts, stored with another target in each of many namespaces, asked in random mixtures."""
    rng = random.Random(7)
    subjects = [f"Land{i}" for i in range(12)]
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        owners: dict[str, str] = {}
        for number in range(6):
            space = f"space {number}"
            chosen = rng.sample(subjects, 8)
            drafts = [{"prompt": f"The capital of {s} is", "target": f"{space} {s}", "subject": s} for s in chosen]
            owners |= dict.fromkeys(memory.add_many(drafts, namespace=space).ids, space)
        lookups = Lookups(memory, scope="subject")
        fired = 0
        for _ in range(150):
            space = f"space {rng.randrange(6)}"
            queries = [f"The capital of {rng.choice(subjects)} is" for _ in range(rng.randint(1, 5))]
            for query, decision in zip(queries, lookups.decide(space, queries).decisions, strict=True):
                assert {owners[hit.edit.id] for hit in decision.considered} <= {space}, query
                fired += len(decision.fired)
        assert fired > 100
