"""The everyday life of an edit."""

from datetime import UTC, datetime, timedelta

import pytest

from memedit.errors import ConflictError, EditNotFoundError, InputError
from memedit.memory import EditMemory
from memedit.types import EditDraft, EditKind, EditState

NOW = datetime.now(UTC)


def found(memory: EditMemory, query: str, **options: object) -> list[str]:
    """Targets of the candidates for one query, nearest first."""
    row = memory.candidates(memory.encoder.encode_tokens([query]), **options)[0]
    return [candidate.edit.target for candidate in row]


def test_an_added_edit_is_returned_whole_and_found_by_the_next_look_up(memory: EditMemory) -> None:
    edit = memory.add(
        "Who leads Norvik Shipping?",
        "Ada Holm",
        subject="Norvik Shipping",
        paraphrases=("Norvik Shipping is led by",),
        ground_truth="Ole Berg",
        kind="correction",
        metadata={"ticket": 7, "tags": ["a"]},
        source="newsletter",
        valid_at=NOW,
    )
    assert memory.get(edit.id) == edit
    assert edit.kind is EditKind.CORRECTION
    assert edit.state is EditState.ACTIVE
    assert edit.version == 1
    assert edit.metadata == {"ticket": 7, "tags": ["a"]}
    assert edit.valid_at == NOW
    assert found(memory, "who leads norvik shipping") == ["Ada Holm"]


def test_similarity_is_the_cosine_to_the_nearest_text_and_the_subject_is_located(memory: EditMemory) -> None:
    memory.add("Who leads Norvik Shipping?", "Ada Holm", subject="Norvik Shipping", paraphrases=("chief of Norvik",))
    query = memory.encoder.encode_tokens(["chief of Norvik"])[0]
    candidate = memory.candidates([query])[0][0]
    assert candidate.similarity == pytest.approx(1.0, abs=1e-5)
    assert candidate.subject_span is None
    text = "Tell me: who runs NORVIK shipping's docks?"
    candidate = memory.candidates(memory.encoder.encode_tokens([text]))[0][0]
    assert candidate.subject_span is not None
    assert text[slice(*candidate.subject_span)] == "NORVIK shipping"


def test_an_edit_far_away_is_a_candidate_when_its_subject_stands_in_the_query(memory: EditMemory) -> None:
    memory.add("Who leads Norvik Shipping?", "Ada Holm", subject="Norvik Shipping")
    memory.add_many([{"prompt": f"the capital of land {i} is", "target": f"city {i}"} for i in range(50)])
    query = "the capital of land 3 is far from the harbour where Norvik Shipping lies, is it not, or is it"
    assert "Ada Holm" not in [c.target for c, _ in memory.search(query, 3, mode="semantic")]
    assert "Ada Holm" in found(memory, query, k=3)


def test_adding_the_same_edit_twice_changes_nothing(memory: EditMemory) -> None:
    first = memory.add("The tower is in", "Rome", subject="tower")
    revision = memory.revision
    assert memory.add("The tower is in", "Rome", subject="tower") == first
    assert memory.revision == revision
    report = memory.add_many([EditDraft("The tower is in", "Rome", subject="tower")] * 2)
    assert report.ids == (first.id, first.id)
    assert report.added == ()
    assert report.duplicates == (first.id, first.id)


def test_a_subject_is_found_when_none_is_given(memory: EditMemory) -> None:
    assert memory.add("The mother tongue of Danielle Darrieux is", "English").subject == "Danielle Darrieux"


def test_supersede_withdraws_and_replaces_at_once(memory: EditMemory) -> None:
    old = memory.add("The tower is in", "Rome", metadata={"k": 1})
    new = memory.supersede(old.id, target="Oslo")
    assert new.id != old.id
    assert (new.prompt, new.target, new.metadata) == ("The tower is in", "Oslo", {"k": 1})
    assert memory.get(old.id).state is EditState.RETIRED
    assert found(memory, "The tower is in") == ["Oslo"]
    assert [(c.action, c.other) for c in memory.history(old.id)] == [("add", None), ("superseded", new.id)]
    assert [(c.action, c.other) for c in memory.history(new.id)] == [("supersede", old.id)]
    with pytest.raises(InputError, match="withdrawn"):
        memory.supersede(old.id, target="Bonn")
    with pytest.raises(InputError, match="itself"):
        memory.supersede(new.id, target="Oslo")


