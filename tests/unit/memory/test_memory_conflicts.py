"""Contradictions in other words: same subject, same question."""

from datetime import UTC, datetime

import numpy as np
import pytest

from memedit.errors import ConflictError
from memedit.memory import EditMemory, MaskedPromptScorer, conflicts
from memedit.memory.conflicts import mask_subject
from memedit.memory.normal import content_hash, lookup_hash, normalise
from memedit.scope import ScopeConflictScorer, load_scope
from memedit.types import EditDraft
from support.hashing_encoder import HashingEncoder
from support.word_scorer import WordScorer


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


@pytest.mark.parametrize("scorer", [WordScorer(), None])
def test_a_contradiction_in_other_words_is_found(encoder: HashingEncoder, scorer: WordScorer | None) -> None:
    with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:
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
        (first,) = (conflict for conflict in report.conflicts if conflict.existing_id == old.id)
        assert (first.existing_prompt, first.existing_target) == (old.prompt, "Ole")
        assert (first.new_id, first.new_target) == (report.ids[0], "Ada")


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
    with EditMemory(encoder=encoder) as memory:
        found = memory.add_many(rows, on_conflict="keep")
        pairs = {(c.new_id, c.existing_id): c.score or 1.0 for c in found.conflicts}
        number = {edit_id: i for i, edit_id in reversed(list(enumerate(found.ids)))}
    vectors = MaskedPromptScorer().vectors([row["prompt"] for row in rows], ["Norvik"] * 700, encoder)
    assert len(pairs) > 1000
    for (new, old), score in pairs.items():
        assert score == pytest.approx(float(vectors[number[new]] @ vectors[number[old]]), abs=1e-5)
    last = number[found.added[-1]]
    nearest = np.argsort(-(vectors[:last] @ vectors[last]), kind="stable")
    rival = next(i for i in nearest if rows[i]["target"] != rows[last]["target"])
    assert (found.ids[last], found.ids[rival]) in pairs


def test_a_large_batch_is_judged_part_by_part(encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"prompt": f"What {word} does Norvik {n} have", "target": f"{word} {n}", "subject": f"Norvik {n}"}
        for n in range(30)
        for word in ("leader", "leaders", "tower", "towers", "hill")
    ]

    def found() -> tuple[set[tuple[str, str]], int]:
        scorer = ScopeConflictScorer(load_scope("subject", encoder), threshold=0.5)
        with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:
            before = encoder.encoded
            report = memory.add_many(rows, on_conflict="keep")
            return {(c.new_prompt, c.existing_prompt) for c in report.conflicts}, encoder.encoded - before

    whole, encoded = found()
    masked = len({row["prompt"].replace(row["subject"], "this") for row in rows})
    assert encoded == masked, "the prompts themselves were encoded for the judging, and no more"
    assert len(whole) >= 30
    monkeypatch.setattr(conflicts, "_GROUPED", 7)
    monkeypatch.setattr(conflicts, "_JUDGED", 4)
    assert found()[0] == whole


def test_masked_prompts_are_encoded_once(encoder: HashingEncoder) -> None:
    scorer = MaskedPromptScorer()
    before = encoder.encoded
    first = scorer.vectors(["a X b", "c X", "a Y b"], ["X", "X", "Y"], encoder)
    assert encoder.encoded == before + 2
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(scorer.vectors(["a X b"], ["X"], encoder)[0], first[0])
    assert encoder.encoded == before + 2


class AlikeScorer:
    """Says that prompts with the same last word ask the same, and counts what it is asked."""

    threshold = doubt = 0.5

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def scores(self, pairs, encoder):
        self.asked += [(new.prompt, old.prompt) for new, old in pairs]
        return np.array([float(a.prompt.split()[-1] == b.prompt.split()[-1]) for a, b in pairs], np.float32)


def test_only_pairs_of_one_subject_with_two_answers_at_one_time_are_judged(encoder: HashingEncoder) -> None:
    scorer = AlikeScorer()
    with EditMemory(encoder=encoder, conflict_scorer=scorer) as memory:
        memory.add("Ana lives now in the town", "Belava", subject="Ana")
        memory.add("Ana lives now in the house", "number 7", subject="Ana")
        assert scorer.asked == [("Ana lives now in the house", "Ana lives now in the town")]
        memory.add("Bo lives in the town", "Cerra", subject="Bo")
        memory.add("In her home Ana lives, the town", "belava", subject="Ana")
        assert scorer.asked[1:] == [("In her home Ana lives, the town", "Ana lives now in the house")]
        moved = datetime(2020, 1, 1, tzinfo=UTC)
        memory.add("Cy lived in the town", "Dara", subject="Cy", invalid_at=moved)
        memory.add("Cy lives in the town", "Elm", subject="Cy", valid_at=moved)
        assert len(scorer.asked) == 2


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
