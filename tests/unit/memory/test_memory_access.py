"""Keys, who changed what, requests answered before, and changes meant for one version."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memedit.errors import EditChangedError, EditNotFoundError, InputError, RepeatedRequestError
from memedit.memory import Actor, EditMemory, Role
from memedit.types import EditState
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder(dimension=8)
BOB = Actor("key:bob", request="r1")


@pytest.fixture
def memory(tmp_path: Path) -> EditMemory:
    return EditMemory(tmp_path / "edits.db", encoder=ENCODER)


def test_a_key_is_found_by_its_text_and_kept_as_a_digest(memory: EditMemory, tmp_path: Path) -> None:
    key, text = memory.keys.create("bob", roles=["read", Role.EDIT], namespaces=["b", "a"], requests_per_minute=7)
    assert memory.keys.find(text) == key
    assert (key.roles, key.namespaces, key.requests_per_minute) == ({Role.READ, Role.EDIT}, {"a", "b"}, 7)
    assert memory.keys.list() == [key]
    memory.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.rpartition("_")[2].encode() not in stored


@pytest.mark.parametrize("change", ["x", "_", ""])
def test_another_text_finds_no_key(memory: EditMemory, change: str) -> None:
    _, text = memory.keys.create("bob", roles=["read"])
    assert memory.keys.find(text[:-1] + change) is None
    for wrong in ("", "mek", "mek_", "mek__", "mek_\ud800_x", text.upper(), f"sk{text[3:]}"):
        assert memory.keys.find(wrong) is None


def test_a_revoked_or_expired_key_is_not_usable(memory: EditMemory) -> None:
    now = datetime.now(UTC)
    key, _ = memory.keys.create("bob", roles=["read"], expires_at=now + timedelta(hours=1))
    assert key.usable(now)
    assert not key.usable(now + timedelta(hours=1))
    revoked = memory.keys.revoke(key.id)
    assert not revoked.usable(now)
    assert memory.keys.revoke(key.id) == revoked == memory.keys.list()[0]


def test_keys_that_would_open_nothing_are_refused(memory: EditMemory) -> None:
    for wrong in ({"roles": []}, {"roles": ["root"]}, {"roles": ["read"], "namespaces": []}):
        with pytest.raises(InputError):
            memory.keys.create("bob", **wrong)
    with pytest.raises(InputError, match="requests_per_minute"):
        memory.keys.create("bob", roles=["read"], requests_per_minute=0)
    with pytest.raises(InputError, match="nothing"):
        memory.keys.revoke("nothing")


def test_the_audit_says_who_changed_what_from_what_to_what(memory: EditMemory) -> None:
    with memory.as_actor(BOB):
        edit = memory.add("the colour of the sky is", "green")
        memory.update(edit.id, target="blue")
    memory.delete(edit.id)
    memory.add("the tower is in", "Rome", namespace="other")
    memory.keys.create("ann", roles=["admin"])
    entries = memory.audit()
    assert [(e.action, e.actor, e.request, e.namespace) for e in entries] == [
        ("key created", None, None, ""),
        ("add", None, None, "other"),
        ("delete", None, None, "default"),
        ("update", "key:bob", "r1", "default"),
        ("add", "key:bob", "r1", "default"),
    ]
    update = entries[3]
    assert update.before is not None
    assert update.after is not None
    assert (update.before.target, update.after.target, update.edit_id) == ("green", "blue", edit.id)
    assert (entries[4].before, entries[2].after and entries[2].after.state) == (None, EditState.RETIRED)
    assert [e.revision for e in memory.audit(limit=2, before=entries[1].revision)] == [3, 2]
    assert [e.action for e in memory.audit(actor="key:bob")] == ["update", "add"]
    assert [e.action for e in memory.audit(namespaces=["other"])] == ["add"]


def test_a_change_in_many_rows_is_one_actors(memory: EditMemory) -> None:
    with memory.as_actor(BOB):
        memory.add_many([{"prompt": f"the size of thing {i} is", "target": "x"} for i in range(50)])
    assert {e.actor for e in memory.audit()} == {"key:bob"}
    assert len(memory.audit()) == 50


def test_a_refused_change_leaves_no_actor_behind(memory: EditMemory) -> None:
    edit = memory.add("the colour of the sky is", "green")
    with memory.as_actor(BOB), pytest.raises(EditChangedError):
        memory.update(edit.id, target="blue", if_version=2)
    assert [e.actor for e in memory.audit()] == [None]


def test_changes_for_a_version_that_is_gone_are_refused(memory: EditMemory) -> None:
    edit = memory.add("the colour of the sky is", "green")
    assert memory.update(edit.id, target="blue", if_version=1).version == 2
    for call in (
        lambda: memory.update(edit.id, target="red", if_version=1),
        lambda: memory.supersede(edit.id, target="red", if_version=1),
        lambda: memory.delete(edit.id, if_version=1),
        lambda: memory.restore(edit.id, if_version=1),
    ):
        with pytest.raises(EditChangedError, match="version 2, not 1"):
            call()
    assert memory.delete(edit.id, if_version=2).version == 3
    assert memory.restore(edit.id, if_version=3).version == 4
    assert memory.supersede(edit.id, target="red", if_version=4).target == "red"


def test_the_mark_of_a_request_comes_with_its_change(memory: EditMemory) -> None:
    asked = Actor("key:bob", "r1", idempotency_key="k", fingerprint="f")
    with memory.as_actor(asked):
        memory.add("the colour of the sky is", "green")
    mark = memory.requests.find("key:bob", "k")
    assert mark is not None
    assert (mark.revision, mark.fingerprint, mark.status) == (1, "f", None)
    with memory.as_actor(asked), pytest.raises(RepeatedRequestError):
        memory.add("the tower is in", "Rome")
    assert memory.count() == 1, "the second change under the key was not made"
    memory.requests.answered("key:bob", "k", "f", 201, "{}")
    memory.requests.answered("key:bob", "no change", "g", 200, "[]")
    again, other = (memory.requests.find("key:bob", key) for key in ("k", "no change"))
    assert again is not None
    assert other is not None
    assert (again.revision, again.status, again.body) == (1, 201, "{}")
    assert (other.revision, other.status, other.body) == (None, 200, "[]")
    assert memory.requests.find("key:ann", "k") is None
    assert memory.requests.forget(datetime.now(UTC) + timedelta(seconds=1)) == 2
    assert memory.requests.find("key:bob", "k") is None


def test_pages_follow_one_another(memory: EditMemory) -> None:
    ids = memory.add_many([{"prompt": f"the size of thing {i} is", "target": "x"} for i in range(7)]).ids
    first = memory.list(limit=3)
    second = memory.list(limit=3, after=first[-1].id)
    third = memory.list(limit=3, after=second[-1].id)
    assert tuple(e.id for e in [*first, *second, *third]) == ids
    with pytest.raises(EditNotFoundError):
        memory.list(after=ids[0], namespace="other")


def test_an_export_goes_to_an_open_file(memory: EditMemory, tmp_path: Path) -> None:
    memory.add("the colour of the sky is", "green")
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        assert memory.export_to(file) == 1
    assert memory.export(tmp_path / "same") == 1
    assert (tmp_path / "out").read_bytes() == (tmp_path / "same").read_bytes()


def test_forgetting_for_good_keeps_the_audit_readable(memory: EditMemory) -> None:
    with memory.as_actor(BOB):
        edit = memory.add("the colour of the sky is", "green")
        memory.update(edit.id, target="blue")
    memory.vacuum(forget_before=datetime.now(UTC) + timedelta(seconds=1))
    entry = next(e for e in memory.audit() if e.edit_id == edit.id)
    assert (entry.before, entry.actor) == (None, "key:bob")
    with sqlite3.connect(memory.url) as connection:
        assert connection.execute("SELECT count(*) FROM actors").fetchone() == (2,)