def test_update_makes_the_next_version_of_the_same_edit(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome", subject="tower")
    changed = memory.update(edit.id, prompt="The lighthouse stands in", target="Oslo")
    assert (changed.id, changed.version) == (edit.id, 2)
    assert changed.subject != "tower"
    assert found(memory, "The lighthouse stands in")[0] == "Oslo"
    assert memory.candidates(memory.encoder.encode_tokens(["The tower is in"]))[0][0].similarity < 0.99
    revision = memory.revision
    assert memory.update(edit.id, target="Oslo") == changed
    assert memory.revision == revision
    assert memory.update(edit.id, metadata={"x": None}).metadata == {"x": None}
    with pytest.raises(InputError, match="taget"):
        memory.update(edit.id, taget="Bonn")


def test_states_decide_what_is_in_force(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome")
    assert memory.update(edit.id, state="pending").state.value == "pending"
    assert found(memory, "The tower is in") == []
    assert memory.count() == 1
    # the memory does not know which model asks: one with the edit in its weights leaves it out by itself
    assert memory.update(edit.id, state="consolidated").state.value == "consolidated"
    assert found(memory, "The tower is in") == ["Rome"]
    assert memory.update(edit.id, source="a letter").state is EditState.CONSOLIDATED
    assert memory.update(edit.id, target="Pisa").state is EditState.ACTIVE
    assert memory.update(edit.id, target="Rome").state is EditState.ACTIVE
    memory.update(edit.id, state="active")
    assert found(memory, "The tower is in") == ["Rome"]
    with pytest.raises(InputError, match="delete"):
        memory.update(edit.id, state="retired")


def test_delete_and_restore(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome")
    assert memory.delete(edit.id).state is EditState.RETIRED
    assert found(memory, "The tower is in") == []
    assert memory.list() == []
    assert [e.id for e in memory.list(state="retired")] == [edit.id]
    revision = memory.revision
    memory.delete(edit.id)
    assert memory.revision == revision
    assert memory.restore(edit.id).state is EditState.ACTIVE
    assert found(memory, "The tower is in") == ["Rome"]
    memory.restore(edit.id)
    assert memory.revision == revision + 1
    assert [c.action for c in memory.history(edit.id)] == ["add", "delete", "restore"]


def test_restoring_into_a_contradiction_is_refused_unless_told(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome")
    memory.delete(edit.id)
    other = memory.add("the tower is in ", "Oslo")
    with pytest.raises(ConflictError) as caught:
        memory.restore(edit.id)
    assert caught.value.existing_id == other.id
    memory.restore(edit.id, on_conflict="supersede")
    assert found(memory, "The tower is in") == ["Rome"]


def test_a_contradiction_names_both_edits_and_stores_nothing(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome")
    revision = memory.revision
    with pytest.raises(ConflictError, match="same prompt") as caught:
        memory.add("the  tower is in?", "Oslo")
    assert caught.value.existing_id == edit.id
    assert memory.revision == revision
    assert memory.add("the tower is in", "rome.").id != edit.id, "the same target in other spelling is no contradiction"


def test_policies(memory: EditMemory) -> None:
    first = memory.add("The tower is in", "Rome")
    kept = memory.add("The tower is in", "Oslo", on_conflict="keep")
    assert {e.id for e in memory.list()} == {first.id, kept.id}
    last = memory.add("The tower is in", "Bonn", on_conflict="supersede")
    assert [e.id for e in memory.list()] == [last.id]
    with pytest.raises(InputError, match="on_conflict"):
        memory.add("x is", "y", on_conflict="overwrite")  # type: ignore[arg-type]


def test_facts_of_different_times_do_not_contradict(memory: EditMemory) -> None:
    start, middle = NOW - timedelta(days=20), NOW - timedelta(days=10)
    memory.add("The mayor is", "Ada", valid_at=start, invalid_at=middle)
    memory.add("The mayor is", "Bob", valid_at=middle)
    with pytest.raises(ConflictError):
        memory.add("The mayor is", "Eve", valid_at=start)
    assert found(memory, "The mayor is") == ["Bob"]
    assert found(memory, "The mayor is", at=start) == ["Ada"]


def test_an_edit_that_is_not_yet_valid_does_not_crowd_out_others(memory: EditMemory) -> None:
    later = NOW + timedelta(days=5)
    memory.add_many(
        [
            {"prompt": "the mayor is", "target": "X", "valid_at": later, "paraphrases": (f"mayor {i}",)}
            for i in range(60)
        ]
    )
    memory.add("the old mayor of the town was", "Ada")
    assert found(memory, "the mayor is", k=1) == ["Ada"]


def test_namespaces_never_see_each_other(memory: EditMemory) -> None:
    edit = memory.add("The tower is in", "Rome", namespace="a")
    other = memory.add("The tower is in", "Oslo", namespace="b")
    assert found(memory, "The tower is in", namespace="a") == ["Rome"]
    assert found(memory, "The tower is in", namespace="b") == ["Oslo"]
    assert found(memory, "The tower is in") == []
    assert memory.count() == 0
    for call in (memory.get, memory.delete, memory.restore, memory.history, memory.update, memory.supersede):
        with pytest.raises(EditNotFoundError):
            call(edit.id, namespace="b")
    assert [e.id for e, _ in memory.search("tower", namespace="b")] == [other.id]


def test_as_of_gives_the_store_as_it_was(memory: EditMemory) -> None:
    before = datetime.now(UTC)
    edit = memory.add("The tower is in", "Rome")
    memory.update(edit.id, target="Oslo")
    middle = memory.get(edit.id).created_at
    new = memory.supersede(edit.id, target="Bonn")
    memory.delete(new.id)
    assert memory.as_of(before) == []
    assert [e.target for e in memory.as_of(edit.created_at)] == ["Rome"]
    assert [e.target for e in memory.as_of(middle)] == ["Oslo"]
    assert [e.target for e in memory.as_of(new.created_at)] == ["Bonn"]
    assert memory.as_of(datetime.now(UTC)) == []
    with pytest.warns(UserWarning, match="no time zone and is taken as UTC"):
        assert memory.as_of(datetime(2020, 1, 1)) == []


def test_list_filters_and_pages(memory: EditMemory) -> None:
    values = [1, 1.0, "1", True, None, "ä", 'q"uote']
    ids = [memory.add(f"prompt number {i} is", "x", metadata={"v": v, 'k"': i}).id for i, v in enumerate(values)]
    assert [e.id for e in memory.list(metadata={"v": 1})] == ids[:2]
    for i in range(2, len(values)):
        assert [e.id for e in memory.list(metadata={"v": values[i]})] == [ids[i]]
    assert memory.count(metadata={'k"': 3, "v": True}) == 1
    assert memory.list(metadata={"absent": None}) == []
    assert [e.id for e in memory.list(limit=2, offset=3)] == ids[3:5]
    assert [e.id for e in memory.list(offset=5)] == ids[5:]
    with pytest.raises(InputError, match="is not text, a number"):
        memory.list(metadata={"v": [1]})
    with pytest.raises(InputError, match="retired"):
        memory.list(state="retird")


def test_text_search_wants_every_word_and_ignores_case_and_accents(memory: EditMemory) -> None:
    memory.add("The mayor of São Paulo is", "Ana", paraphrases=("Who governs Sampa",))
    memory.add("The mayor of Paris is", "Léa 100%")
    assert [e.target for e, _ in memory.search("sao MAYOR")] == ["Ana"]
    assert [e.target for e, _ in memory.search("sampa")] == ["Ana"]
    assert [e.target for e, _ in memory.search("lea 100%")] == ["Léa 100%"]
    assert memory.search("%") != []
    assert memory.search("_") == []
    assert memory.search("   ") == []
    assert len(memory.search("mayor", k=1)) == 1
    with pytest.raises(InputError, match="mode"):
        memory.search("x", mode="vector")
