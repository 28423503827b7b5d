"""The edit API over HTTP."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from memedit.memory.stamps import RESERVED
from support.edit_requests import SKY, TOWER, add
from support.running_server import RunningServer


def test_an_edit_is_stored_read_changed_withdrawn_and_restored(client: httpx.Client, namespace: str) -> None:
    edit = add(client, {**SKY, "metadata": {"ticket": 7}, "kind": "correction", "paraphrases": ["The sky's colour:"]})
    assert (edit["namespace"], edit["version"], edit["state"], edit["kind"]) == (namespace, 1, "active", "correction")
    place = f"/v1/edits/{edit['id']}"
    response = client.get(place)
    assert (response.json(), response.headers["etag"]) == (edit, '"1"')
    assert client.get(place, headers={"If-None-Match": '"1"'}).status_code == 304
    changed = client.patch(place, json={"target": "blue", "metadata": {}})
    assert (changed.json()["target"], changed.json()["metadata"], changed.headers["etag"]) == ("blue", {}, '"2"')
    assert client.delete(place).json()["state"] == "retired"
    assert client.get("/v1/edits").json()["data"] == []
    assert client.post(f"{place}/restore").json()["state"] == "active"
    new = client.post(f"{place}/supersede", json={"target": "red"})
    assert (new.status_code, new.json()["target"], new.json()["id"] != edit["id"]) == (201, "red", True)
    actions = [change["action"] for change in client.get(f"{place}/history").json()["data"]]
    assert actions == ["add", "update", "delete", "restore", "superseded"]


def test_the_same_edit_again_is_the_first(client: httpx.Client) -> None:
    assert add(client)["id"] == add(client, status=200)["id"]


def test_contradictions_are_refused_unless_told_otherwise(client: httpx.Client) -> None:
    first = add(client)
    refused = add(client, {**SKY, "target": "blue"}, status=409)["error"]
    assert (refused["code"], refused["existing_id"]) == ("edit_conflict", first["id"])
    second = add(client, {**SKY, "target": "blue"}, on_conflict="supersede")
    assert [edit["id"] for edit in client.get("/v1/edits").json()["data"]] == [second["id"]]
    assert client.get(f"/v1/edits/{first['id']}").json()["state"] == "retired"


def test_a_batch_is_stored_whole_or_not_at_all(client: httpx.Client) -> None:
    response = client.post("/v1/edits/batch", json={"edits": [SKY, TOWER, SKY]})
    report = response.json()
    assert (len(report["ids"]), len(report["added"]), report["duplicates"]) == (3, 2, [report["ids"][0]])
    bad = client.post("/v1/edits/batch", json={"edits": [{**TOWER, "prompt": "x y z"}, {**SKY, "target": "blue"}]})
    assert bad.status_code == 409
    assert len(client.get("/v1/edits").json()["data"]) == 2


def test_pages_follow_one_another_and_filters_hold(client: httpx.Client) -> None:
    edits = [{"prompt": f"The size of thing {i} is", "target": "x", "metadata": {"odd": i % 2 == 1}} for i in range(7)]
    ids = client.post("/v1/edits/batch", json={"edits": edits}).json()["ids"]
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = client.get("/v1/edits", params=params).json()
        seen += [edit["id"] for edit in page["data"]]
        assert page["has_more"] == (page["next"] is not None)
        if not page["has_more"]:
            break
        params["after"] = page["next"]
    assert seen == ids
    assert client.get("/v1/edits", params={"limit": 3, "count": True}).json()["total"] == 7
    assert client.get("/v1/edits", params={"limit": 3}).json()["total"] is None
    filtered = {"limit": 1, "count": True, "metadata": json.dumps({"odd": True})}
    assert client.get("/v1/edits", params=filtered).json()["total"] == 3
    odd = client.get("/v1/edits", params={"metadata": json.dumps({"odd": True})}).json()["data"]
    assert [edit["id"] for edit in odd] == ids[1::2]
    client.delete(f"/v1/edits/{ids[0]}")
    assert [e["id"] for e in client.get("/v1/edits", params={"state": "retired"}).json()["data"]] == ids[:1]
    assert len(client.get("/v1/edits", params={"state": "all"}).json()["data"]) == 7
    for params in ({"state": "gone"}, {"limit": 0}, {"metadata": "[]"}, {"metadata": "{"}, {"metadata": '{"a": []}'}):
        assert client.get("/v1/edits", params=params).status_code == 400, params
    assert client.get("/v1/edits", params={"after": "nothing"}).status_code == 404


def test_search_by_words_and_by_meaning(client: httpx.Client) -> None:
    client.post("/v1/edits/batch", json={"edits": [SKY, TOWER]})
    for mode in ("text", "semantic"):
        found = client.get("/v1/edits/search", params={"q": "tower stands", "mode": mode, "limit": 1}).json()["data"]
        assert [hit["edit"]["target"] for hit in found] == ["Rome"]
        assert found[0]["score"] > 0


def test_the_past_can_be_asked_for(client: httpx.Client) -> None:
    edit = add(client)
    then = datetime.now(UTC).isoformat()
    client.patch(f"/v1/edits/{edit['id']}", json={"target": "blue"})
    add(client, TOWER)
    page = client.get("/v1/edits/as-of", params={"at": then}).json()
    assert [e["target"] for e in page["data"]] == ["green"]
    now = client.get("/v1/edits/as-of", params={"at": datetime.now(UTC).isoformat(), "limit": 1}).json()
    assert (len(now["data"]), now["has_more"], now["next"]) == (1, True, "1")
    assert client.get("/v1/edits/as-of", params={"at": "2026-01-01T00:00:00"}).status_code == 200, "UTC"


def test_explain_says_which_edits_fire_and_why(client: httpx.Client, namespace: str) -> None:
    edit = add(client)
    found = client.post("/v1/edits/explain", json={"prompt": "The colour of the sky is"}).json()
    assert [hit["id"] for hit in found["fired"]] == [edit["id"]]
    assert (found["namespace"], found["query"]) == (namespace, "The colour of the sky is")
    assert found["fired"][0]["score"] >= found["threshold"]
    chat = [{"role": "user", "content": "x"}, {"role": "user", "content": "The colour of the sky is"}]
    assert client.post("/v1/edits/explain", json={"messages": chat}).json()["fired"] == found["fired"]
    none = client.post("/v1/edits/explain", json={"prompt": "Boil water"}).json()
    assert none["fired"] == []
    strict = client.post("/v1/edits/explain", json={"prompt": "sky sky", "threshold": 1.0}).json()
    assert (strict["fired"], strict["threshold"]) == ([], 1.0)
    for body in ({}, {"prompt": "x", "messages": chat}, {"messages": [{"role": "user"}]}):
        assert client.post("/v1/edits/explain", json=body).status_code == 400


def test_edits_go_out_as_a_file_and_come_in_again(client: httpx.Client, shared_server: RunningServer) -> None:
    client.post("/v1/edits/batch", json={"edits": [SKY, TOWER]})
    response = client.get("/v1/edits/export")
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert len(response.text.splitlines()) == int(response.headers["x-memedit-count"]) == 2
    with shared_server.client(params={"namespace": "copy-of-files"}) as other:
        report = other.post("/v1/edits/import", content=response.content).json()
        assert len(report["added"]) == 2
        again = other.post("/v1/edits/import", content=response.content).json()
        assert (again["added"], len(again["duplicates"])) == ([], 2)
        assert {e["target"] for e in other.get("/v1/edits").json()["data"]} == {"green", "Rome"}
    for form in ("counterfact", "zsre", "knowedit", "mem0"):
        assert len(client.get("/v1/edits/export", params={"format": form}).text.splitlines()) == 2


ODD_IDS = ("../../etc/passwd", "search", "export", "x" * 5_000, "a/b", "", " ", ".hidden", "-x", "as-of", "é", "a b",
           "a%2Fb", "?", "#", "a\r\nb", "x" * 129)  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "mem0"])
def test_whatever_ids_a_file_has_its_edits_can_be_withdrawn(
    client: httpx.Client, shared_server: RunningServer, namespace: str, form: str
) -> None:
    good = [f"{namespace}{form}{rest}" for rest in ("", "-1", ".b_c:d-9", "x" * (128 - len(namespace + form)))]
    good += [f"0{namespace}{form}", f"search{namespace}{form}"]
    rows = [
        {"id": edit_id, "prompt": f"The size of thing {number} is", "target": "x", "metadata": {"n": number}}
        for number, edit_id in enumerate((*ODD_IDS, *good))
    ]
    if form == "mem0":
        rows = [{"id": row["id"], "memory": "m", "metadata": {"memedit": row}} for row in rows]
    lines = "\n".join(map(json.dumps, rows))
    report = client.post("/v1/edits/import", content=lines, params={"format": form}).json()
    assert len(report["added"]) == len(rows), report
    for wanted, edit_id in zip((*ODD_IDS, *good), report["ids"], strict=True):
        place = f"/v1/edits/{edit_id}"
        edit = client.get(place).json()
        assert edit["metadata"].get("source_id") == (wanted if wanted in ODD_IDS and wanted else None)
        assert (edit["id"] == wanted) == (wanted in good)
        assert client.get(f"{place}/history").status_code == 200
        assert client.delete(place).json()["state"] == "retired"
    assert client.get("/v1/edits").json()["data"] == []


def test_no_imported_id_can_be_the_name_of_a_route(shared_server: RunningServer) -> None:
    paths = shared_server.app.openapi()["paths"]
    names = {path.split("/")[3] for path in paths if path.startswith("/v1/edits/") and "{" not in path.split("/")[3]}
    assert names == RESERVED


def test_a_wrong_file_is_refused_and_names_the_line(client: httpx.Client) -> None:
    lines = json.dumps(SKY) + "\n" + json.dumps({"prompt": "x"}) + "\n"
    response = client.post("/v1/edits/import", content=lines)
    error = response.json()["error"]
    assert response.status_code == 400
    assert "line 2" in error["message"]
    assert "/tmp" not in error["message"]
    assert client.get("/v1/edits").json()["data"] == []
    for content in (b"\xff\xff", b"{", b"[1]"):
        assert client.post("/v1/edits/import", content=content).status_code == 400


def test_changes_can_be_bound_to_a_version(client: httpx.Client) -> None:
    place = f"/v1/edits/{add(client)['id']}"
    assert client.patch(place, json={"target": "blue"}, headers={"If-Match": '"1"'}).status_code == 200
    for call in (
        lambda headers: client.patch(place, json={"target": "red"}, headers=headers),
        lambda headers: client.post(f"{place}/supersede", json={"target": "red"}, headers=headers),
        lambda headers: client.delete(place, headers=headers),
        lambda headers: client.post(f"{place}/restore", headers=headers),
    ):
        for tag in ('"1"', '"x"', 'W/"2"', "99999999999"):
            response = call({"If-Match": tag})
            assert (response.status_code, response.json()["error"]["code"]) == (412, "edit_changed")
    assert client.delete(place, headers={"If-Match": "*"}).status_code == 200


def test_a_repeated_request_is_done_once(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/edits", json=SKY, headers=key)
    place = f"/v1/edits/{first.json()['id']}"
    client.delete(place)
    again = client.post("/v1/edits", json=SKY, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(place).json()["state"] == "retired", "it was not added again"
    other = client.post("/v1/edits", json=TOWER, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    restored = {"Idempotency-Key": "k2"}
    assert client.post(f"{place}/restore", headers=restored).status_code == 200
    new = [client.post(f"{place}/supersede", json={"target": "red"}, headers={"Idempotency-Key": "k3"}) for _ in "ab"]
    assert new[0].json() == new[1].json()
    refused = [client.post("/v1/edits", json={**SKY, "target": "x"}, headers={"Idempotency-Key": "k4"}) for _ in "ab"]
    assert [response.status_code for response in refused] == [409, 409], "what was refused may be tried again"
    body = json.dumps(TOWER)
    files = [client.post("/v1/edits/import", content=body, headers={"Idempotency-Key": "k5"}) for _ in "ab"]
    assert files[0].json() == files[1].json()


def test_a_key_is_bound_to_all_that_decides_the_outcome(shared_server: RunningServer, namespace: str) -> None:
    """Namespace (however it is named), precondition, policy, body: another one is another request."""
    with shared_server.client() as client:
        key = {"Idempotency-Key": namespace}

        def create(headers: dict[str, str] | None = None, **params: str) -> httpx.Response:
            return client.post("/v1/edits", json=SKY, headers={**key, **(headers or {})}, params=params)

        first = create({"X-Memedit-Namespace": namespace})
        assert first.status_code == 201
        assert create(namespace=namespace).json() == first.json(), "the same namespace, said otherwise"
        others = [
            create(),
            create({"X-Memedit-Namespace": f"{namespace}-b"}),
            create(namespace=f"{namespace}-b"),
            create(namespace=namespace, on_conflict="keep"),
        ]
        for other in others:
            assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
        place = f"/v1/edits/{first.json()['id']}"
        scope = {"X-Memedit-Namespace": namespace, "Idempotency-Key": f"{namespace}-patch"}
        bound = client.patch(place, json={"target": "blue"}, headers={**scope, "If-Match": '"1"'})
        unbound = client.patch(place, json={"target": "blue"}, headers=scope)
        assert (bound.status_code, unbound.status_code) == (200, 409)
        body = json.dumps(TOWER)
        files = [
            client.post("/v1/edits/import", content=body, headers={**scope, "Idempotency-Key": "f", **more})
            for more in ({}, {"X-Memedit-Namespace": f"{namespace}-b"})
        ]
        assert [response.status_code for response in files] == [200, 409]
        assert client.get("/v1/edits", params={"namespace": f"{namespace}-b"}).json()["data"] == []


def test_a_change_whose_answer_was_lost_is_answered_from_the_log(
    client: httpx.Client, shared_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = add(client)
    place, key = f"/v1/edits/{edit['id']}", {"Idempotency-Key": "lost"}
    from memedit.memory import AnsweredRequests

    with monkeypatch.context() as patch:
        patch.setattr(AnsweredRequests, "answered", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with contextlib.suppress(httpx.HTTPError):
            client.post(f"{place}/supersede", json={"target": "red"}, headers=key)
    again = client.post(f"{place}/supersede", json={"target": "red"}, headers=key)
    assert (again.status_code, again.json()["target"]) == (201, "red")
    live = client.get("/v1/edits").json()["data"]
    assert [e["id"] for e in live] == [again.json()["id"]], "it was superseded once"


def test_every_answer_carries_the_revision_and_waits_for_one_asked_for(
    client: httpx.Client, shared_server: RunningServer
) -> None:
    before = int(client.get("/v1/edits").headers["x-memedit-revision"])
    response = client.post("/v1/edits", json=SKY)
    revision = int(response.headers["x-memedit-revision"])
    assert revision > before
    ahead = {"X-Memedit-Min-Revision": str(revision)}
    assert client.get("/v1/edits", headers=ahead).status_code == 200
    body = {"prompt": "x", "max_tokens": 1}
    assert client.post("/v1/completions", json=body, headers=ahead).status_code == 200
    for wrong in ("x", "-1"):
        assert client.get("/v1/edits", headers={"X-Memedit-Min-Revision": wrong}).status_code == 400


@pytest.mark.parametrize(
    "edit",
    [
        {"prompt": "x"},
        {"prompt": "", "target": "x"},
        {"prompt": " ", "target": "x"},
        {"prompt": "x\0", "target": "x"},
        {"prompt": "x", "target": "x" * 70_000},
        {"prompt": "x", "target": "x", "colour": "red"},
        {"prompt": "x", "target": "x", "kind": "guess"},
        {"prompt": "x", "target": "x", "valid_at": "soon"},
        {"prompt": "x", "target": "x", "valid_at": "2026-01-02T00:00:00Z", "invalid_at": "2026-01-01T00:00:00Z"},
        {"prompt": "x", "target": "x", "metadata": [1]},
    ],
)
def test_what_cannot_be_stored_is_refused(client: httpx.Client, edit: Any) -> None:
    error = add(client, edit, status=400)["error"]
    assert error["param"]


def test_a_time_without_a_zone_is_utc(client: httpx.Client) -> None:
    edit = add(client, {**SKY, "valid_at": "2026-01-01", "invalid_at": "2026-02-01T01:00:00+01:00"})
    assert (edit["valid_at"], edit["invalid_at"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert client.patch(f"/v1/edits/{edit['id']}", json={"valid_at": "2026-01-02T00:00"}).status_code == 200
    assert client.get("/v1/edits/as-of", params={"at": "2036-01-01T00:00:00"}).json()["data"]


def test_deeply_nested_json_is_a_bad_request(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    for path in ("/v1/edits", "/v1/chat/completions", "/v1/edits/explain"):
        assert client.post(path, content=b"[" * 100_000, headers=headers).status_code == 400
    assert client.post("/v1/edits/import", content=b"[" * 100_000).status_code == 400


def test_old_requests_are_forgotten(client: httpx.Client, shared_server: RunningServer) -> None:
    client.post("/v1/edits", json=SKY, headers={"Idempotency-Key": "old"})
    requests = shared_server.lookups.memory.requests
    assert requests.find("anonymous", "old") is not None
    requests.forget(datetime.now(UTC))
    assert requests.find("anonymous", "old") is None


def test_what_is_not_there_is_not_found(client: httpx.Client) -> None:
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/supersede"), ("POST", "/restore"), ("GET", "/history"),
    ):  # fmt: skip
        body = {"target": "x"} if method == "PATCH" or path == "/supersede" else None
        response = client.request(method, f"/v1/edits/nothing{path}", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "edit_not_found"), (method, path)
    assert client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert client.put("/v1/edits").status_code == 405


def test_many_edits_are_withdrawn_together_or_not_at_all(client: httpx.Client) -> None:
    ids = [client.post("/v1/edits", json={"prompt": f"Thing {i} is", "target": "x"}).json()["id"] for i in range(3)]
    missing = client.post("/v1/edits/withdraw", json={"ids": [*ids, "nothing"]})
    assert missing.status_code == 404
    assert len(client.get("/v1/edits").json()["data"]) == 3
    client.delete(f"/v1/edits/{ids[0]}")
    key = {"Idempotency-Key": "once"}
    found = client.post("/v1/edits/withdraw", json={"ids": ids[:2]}, headers=key).json()
    assert ([edit["id"] for edit in found["data"]], found["already"]) == (ids[:2], ids[:1])
    assert {edit["state"] for edit in found["data"]} == {"retired"}
    again = client.post("/v1/edits/withdraw", json={"ids": ids[:2]}, headers=key)
    assert again.json() == found
    assert [edit["id"] for edit in client.get("/v1/edits").json()["data"]] == ids[2:]
    assert client.post("/v1/edits/withdraw", json={"ids": []}).status_code == 400


@pytest.mark.parametrize("order", ["added", "changed", "prompt", "target", "subject"])
def test_edits_are_listed_in_any_order_page_by_page(client: httpx.Client, order: str) -> None:
    texts = [("b thing is", "Z", "b"), ("A thing is", "y", None), ("c thing is", "y", "A"), ("B thing was", "x", "b")]
    made = [
        client.post("/v1/edits", json={"prompt": p, "target": t, "subject": s}, params={"on_conflict": "keep"}).json()
        for p, t, s in texts
    ]
    client.patch(f"/v1/edits/{made[1]['id']}", json={"source": "later"})
    now = [client.get(f"/v1/edits/{edit['id']}").json() for edit in made]
    by = {
        "added": lambda e: made.index(next(m for m in made if m["id"] == e["id"])),
        "changed": lambda e: e["created_at"],
        "subject": lambda e: ((e["subject"] or "").lower(), made.index(next(m for m in made if m["id"] == e["id"]))),
    }.get(order, lambda e: (e[order].lower(), [m["id"] for m in made].index(e["id"])))
    expected = [edit["id"] for edit in sorted(now, key=by)]
    for wanted, name in ((expected, order), (expected[::-1], f"-{order}")):
        found, after = [], None
        while True:
            page = client.get(
                "/v1/edits", params={"order": name, "limit": 3} | ({"after": after} if after else {})
            ).json()
            found += [edit["id"] for edit in page["data"]]
            after = page["next"]
            if not page["has_more"]:
                break
        assert found == wanted
    assert client.get("/v1/edits", params={"order": "colour"}).status_code == 400


def test_an_import_is_rehearsed(client: httpx.Client) -> None:
    old = client.post("/v1/edits", json={"prompt": "Who leads Norvik?", "target": "Ole"}).json()
    rows = [{"prompt": "Who leads Norvik?", "target": "Eva"}, {"prompt": "Who leads Norvik?", "target": "Ole"},
            {"prompt": "", "target": "x"}, {"prompt": "The river of Norvik is", "target": "Lind"}]  # fmt: skip
    body = "\n".join(map(json.dumps, rows))
    revision = client.get("/v1/edits").headers["X-Memedit-Revision"]
    found = client.post("/v1/edits/import", content=body, params={"dry_run": True}).json()
    assert found["dry_run"] is True
    assert (len(found["ids"]), len(found["added"]), found["duplicates"]) == (3, 2, [old["id"]])
    (replacement,) = found["replacements"]
    assert (replacement["old_id"], replacement["old_target"], replacement["new_target"]) == (old["id"], "Ole", "Eva")
    assert replacement["retired"] is False
    assert [(row["line"], row["field"]) for row in found["refused"]] == [(3, "prompt")]
    rehearsed = client.post("/v1/edits/import", content=body, params={"dry_run": True, "on_conflict": "supersede"})
    assert rehearsed.json()["replacements"][0]["retired"] is True
    assert client.get("/v1/edits").headers["X-Memedit-Revision"] == revision
    assert client.post("/v1/edits/import", content=body).status_code == 400
    done = client.post("/v1/edits/import", content=body, params={"skip_invalid": True, "on_conflict": "supersede"})
    assert (len(done.json()["refused"]), done.json()["dry_run"]) == (1, False)
    assert client.get(f"/v1/edits/{old['id']}").json()["state"] == "retired"


def test_tables_are_imported_by_their_type(client: httpx.Client) -> None:
    table = "Question,Answer\nWho leads Sudvik?,Ida\n"
    found = client.post("/v1/edits/import", content=table, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert found.status_code == 200, found.text
    assert client.get("/v1/edits").json()["data"][0]["target"] == "Ida"
