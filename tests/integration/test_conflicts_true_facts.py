"""Two true facts never contradict each other, a contradiction in other words is found: real encoder, default scope."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memedit.encoders import Encoder, load_encoder
from memedit.errors import ConflictError
from memedit.memory import EditMemory
from memedit.scope import load_scope

pytestmark = pytest.mark.integration
Fact = tuple[str, str]

PAIRS: dict[str, tuple[Fact, Fact]] = {
    "born where and when": (
        ("Where was Orla Fenwick born?", "Oslo"),
        ("When was Orla Fenwick born?", "on 3 March 1971"),
    ),
    "father and mother": (("Who is Tilde Marsh's father?", "Karl"), ("Who is Tilde Marsh's mother?", "Ines")),
    "phone and e-mail": (
        ("What is the phone number of the Tolburia clinic?", "555-0100"),
        ("What is the e-mail of the Tolburia clinic?", "help@clinic.example"),
    ),
    "two quarters": (
        ("What was Umbra Ltd's revenue in Q1 2024?", "4.1 million"),
        ("What was Umbra Ltd's revenue in Q2 2024?", "4.6 million"),
    ),
    "maximum and minimum": (
        ("What is the maximum speed of the Halden X2?", "180 km/h"),
        ("What is the minimum speed of the Halden X2?", "12 km/h"),
    ),
    "two models": (
        ("What is the maximum speed of the Halden X2?", "180 km/h"),
        ("What is the maximum speed of the Halden X3?", "195 km/h"),
    ),
    "two days": (
        ("When does the ferry to Sorn leave on Mondays?", "7:10"),
        ("When does the ferry to Sorn leave on Tuesdays?", "7:40"),
    ),
    "died when and where": (("When did Rolf Dane die?", "in 1999"), ("Where did Rolf Dane die?", "in Bergen")),
    "two years": (
        ("Who won the men's Kestrel Cup in 2020?", "Ida Roth"),
        ("Who won the Kestrel Cup in 2021?", "Tom Vey"),
    ),
}
CONTRADICTION: tuple[Fact, Fact] = (
    ("When does the Harbour Street Library open?", "at 9:30"),
    ("What time does Harbour Street Library open its doors?", "at 10"),
)


def cases() -> list[object]:
    return [pytest.param(*pair, id=name) for name, pair in PAIRS.items()]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("minilm")


@pytest.fixture
def memory(encoder: Encoder) -> Iterator[EditMemory]:
    with EditMemory(encoder=encoder) as found:
        yield found


def as_file(path: Path, facts: tuple[Fact, Fact]) -> Path:
    path.write_text("\n".join(json.dumps({"prompt": prompt, "target": target}) for prompt, target in facts))
    return path


@pytest.mark.parametrize(("first", "second"), cases())
def test_two_true_facts_are_both_stored_and_each_fires_on_its_own_question(
    memory: EditMemory, encoder: Encoder, tmp_path: Path, first: Fact, second: Fact
) -> None:
    for fact in (first, second):
        memory.add(*fact)
    report = memory.import_file(
        as_file(tmp_path / "facts.jsonl", (first, second)), on_conflict="supersede", namespace="copy"
    )
    assert (report.superseded, report.conflicts, len(report.added)) == ((), (), 2)
    queries = encoder.encode_tokens([first[0], second[0]])
    decisions = load_scope("default", encoder).decide(queries, memory.candidates(queries))
    assert [[hit.edit.target for hit in decision.fired] for decision in decisions] == [[first[1]], [second[1]]]


def test_a_contradiction_in_other_words_is_refused_and_superseded(memory: EditMemory, tmp_path: Path) -> None:
    old, new = CONTRADICTION
    first = memory.add(*old)
    with pytest.raises(ConflictError) as caught:
        memory.add(*new)
    assert caught.value.existing_id == first.id
    assert caught.value.new_id != first.id
    report = memory.import_file(as_file(tmp_path / "facts.jsonl", CONTRADICTION), on_conflict="supersede")
    assert report.superseded == (first.id,)
    assert [edit.target for edit in memory.list()] == [new[1]]
