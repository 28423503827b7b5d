"""Possible conflicts and teaching by hand over HTTP."""

from typing import Any

import httpx

from support.edit_requests import SKY, TOWER, add

NOON = {"prompt": "At noon, what is the colour of sky in Norvik", "target": "white", "subject": "sky"}


def test_a_doubtful_pair_is_reported_listed_and_settled(client: httpx.Client) -> None:
    assert client.get("/v1/edits/conflicts").json() == {"object": "list", "data": []}
    report = client.post("/v1/edits/batch", json={"edits": [SKY, TOWER, NOON]}).json()
    sky, tower, noon = report["ids"]
    (doubt,) = report["doubtful"]
    assert (doubt["new_id"], doubt["existing_id"], report["conflicts"]) == (noon, sky, [])
    assert (doubt["new_target"], doubt["existing_target"]) == ("white", "green")
    (pair,) = client.get("/v1/edits/conflicts").json()["data"]
    assert (pair["newer"]["id"], pair["older"]["id"], pair["score"]) == (noon, sky, doubt["score"])
    assert client.get("/v1/edits/conflicts", params={"edit": tower}).json()["data"] == []
    assert client.get("/v1/edits/conflicts", params={"edit": sky}).json()["data"] == [pair]
    unknown = client.post("/v1/edits/conflicts/settle", json={"edits": [sky, "nobody"], "same": True})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "edit_not_found")
    wrong = client.post("/v1/edits/conflicts/settle", json={"edits": [sky, tower], "same": True})
    assert (wrong.status_code, "no possible conflict" in wrong.json()["error"]["message"]) == (400, True)
    assert client.post("/v1/edits/conflicts/settle", json={"edits": [sky], "same": True}).status_code in {400, 422}
    settle: dict[str, Any] = {"json": {"edits": [sky, noon], "same": False}, "headers": {"Idempotency-Key": noon}}
    settled = client.post("/v1/edits/conflicts/settle", **settle)
    assert settled.json()["older"]["blocks"] == [NOON["prompt"]]
    assert client.get("/v1/edits/conflicts").json()["data"] == []
    again = client.post("/v1/edits/conflicts/settle", **settle)
    assert (again.json(), again.headers["idempotency-replayed"]) == (settled.json(), "true")


def test_settled_as_the_same_the_older_is_withdrawn(client: httpx.Client) -> None:
    old, new = client.post("/v1/edits/batch", json={"edits": [SKY, NOON]}).json()["ids"]
    settled = client.post("/v1/edits/conflicts/settle", json={"edits": [old, new], "same": True}).json()
    assert (settled["older"]["id"], settled["older"]["state"]) == (old, "retired")
    assert [edit["id"] for edit in client.get("/v1/edits").json()["data"]] == [new]


def test_an_edit_is_taught_by_hand(client: httpx.Client) -> None:
    edit = add(client, {**SKY, "blocks": ["Is the sky a colour?"]})
    place = f"/v1/edits/{edit['id']}"
    also = client.post(f"{place}/also", json={"text": "The sky's colour:"})
    assert (also.json()["paraphrases"], also.json()["version"], also.headers["etag"]) == (
        ["The sky's colour:"],
        2,
        '"2"',
    )
    stale = client.post(f"{place}/block", json={"text": "What is sky?"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    blocked = client.post(f"{place}/block", json={"text": "What colour is the sky at night?"}).json()
    assert blocked["blocks"] == ["Is the sky a colour?", "What colour is the sky at night?"]
    asked = {"prompt": "what colour is the sky at night"}
    explained = client.post("/v1/edits/explain", json={**asked, "threshold": 0.0}).json()
    assert explained["fired"] == []
    assert explained["considered"][0]["reasons"]["blocked"] == 1.0
    taken = client.post(f"{place}/block", json={"text": "is the SKY a colour", "remove": True}).json()
    assert taken["blocks"] == ["What colour is the sky at night?"]
    assert client.post("/v1/edits/explain", json={"prompt": SKY["prompt"]}).json()["fired"][0]["id"] == edit["id"]
    refused = client.post(f"{place}/block", json={"text": SKY["prompt"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "blocks[1]")
    assert client.patch(place, json={"blocks": []}).json()["blocks"] == []
