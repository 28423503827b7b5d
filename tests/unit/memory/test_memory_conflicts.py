"""Contradictions in other words: same subject, same relation."""

import numpy as np
import pytest
from hashing_encoder import HashingEncoder

from memedit.errors import ConflictError
from memedit.memory import EditMemory, MaskedPromptScorer
from memedit.memory.conflicts import mask_subject
from memedit.memory.normal import content_hash, lookup_hash, normalise
from memedit.types import EditDraft


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The tower is in", "the  TOWER is\nin "),
        ("Who leads it?", "Who leads it"),
        ("“Quoted” text:", "quoted” text"),
        ("Straße", "STRASSE"),
        ("ﬁne ① prompt", "fine 1 prompt"),
    ],
)
def test_spelling_habits_do_not_matter(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)
    assert lookup_hash("n", one) == lookup_hash("n", other)
    assert lookup_hash("n", one) != lookup_hash("m", one)


def test_a_text_of_punctuation_is_still_a_text() -> None:
    assert normalise("?!") == "?!"
    assert normalise("...") != normalise("?!")


def test_the_content_hash_tells_fields_apart() -> None:
    parts = [
        ("n", "a", "b", None, ()),
        ("n", "a", "b", "", ()),
        ("n", "a", "b", "c", ()),
        ("n", "a", "b", None, ("c",)),
    ]
    assert len({content_hash(*part) for part in parts}) == len(parts)  # type: ignore[arg-type]


def test_the_subject_is_masked_wherever_it_stands() -> None:
    assert mask_subject("Is ada  HOLM the Ada Holm?", "Ada Holm", "this") == "Is this the this?"
    assert mask_subject("a.b axb", "a.b", "this") == "this axb"
    assert mask_subject("no subject here", "Ada", "this") == "no subject here"


def relation(new: str, old: str, subject: str, encoder: object) -> float:
    """A scorer that knows what matters: 1 when both prompts have the word 'leads'."""
    assert isinstance(encoder, HashingEncoder)
    assert subject == "Norvik"
    return float("leads" in new and "leads" in old)


@pytest.mark.parametrize("scorer", [relation, None])
def test_a_contradiction_in_other_words_is_found(encoder: HashingEncoder, scorer: object) -> None:
    with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:  # type: ignore[arg-type]
        old = memory.add("Who leads Norvik today?", "Ole", subject="Norvik")
        memory.add("What does Norvik sell?", "ships", subject="Norvik")
        with pytest.raises(ConflictError, match=r"same subject '[Nn]orvik'.*score [01]\.\d\d, threshold") as caught:
            memory.add("Today who leads Norvik?", "Ada", subject="norvik" if scorer is None else "Norvik")
        assert caught.value.existing_id == old.id
        memory.add("Today who leads Norvik?", "ole.", subject="Norvik")
        report = memory.add_many(
            [{"prompt": "Norvik who leads, today?", "target": "Ada", "subject": "Norvik"}], on_conflict="supersede"
        )
        assert old.id in report.superseded
        assert sorted(edit.target for edit in memory.list()) == ["Ada", "ships"]


def test_rows_of_one_batch_are_judged_against_each_other_in_order(encoder: HashingEncoder) -> None:
    rows = [
        {"prompt": prompt, "target": target, "subject": subject}
        for prompt, target, subject in [
            ("Who leads Norvik today?", "Ole", "Norvik"),
            ("What does Norvik sell?", "ships", "Norvik"),
            ("Who leads Tern today?", "Bo", "Tern"),
            ("Today who leads Norvik?", "Ada", "Norvik"),
            ("today Norvik who leads", "Ida", "Norvik"),
        ]
    ]
    with EditMemory(encoder=encoder) as memory:
        report = memory.add_many(rows, on_conflict="supersede")
        assert [edit.target for edit in memory.list()] == ["ships", "Bo", "Ida"]
        assert report.superseded == (report.ids[0], report.ids[3])
        assert memory.get(report.ids[0]).version == 2
        assert memory.verify().ok
        assert memory.add_many(rows, on_conflict="supersede").added == ()


def test_a_large_group_about_one_subject_is_judged_as_pairs_would_be(encoder: HashingEncoder) -> None:
    rng = np.random.default_rng(0)
    words = ["leads", "sells", "owns", "likes", "paints", "breaks", "moves", "finds"]
    rows = [
        {
            "prompt": f"What {' '.join(rng.choice(words, 3))} does Norvik have",
            "target": f"t{i % 3}",
            "subject": "Norvik",
        }
        for i in range(700)
    ]
    scorer = MaskedPromptScorer()
    with EditMemory(encoder=encoder) as fast:
        found = fast.add_many(rows, on_conflict="keep")
        short = found.ids[:120]
        pairs = {(c.new_id, c.existing_id) for c in found.conflicts if c.new_id in short}
        with EditMemory(encoder=encoder, conflict_scorer=scorer.__call__, conflict_threshold=scorer.threshold) as slow:
            again = slow.add_many(rows[:120], on_conflict="keep")
            number = {edit_id: i for i, edit_id in reversed(list(enumerate(again.ids)))}
            mine = {edit_id: i for i, edit_id in reversed(list(enumerate(found.ids)))}
            assert {(number[c.new_id], number[c.existing_id]) for c in again.conflicts} == {
                (mine[a], mine[b]) for a, b in pairs
            }
            assert pairs


def test_masked_prompts_are_encoded_once(encoder: HashingEncoder) -> None:
    scorer = MaskedPromptScorer()
    before = encoder.encoded
    first = scorer.vectors(["a X b", "c X", "a Y b"], ["X", "X", "Y"], encoder)
    assert encoder.encoded == before + 2
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(scorer.vectors(["a X b"], ["X"], encoder)[0], first[0])
    assert encoder.encoded == before + 2
    assert scorer("a X b", "a X b", "X", encoder) == pytest.approx(1, abs=1e-5)


class AlikeScorer:
    """Says that prompts with the same last word ask the same, and counts what it is asked."""

    threshold = 0.5

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def scores(self, pairs, encoder):
        self.asked += pairs
        return np.array([float(new.split()[-1] == old.split()[-1]) for new, old, _ in pairs], np.float32)


def test_a_pair_scorer_judges_pairs_of_a_subject_that_are_worded_alike(encoder: HashingEncoder) -> None:
    scorer = AlikeScorer()
    with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:
        first = memory.add("Ana lives now in the town", "Belava", subject="Ana")
        memory.add("Ana lives now in the house", "number 7", subject="Ana")
        assert scorer.asked == [("Ana lives now in the house", "Ana lives now in the town", "Ana")]
        memory.add("what trade did Ana learn", "smith", subject="Ana")
        assert len(scorer.asked) == 1
        with pytest.raises(ConflictError, match=first.id):
            memory.add("Ana lives in the town", "Cerra", subject="Ana")


def test_of_many_edits_of_a_subject_the_most_similar_are_judged(encoder: HashingEncoder) -> None:
    scorer = AlikeScorer()
    with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:
        things = ["".join(chr(97 + i * k % 26) for k in (3, 5, 7, 11)) for i in range(26)]
        memory.add_many(
            [
                EditDraft(f"Ana owns just one thing that people call {thing}", thing.upper(), subject="Ana")
                for thing in things
            ]
        )
        scorer.asked.clear()
        memory.add(f"Ana owns just one thing that people call {things[7]} again", "x", subject="Ana")
        assert len(scorer.asked) == 16
        assert scorer.asked[0][1] == f"Ana owns just one thing that people call {things[7]}"
