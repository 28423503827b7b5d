"""``memedit eval hops`` and ``memedit bench recheck``: what is stored, what is asked, and what counts as right."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.bench import recheck
from memedit.bench.hops import read_cases, run
from memedit.errors import DatasetError, InputError
from memedit.index import Reading
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer
from support.word_scope import WordScope


def case(maker: str, country: str, *, edited: int = 0) -> dict[str, Any]:
    triples = [["Falcon Pro", "maker", maker], [maker, "country", country]]
    hops = [
        {"question": "The maker of the Falcon Pro is", "cloze": "The maker of the Falcon Pro is", "answer": maker},
        {"question": f"The country that {maker} belongs to is", "cloze": f"The country that {maker} belongs to is",
         "answer": country, "answer_alias": [country.upper()]},
    ]  # fmt: skip
    rewrite = {"subject": triples[edited][0], "prompt": "{}", "target_new": {"str": triples[edited][2]}}
    questions = ["What is the country that the maker of the Falcon Pro belongs to?", "Whose is the Falcon Pro?"]
    return {
        "requested_rewrite": [rewrite],
        "questions": questions,
        "new_answer": country,
        "new_single_hops": hops,
        "orig": {"new_triples_labeled": triples},
    }


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def model() -> Any:
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        yield EditableModel(
            tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context", chains="on"
        )


def test_cases_are_asked_from_one_memory_and_hop_by_hop(tmp_path: Path, model: Any) -> None:
    cases = read_cases(write(tmp_path / "cases.jsonl", [case("Arn Works", "Norland")]))
    assert [hop.edited for hop in cases[0].hops] == [True, False]
    found = run(model, cases)
    assert (found["by_case"]["value"], found["by_case"]["n"]) == (100.0, 1)
    assert found["hop_wise"]["value"] == 100.0
    assert found["by_question"]["value"] == 50.0  # the other wording names no hop
    assert found["stored"] == 2
    assert found["rows"][0]["chains"][0][-1]["value"] == "Norland"
    json.dumps(found)


def test_with_the_edits_alone_the_other_hops_are_the_models(tmp_path: Path, model: Any) -> None:
    cases = read_cases(write(tmp_path / "cases.jsonl", [case("Arn Works", "Norland")]))
    found = run(model, cases, edits_only=True)
    assert found["stored"] == 1
    assert found["by_case"]["value"] == found["ceiling"]["value"] == 0.0  # an untrained model knows nothing
    assert "hop_wise" not in found
    assert found["rows"][0]["chains"][0][-1]["edit_id"] == ""


def test_of_contradicting_cases_the_later_counts(tmp_path: Path, model: Any) -> None:
    rows = [case("Old Works", "Suland"), case("Arn Works", "Norland")]
    found = run(model, read_cases(write(tmp_path / "cases.jsonl", rows)))
    assert (found["contradicted"], found["by_case"]["n"]) == (1, 1)


def test_rows_of_another_form_are_refused(tmp_path: Path) -> None:
    row = case("Arn Works", "Norland")
    row["orig"] = {"new_triples_labeled": []}
    with pytest.raises(DatasetError, match="a triple for every hop"):
        read_cases(write(tmp_path / "cases.jsonl", [row]))
    with pytest.raises(InputError, match="there are no cases"):
        run(None, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "subject", "value", "found"),
    [
        ("In all the Harbour Library closes at 6 p.m.", "Harbour Library", "6 p.m.",
         ("6 p.m", "In all the Harbour Library closes at")),
        ("In all the Harbour Library closes at six.", "Harbour Library", "six", None),  # no name and no number
        ("By 1900 the old Harbour Library was built.", "Harbour Library", "1900", None),  # said before the subject
        ("Harbour Library is Ann's.", "Harbour Library", "Ann", None),  # too little before it
        ("In all of the towns by the sea it closes at 6.", None, "6", None),
    ],
)  # fmt: skip
def test_what_an_answer_says_becomes_a_fact(text: str, subject: str | None, value: str, found: Any) -> None:
    spans = [None if part is None else (text.index(part), text.index(part) + len(part)) for part in (subject, value)]
    fact = recheck._fact("When?", Reading(text, *spans))
    assert (None if fact is None else (fact.value, fact.prompt)) == found


def test_other_values_are_of_the_same_kind() -> None:
    facts = [recheck.Fact("q", "p", "s", value) for value in ("1900", "1850", "Ann", "Bea", "Ann")]
    values = recheck._other_values(facts, 0)
    assert values[:2] == ["1850", "1900"]
    assert values[2:4] == ["Bea", "Ann"]
    assert recheck._other_values(facts[:1], 0) == ["Maren Bay"]
