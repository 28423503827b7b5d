"""What a server keeps in the store besides edits: its request log, feedback, quotas, figures, use of keys."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memedit.errors import EditNotFoundError, FieldError, InputError, QuotaError
from memedit.memory import Actor, EditMemory, Figures, JudgedEdit, LoggedRequest, Quota, Role, request_id
from support.hashing_encoder import HashingEncoder

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def memory() -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        yield found


def logged(query: str, *, at: datetime = NOW, **fields: Any) -> LoggedRequest:
    common = {"namespace": "default", "actor": "ann/1", "request": "r", "route": "/v1/chat/completions"}
    return LoggedRequest(request_id(), at, query=query, **{**common, **fields})


def test_a_logged_request_comes_back_as_it_was(memory: EditMemory) -> None:
    row = logged(
        "Who leads Norvik?", earlier=("Hello", "Hi"), answer="Ole", model="m", status="stopping", seconds=1.25,
        first_token=0.5, prompt_tokens=4, completion_tokens=2, revision=7, adapter="in_context", version="v0001",
        scope="judge", threshold=0.5, abstained=True,
        considered=(JudgedEdit("a_b", 0.9, fired=True), JudgedEdit("c", 0.2), JudgedEdit("d", 0.8, in_weights=True)),
    )  # fmt: skip
    before = memory.revision
    memory.request_log.write([row])
    assert memory.request_log.get(row.id) == row
    assert memory.request_log.list() == [row]
    assert row.fired == ("a_b",)
    assert memory.request_log.get("nothing") is None
    assert memory.revision == before


def test_the_log_is_filtered_and_paged(memory: EditMemory) -> None:
    rows = [
        logged("Who leads Norvik?", considered=(JudgedEdit("a_b", 0.9, fired=True),)),
        logged("Où est l'ÉCOLE?", namespace="other", at=NOW + timedelta(hours=1), answer="Là-bas"),
        logged("100% of it_all", actor="bob/2", considered=(JudgedEdit("axb", 0.9, fired=True),)),
    ]
    memory.request_log.write(rows)

    def found(**wanted: Any) -> list[int]:
        return [rows.index(row) for row in memory.request_log.list(**wanted)]

    assert found() == [2, 1, 0]
    assert found(namespaces=["other"]) == [1]
    assert found(namespaces=[]) == []
    assert found(actor="bob/2") == [2]
    assert found(edit="a_b") == [0], "an underscore is no wildcard"
    assert found(fired=True) == [2, 0]
    assert found(fired=False) == [1]
    assert found(text="ecole est") == [1]
    assert found(text="bas") == [1], "the answer is searched too"
    assert found(text="% it_") == [2]
    assert found(since=NOW + timedelta(minutes=1)) == [1]
    assert found(until=NOW + timedelta(minutes=1)) == [2, 0]
    assert found(limit=2) == [2, 1]
    assert found(before=rows[1].id) == [0]
    assert found(after=rows[0].id) == [2, 1]
    assert found(after=rows[0].id, limit=1) == [1], "the oldest of the newer ones, so that none is missed"


def test_the_log_is_trimmed_by_age_and_number(memory: EditMemory) -> None:
    rows = [logged(f"q{i}", at=NOW + timedelta(days=i)) for i in range(10)]
    memory.request_log.write(rows)
    assert memory.request_log.trim(keep=100, before=NOW + timedelta(days=2)) == 2
    assert memory.request_log.trim(keep=3, before=NOW) == 5
    assert memory.request_log.list() == rows[:6:-1]
    assert memory.request_log.trim(keep=3, before=NOW) == 0


def test_feedback_replaces_what_was_said_before_and_is_settled(memory: EditMemory) -> None:
    edit, other = memory.add("Who leads Norvik?", "Ole"), memory.add("Who leads Sudvik?", "Ida")
    before = memory.revision
    say = {"namespace": "default", "actor": "ann/1"}
    memory.feedback.add(edit.id, "Who led Norvik?", should_fire=True, **say)
    second = memory.feedback.add(edit.id, "Who led Norvik?", should_fire=False, request="r1", **say)
    third = memory.feedback.add(other.id, "Who led Norvik?", should_fire=False, earlier=("Hi",), **say)
    assert memory.feedback.list() == [third, second]
    assert (second.should_fire, second.request, third.earlier) == (False, "r1", ("Hi",))
    memory.feedback.settle({second.id: "block"})
    assert memory.feedback.list(settled=False) == [third]
    (done,) = memory.feedback.list(settled=True)
    assert (done.outcome, done.settled_at is not None) == ("block", True)
    assert memory.feedback.list(namespaces=["elsewhere"]) == memory.feedback.list(actor="bob") == []
    memory.feedback.remove(third.id)
    assert memory.feedback.list(settled=False) == []
    assert memory.revision == before
    with pytest.raises(EditNotFoundError):
        memory.feedback.add(edit.id, "x", should_fire=True, namespace="elsewhere")
    with pytest.raises(FieldError, match="blank"):
        memory.feedback.add(edit.id, " ", should_fire=True, namespace="default")
    assert memory.feedback.get(third.id) is None


def test_a_namespace_takes_as_many_edits_as_its_quota(memory: EditMemory) -> None:
    memory.quotas.set("small", Quota(edits=2))
    first = memory.add("Who leads Norvik?", "Ole", namespace="small")
    second = memory.add("The river of Sudvik is", "Lind", namespace="small")
    third = {"prompt": "The lake of Ostvik is", "target": "Ree"}
    before = memory.revision
    for change in (
        lambda: memory.add(**third, namespace="small"),
        lambda: memory.add_many([third, {"prompt": "The hill of Vest is", "target": "Top"}], namespace="small"),
    ):
        with pytest.raises(QuotaError, match=r"namespace 'small' has 2 of at most 2 edits") as caught:
            change()
        assert (caught.value.of, caught.value.limit, caught.value.used) == ("namespace", 2, 2)
    assert memory.revision == before
    memory.add(**third)  # elsewhere there is no quota
    newer = memory.supersede(first.id, target="Eva", namespace="small")
    memory.update(second.id, target="Lund", namespace="small")
    memory.add("Who leads Norvik?", "Per", on_conflict="supersede", namespace="small")
    memory.delete(second.id, namespace="small")
    memory.add(**third, namespace="small")
    with pytest.raises(QuotaError):
        memory.restore(second.id, namespace="small")
    assert memory.get(second.id, namespace="small").state == "retired"
    memory.quotas.set("small", Quota(edits=1))
    with pytest.raises(QuotaError):
        memory.restore(newer.id, namespace="small", on_conflict="keep")
    kept = memory.list(namespace="small")
    memory.update(kept[0].id, target="Who is above the quota may still be changed", namespace="small")
    memory.quotas.set("small", Quota())
    memory.restore(second.id, namespace="small")
    assert memory.quotas.all() == {}


def test_a_key_adds_as_many_edits_as_its_quota(memory: EditMemory) -> None:
    key, _ = memory.keys.create("ann", roles=[Role.EDIT], edits=2)
    ann, bob = Actor(f"ann/{key.id}"), Actor("bob/2")
    with memory.as_actor(bob):
        memory.add_many([{"prompt": f"The size of thing {i} is", "target": "x"} for i in range(3)])
    with memory.as_actor(ann):
        own = [memory.add(f"The colour of thing {i} is", "red", namespace=f"n{i}") for i in range(2)]
        with pytest.raises(QuotaError, match=r"key 'ann/.* has 2 of at most 2 edits"):
            memory.add("The age of Norvik is", "12")
        memory.supersede(own[0].id, target="blue", namespace="n0")
        memory.update(own[1].id, target="blue", namespace="n1")
        with pytest.raises(QuotaError):
            memory.add_many([{"prompt": "The age of Norvik is", "target": "12"}])
        memory.delete(own[1].id, namespace="n1")
        memory.add("The age of Norvik is", "12")
    assert memory.quotas.edits_by_key() == {key.id: 2}
    memory.keys.change(key.id, edits=None)
    with memory.as_actor(ann):
        memory.add("The age of Sudvik is", "13")


def test_limits_of_keys_are_set_kept_and_checked(memory: EditMemory) -> None:
    key, secret = memory.keys.create("ann", roles=[Role.READ], tokens_per_minute=5_000, logged=False)
    assert (key.quota, key.logged, key.last_used_at) == (Quota(None, None, 5_000), False, None)
    changed = memory.keys.change(key.id, requests_per_minute=10, logged=True)
    assert (changed.quota, changed.logged) == (Quota(None, 10, 5_000), True)
    assert memory.keys.find(secret) == memory.keys.get(key.id) == changed
    assert memory.audit()[0].action == "key changed"
    before = memory.revision
    memory.keys.change(key.id, requests_per_minute=10)
    memory.keys.used({key.id: NOW})
    memory.keys.used({key.id: NOW - timedelta(days=1), "nobody": NOW})
    assert memory.keys.get(key.id).last_used_at == NOW
    assert memory.revision == before
    for wrong in ({"edits": -1}, {"tokens_per_minute": 0}, {"requests_per_minute": 2**31}):
        with pytest.raises(FieldError, match=next(iter(wrong))):
            memory.keys.change(key.id, **wrong)
    with pytest.raises(FieldError):
        memory.quotas.set("x", Quota(tokens_per_minute=-4))
    with pytest.raises(InputError, match="no API key"):
        memory.keys.change("nothing", edits=3)


def test_setting_a_quota_is_in_the_audit(memory: EditMemory) -> None:
    with memory.as_actor(Actor("root/1")):
        memory.quotas.set("small", Quota(requests_per_minute=5))
        memory.quotas.set("small", Quota(requests_per_minute=5))
    assert [(e.action, e.namespace, e.actor) for e in memory.audit()] == [("quota", "small", "root/1")]
    assert memory.quotas.of("small") == Quota(requests_per_minute=5)


def test_figures_are_kept_for_as_long_as_asked(memory: EditMemory) -> None:
    ring, before = memory.figures, memory.revision
    for minute in range(5):
        ring.write(Figures(NOW + timedelta(minutes=minute), "a", {"requests": minute}), forget_before=NOW)
    ring.write(Figures(NOW + timedelta(minutes=4), "b", {"requests": 9.5}), forget_before=NOW + timedelta(minutes=2))
    ring.write(Figures(NOW + timedelta(minutes=4), "b", {"requests": 8.5}), forget_before=NOW)
    found = ring.since(NOW + timedelta(minutes=3))
    assert [(row.server, row.values["requests"]) for row in found] == [("a", 3), ("a", 4), ("b", 8.5)]
    assert len(ring.since(NOW)) == 4
    assert memory.revision == before


@pytest.mark.parametrize("order", ["added", "changed", "prompt", "target", "subject"])
def test_pages_of_any_order_make_the_whole_list(memory: EditMemory, order: str) -> None:
    for number, word in enumerate(("beta", "Alpha", "émile", "alpha", "zulu")):
        subject = None if number % 2 else word
        memory.add(f"{word} number {number} is", "same" if number < 3 else word, subject=subject, on_conflict="keep")
    for name in (order, f"-{order}"):
        whole = memory.list(order=name)
        paged, after = [], None
        while page := memory.list(order=name, limit=2, after=after):
            paged += page
            after = page[-1].id
        assert paged == whole
        assert len(whole) == 5
    assert memory.list(order=f"-{order}") == memory.list(order=order)[::-1]
    with pytest.raises(InputError, match="colour"):
        memory.list(order="colour")
