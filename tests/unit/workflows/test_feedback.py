"""From complaints to a threshold, blocks and paraphrases."""

from collections.abc import Iterator, Sequence

import pytest

from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.calibrated import kept_threshold
from memedit.scope import Scope, load_scope
from memedit.workflows.feedback import ENOUGH, Remedies, carry_out, propose
from support.hashing_encoder import HashingEncoder

PLACES = ("Norvik", "Sudvik", "Ostvik", "Vestvik", "Midvik", "Lillvik", "Storvik", "Langvik")


@pytest.fixture
def memory() -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        for place in PLACES:
            found.add(f"Who is the mayor of {place}?", f"Mayor of {place}", subject=place)
        yield found


@pytest.fixture
def scope(memory: EditMemory) -> Scope:
    return load_scope("similarity", memory.encoder)


def say(memory: EditMemory, place: str, text: str, *, should_fire: bool, earlier: Sequence[str] = ()) -> str:
    edit = next(edit for edit in memory.list() if edit.subject == place)
    found = memory.feedback.add(edit.id, text, should_fire=should_fire, namespace="default", earlier=earlier)
    return found.id


def fired(memory: EditMemory, scope: Scope, text: str) -> list[str]:
    threshold = kept_threshold(memory, scope)
    decision = Router(memory, scope, threshold=threshold).decide([text])[0]
    return [str(hit.edit.subject) for hit in decision.fired]


def actions(found: Remedies) -> list[str]:
    return [one.action for one in found.remedies]


def test_one_complaint_is_about_one_text(memory: EditMemory, scope: Scope) -> None:
    wrong = "Who is the mayor of Norvik's sister town?"
    right = "Norvik town hall: which person is in charge?"
    assert (fired(memory, scope, wrong), fired(memory, scope, right)) == (["Norvik"], [])
    say(memory, "Norvik", wrong, should_fire=False)
    say(memory, "Norvik", right, should_fire=True)
    say(memory, "Sudvik", "Who is the mayor of Sudvik?", should_fire=True)
    before = memory.revision
    found = propose(memory, scope)
    assert memory.revision == before
    assert (found.proposed, actions(found)) == (found.threshold, ["block", "also", "none"])
    assert fired(memory, scope, wrong) == ["Norvik"], "shown, not done"
    assert len(memory.feedback.list(settled=False)) == 3
    assert carry_out(memory, scope, found).remedies == found.remedies
    assert "Norvik" not in fired(memory, scope, wrong)
    assert fired(memory, scope, right) == ["Norvik"]
    assert kept_threshold(memory, scope) is None
    assert [one.outcome for one in memory.feedback.list(settled=True)] == ["none", "also", "block"]
    assert propose(memory, scope).remedies == ()


def test_many_complaints_move_the_threshold_and_mend_what_nobody_asked(memory: EditMemory, scope: Scope) -> None:
    template = "Who is the mayor of {}'s old sister town?"
    for place in PLACES[:ENOUGH]:
        say(memory, place, template.format(place), should_fire=False)
    unasked = template.format(PLACES[-1])
    assert fired(memory, scope, unasked) == [PLACES[-1]]
    found = propose(memory, scope)
    assert found.proposed > found.threshold
    assert set(actions(found)) == {"threshold"}
    assert found.false_fires[1] <= found.false_fires[0]
    carry_out(memory, scope, found)
    assert kept_threshold(memory, scope) == found.proposed
    assert fired(memory, scope, unasked) == []
    assert fired(memory, scope, f"Who is the mayor of {PLACES[-1]}?") == [PLACES[-1]]
    assert all(edit.blocks == () for edit in memory.list())


def test_few_complaints_or_a_threshold_that_is_given_move_nothing(memory: EditMemory, scope: Scope) -> None:
    template = "Who is the mayor of {}'s old sister town?"
    for place in PLACES[: ENOUGH - 1]:
        say(memory, place, template.format(place), should_fire=False)
    assert set(actions(propose(memory, scope))) == {"block"}
    say(memory, PLACES[ENOUGH], template.format(PLACES[ENOUGH]), should_fire=False)
    assert set(actions(propose(memory, scope))) == {"threshold"}
    assert set(actions(propose(memory, scope, move=False))) == {"block"}


def test_the_memorys_own_texts_hold_the_threshold_back(memory: EditMemory, scope: Scope) -> None:
    """A threshold above the complaints would cost as many paraphrases: the texts are blocked instead."""
    template = "Who is the mayor of {}'s old sister town?"
    for edit in memory.list():
        memory.update(edit.id, paraphrases=[f"Who is the mayor of {edit.subject} q{edit.subject} z{edit.subject}?"])
    for place in PLACES[:ENOUGH]:
        say(memory, place, template.format(place), should_fire=False)
    found = propose(memory, scope)
    assert (found.proposed, set(actions(found))) == (found.threshold, {"block"})
    for edit in memory.list():
        memory.update(edit.id, paraphrases=())
    assert set(actions(propose(memory, scope))) == {"threshold"}, "it was the paraphrases that held it"


def test_what_cannot_be_taught_is_left_and_says_why(memory: EditMemory, scope: Scope) -> None:
    own = "Who is the mayor of Norvik?"
    say(memory, "Norvik", own, should_fire=False)
    say(memory, "Sudvik", "And who leads it?", should_fire=True, earlier=("I like Sudvik.",))
    say(memory, "Ostvik", "Tell me of Ostvik's leader", should_fire=True, earlier=("Hello",))
    say(memory, "Vestvik", "Who is the mayor of Vestvik?", should_fire=False)
    gone = next(edit for edit in memory.list() if edit.subject == "Vestvik")
    memory.delete(gone.id)
    found = propose(memory, scope)
    assert actions(found) == ["block", "left", "also", "left"]
    assert "talk before it" in found.remedies[1].reason
    assert found.remedies[3].reason == "the edit is withdrawn"
    done = carry_out(memory, scope, found)
    assert actions(done) == ["left", "left", "also", "left"]
    assert "own prompt" in done.remedies[0].reason or "prompt" in done.remedies[0].reason
    assert len(memory.feedback.list(settled=False)) == 3


def test_a_proposal_is_told_from_a_later_one(memory: EditMemory, scope: Scope) -> None:
    say(memory, "Norvik", "Who is the mayor of Norvik's sister town?", should_fire=False)
    first = propose(memory, scope).fingerprint
    assert propose(memory, scope).fingerprint == first
    say(memory, "Sudvik", "Who is the mayor of Sudvik's sister town?", should_fire=False)
    assert propose(memory, scope).fingerprint != first
