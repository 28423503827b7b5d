"""Possible conflicts: pairs that perhaps contradict each other are kept, listed and settled by people."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memedit.errors import ConflictError, EditNotFoundError, FieldError, InputError
from memedit.memory import EditMemory
from memedit.types import Edit
from support.hashing_encoder import HashingEncoder
from support.word_scorer import WordScorer

LEADS = {"prompt": "Who leads Norvik?", "target": "Ole", "subject": "Norvik"}
RUNS = {"prompt": "Who runs Norvik?", "target": "Ada", "subject": "Norvik"}
SELLS = {"prompt": "What does Norvik sell?", "target": "ships", "subject": "Norvik"}


@pytest.fixture
def judged(encoder: HashingEncoder):
    with EditMemory(encoder=encoder, conflict_scorer=WordScorer()) as memory:
        yield memory


def pairs(memory: EditMemory, edit: Edit | None = None) -> list[tuple[str, str]]:
    return [(p.newer.prompt, p.older.prompt) for p in memory.possible_conflicts(edit and edit.id)]


@pytest.mark.parametrize("policy", ["error", "supersede", "keep"])
def test_a_doubtful_pair_stays_in_force_and_is_listed(judged: EditMemory, policy: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    judged.add_many([SELLS, LEADS])
    report = judged.add_many([RUNS], on_conflict=policy)
    assert (report.superseded, report.conflicts) == ((), ())
    (doubt,) = report.doubtful
    assert (doubt.new_id, doubt.new_prompt, doubt.new_target) == (report.ids[0], "Who runs Norvik?", "Ada")
    assert (doubt.existing_prompt, doubt.existing_target) == ("Who leads Norvik?", "Ole")
    assert doubt.score == pytest.approx(0.6)
    assert "perhaps the same question (score 0.60)" in doubt.reason
    assert judged.count() == 3
    (pair,) = judged.possible_conflicts()
    assert (pair.newer, pair.older) == (judged.get(doubt.new_id), judged.get(doubt.existing_id))
    assert pair.score == pytest.approx(0.6)
    assert before < pair.at < datetime.now(UTC) + timedelta(seconds=1)
    assert judged.possible_conflicts(doubt.existing_id) == [pair]
    (sells,) = (edit for edit in judged.list() if edit.target == "ships")
    assert judged.possible_conflicts(sells.id) == []
    assert judged.possible_conflicts(namespace="elsewhere") == []
    assert judged.verify().ok


def test_rows_of_one_batch_can_be_in_doubt(judged: EditMemory) -> None:
    report = judged.add_many([LEADS, RUNS, {**LEADS, "target": "Ida"}], on_conflict="supersede")
    assert report.superseded == (report.ids[0],)
    assert [(d.new_id, d.existing_id) for d in report.doubtful] == [(report.ids[2], report.ids[1])]
    assert [(p.newer.target, p.older.target) for p in judged.possible_conflicts()] == [("Ida", "Ada")]
    assert judged.add_many([RUNS]).doubtful == ()
    assert len(judged.possible_conflicts()) == 1


def test_the_list_outlives_the_process(tmp_path: Path, encoder: HashingEncoder) -> None:
    with EditMemory(tmp_path / "a.db", encoder=encoder, conflict_scorer=WordScorer()) as memory:
        memory.add_many([LEADS, RUNS])
    with EditMemory(tmp_path / "a.db", encoder=encoder, read_only=True) as memory:
        assert pairs(memory) == [("Who runs Norvik?", "Who leads Norvik?")]


def test_a_pair_goes_with_either_edit_and_comes_back_with_it(judged: EditMemory) -> None:
    ids = judged.add_many([LEADS, RUNS]).ids
    for edit_id in ids:
        judged.delete(edit_id)
        assert pairs(judged) == []
        judged.restore(edit_id)
        assert len(pairs(judged)) == 1
    assert judged.possible_conflicts()[0].newer.id == ids[1]
    judged.supersede(ids[1], target="Bo")
    assert [(p.newer.target, p.older.target) for p in judged.possible_conflicts()] == [("Bo", "Ole")]


def test_a_changed_edit_is_judged_anew(judged: EditMemory) -> None:
    ids = judged.add_many([LEADS, RUNS, SELLS]).ids
    judged.update(ids[1], source="a note")
    assert pairs(judged) == [("Who runs Norvik?", "Who leads Norvik?")]
    judged.update(ids[1], prompt="When was Norvik founded?", subject="Norvik")
    assert pairs(judged) == []
    judged.update(ids[0], prompt="Does Ole lead Norvik?", subject="Norvik")
    judged.update(ids[2], prompt="What runs Norvik?", subject="Norvik")
    judged.update(ids[0], prompt="Who leads Norvik then?", subject="Norvik")
    assert pairs(judged) == [("Who leads Norvik then?", "What runs Norvik?")]
    judged.update(ids[0], target="SHIPS.")
    assert pairs(judged) == []


def test_settled_as_the_same_withdraws_the_older_for_the_newer(judged: EditMemory) -> None:
    older, newer = judged.add_many([LEADS, RUNS]).ids
    settled = judged.settle_conflict(newer, older, same=True)
    assert (settled.newer.id, settled.newer.state, settled.older.id) == (newer, "active", older)
    assert settled.older == judged.get(older)
    assert (settled.older.state, pairs(judged)) == ("retired", [])
    last = judged.history(older)[-1]
    assert (last.action, last.other) == ("superseded", newer)
    assert [edit.id for edit in judged.list()] == [newer]


def test_settled_as_different_they_never_conflict_again(judged: EditMemory) -> None:
    first, second = judged.add_many([LEADS, RUNS]).ids
    settled = judged.settle_conflict(first, second, same=False)
    assert pairs(judged) == []
    one, other = judged.get(first), judged.get(second)
    assert (settled.older, settled.newer) == (one, other)
    assert (one.blocks, other.blocks) == ((other.prompt,), (one.prompt,))
    assert (one.version, one.state, other.version, other.state) == (2, "active", 2, "active")
    assert [(c.action, c.other) for c in judged.history(first)][-1] == ("told-apart", second)
    judged.update(second, target="Bea")
    assert pairs(judged) == []
    judged.delete(second)
    judged.restore(second)
    assert pairs(judged) == []
    assert judged.verify().ok


def test_a_sure_conflict_is_none_when_the_edit_blocks_the_question(judged: EditMemory) -> None:
    judged.add_many([LEADS])
    other = {**LEADS, "prompt": "Who leads Norvik at night?", "target": "Ada"}
    with pytest.raises(ConflictError):
        judged.add_many([other])
    with pytest.raises(ConflictError):
        judged.add_many([{**other, "blocks": ["Who leads Norvik by day?"]}])
    report = judged.add_many([{**other, "blocks": ["who LEADS Norvik"]}])
    assert (report.conflicts, report.doubtful) == ((), ())


def test_only_listed_pairs_can_be_settled(judged: EditMemory) -> None:
    leads, runs, sells = judged.add_many([LEADS, RUNS, SELLS]).ids
    for other in (sells, leads):
        with pytest.raises(InputError, match=r"no possible conflict; `memedit edit conflicts`"):
            judged.settle_conflict(leads, other, same=True)
    for one, other in ((leads, "nobody"), ("nobody", leads)):
        with pytest.raises(EditNotFoundError, match="nobody"):
            judged.settle_conflict(one, other, same=True)
    with pytest.raises(EditNotFoundError, match="nobody"):
        judged.possible_conflicts("nobody")
    judged.update(leads, paraphrases=["Who runs Norvik?"])
    with pytest.raises(FieldError, match=r"blocks\[0\].*paraphrase"):
        judged.settle_conflict(leads, runs, same=False)
    assert judged.get(runs).version == 1
    assert len(pairs(judged)) == 1


def test_forgetting_for_good_takes_the_pairs_along(judged: EditMemory) -> None:
    older, newer = judged.add_many([LEADS, RUNS]).ids
    judged.delete(older)
    judged.vacuum(forget_before=datetime.now(UTC) + timedelta(minutes=1))
    assert pairs(judged) == []
    with judged._database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM possible_conflicts").scalar() == 0
    assert judged.get(newer).state == "active"


def test_thresholds_can_be_chosen(encoder: HashingEncoder) -> None:
    with EditMemory(encoder=encoder, conflict_scorer=WordScorer(), conflict_threshold=0.55) as memory:
        memory.add_many([LEADS])
        with pytest.raises(ConflictError):
            memory.add_many([RUNS])
    with EditMemory(encoder=encoder, conflict_scorer=WordScorer(), doubt_threshold=0.7) as memory:
        assert memory.add_many([LEADS, RUNS]).doubtful == ()


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path, encoder: HashingEncoder) -> None:
    with EditMemory(tmp_path / "a.db", encoder=encoder, conflict_scorer=WordScorer()) as memory:
        memory.add_many([LEADS, SELLS])
        before = memory.revision
        rows = [RUNS, SELLS, {**LEADS, "target": "Ida"}]
        report = memory.add_many(rows, on_conflict="supersede", dry_run=True)
        assert (len(report.added), len(report.duplicates), len(report.superseded)) == (2, 1, 1)
        assert [(c.new_target, c.existing_target) for c in report.conflicts] == [("Ida", "Ole")]
        assert [(d.new_target, d.existing_target) for d in report.doubtful] == [("Ida", "Ada")]
        assert (memory.revision, memory.count(), pairs(memory)) == (before, 2, [])
        real = memory.add_many(rows, on_conflict="supersede")
        assert [c.reason for c in real.doubtful] == [c.reason for c in report.doubtful]
