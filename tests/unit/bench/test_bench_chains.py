"""``memedit bench chains``: facts in order, questions through several of them, and what counts as right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memedit.bench.chain_files import read_facts, read_questions, says
from memedit.bench.chain_rows import Asking, check_rows, compared
from memedit.bench.chains import filler, run, run_sizes
from memedit.errors import DatasetError, InputError
from memedit.evaluation.report.chains_page import chains_page
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer
from support.word_scope import WordScope

FACTS = (
    ("Falcon Pro", "The maker of the {} is", "Old Works", "maker"),
    ("Norland", "The anthem of {} is", "Ode to Snow", "anthem"),
    ("Arn Works", "The country that {} belongs to is", "Norland", "country"),
    ("Falcon Pro", "The maker of the {} is", "Arn Works", "maker"),
)
QUESTIONS = (
    {
        "hops": 1,
        "questions": ["The maker of the Falcon Pro is"],
        "answer": "Arn Works",
        "aliases": ["Arn"],
        "chain": [3],
    },
    {
        "hops": 2,
        "questions": ["What is the country that the maker of the Falcon Pro belongs to?"],
        "answer": "Norland",
        "chain": [3, 2],
    },
    {
        "hops": 3,
        "questions": ["What is the anthem of the country that the maker of the Falcon Pro belongs to?", "Other words?"],
        "answer": "Ode to Snow",
        "chain": [3, 2, 1],
    },
)


def write(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    facts = [
        {"serial": number, "prompt": prompt.format(subject), "subject": subject, "target": target, "relation": relation}
        for number, (subject, prompt, target, relation) in enumerate(FACTS)
    ]
    return write(tmp_path / "facts.jsonl", reversed(facts)), write(tmp_path / "questions.jsonl", QUESTIONS)


@pytest.mark.parametrize(("policy", "several"), [("on", 100.0), ("off", 0.0)])
def test_figures_and_rows(files: tuple[Path, Path], policy: Any, several: float) -> None:
    facts, questions = read_facts(files[0]), read_questions(files[1])
    assert [fact.serial for fact in facts] == [0, 1, 2, 3]
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        # the whole say in decoding is the edit's: an untrained model follows nothing else
        model = EditableModel(
            tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context", chains=policy
        )
        seen: list[tuple[int, int]] = []
        found = run(model, facts, questions, unrelated=3, progress=lambda done, total: seen.append((done, total)))
    assert found["one_hop"]["value"] == 100.0
    assert (found["several_hops"]["value"], found["several_hops"]["n"]) == (several, 2)
    assert {hops: share["value"] for hops, share in found["by_hops"].items()} == {"2": several, "3": several}
    assert (found["unrelated_identical"]["value"], found["unrelated_identical"]["n"]) == (100.0, 3)
    assert (found["in_force"], found["newest"], found["wrongly_retired"]) == (3, 3, 0)
    assert [hop["value"] for hop in found["rows"][2]["chain"]] == (
        ["Arn Works", "Norland", "Ode to Snow"] if several else []
    )
    assert seen == [(3, 6), (6, 6)]
    json.dumps(found)


def test_an_edit_that_is_retired_though_nothing_newer_says_otherwise_is_counted(files: tuple[Path, Path]) -> None:
    facts = read_facts(files[0])
    apart = [facts[0], type(facts[0])(9, facts[0].prompt, facts[0].subject, "90 euros", "price")]
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context")
        memory.add("The maker of the Falcon Pro is", "Oldest Works", subject="Falcon Pro")
        found = run(model, apart, read_questions(files[1])[:1], unrelated=0)
    assert (found["in_force"], found["newest"], found["wrongly_retired"], found["filled"]) == (1, 2, 1, 1)
    assert found["unrelated_identical"] == {"value": None, "n": 0}


def test_an_answer_is_right_where_a_name_stands_in_it_as_words() -> None:
    assert says("It is SÃO Paulo, of course.", ["Sao Paulo"])
    assert not says("Parish", ["Paris"])
    assert says("US", ["us"])
    assert not says("Ask us again.", ["us"])
    assert not says("", ["Paris"])


def test_files_of_another_form_are_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    with pytest.raises(DatasetError, match="expected an object with hops, questions, answer"):
        read_questions(files[0])
    for row in ({**QUESTIONS[0], "hops": "one"}, {**QUESTIONS[0], "questions": []}, ["no object"]):
        with pytest.raises(DatasetError, match="questions"):
            read_questions(write(tmp_path / "wrong.jsonl", [row]))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{", "utf-8")
    with pytest.raises(DatasetError, match="no JSON object"):
        read_facts(broken)
    with pytest.raises(DatasetError, match="no such file"):
        filler(f"{tmp_path / 'absent.jsonl'}:10")


def test_nothing_to_ask_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="0 facts and 0 questions"):
        run(None, [], [])  # type: ignore[arg-type]


def test_the_memory_is_filled_first(tmp_path: Path) -> None:
    row = {"prompt": "P of S is", "target_new": "T", "subject": "S", "ground_truth": "G"}
    row |= {"rephrase_prompt": "S has P", "locality_prompt": "P of X is", "locality_ground_truth": "Y", "case_id": 1}
    path = write(tmp_path / "fill.jsonl", [row, {**row, "subject": "R", "prompt": "P of R is", "case_id": 2}])
    assert [draft.subject for draft in filler(f"{path}:1")] == ["S"]
    assert len(filler(str(path))) == 2


def test_other_ways_are_asked_the_same_and_drawn(files: tuple[Path, Path], tmp_path: Path) -> None:
    facts, questions = read_facts(files[0]), read_questions(files[1])
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        model = EditableModel(
            tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context", chains="on"
        )
        seen: list[tuple[int, int]] = []
        ways = check_rows("off, oracle,context,topk")
        found = run(
            model, facts, questions, unrelated=0, compare=ways, progress=lambda done, total: seen.append((done, total))
        )
        few = compared(Asking(model, facts, questions[:1]), ["context"])
        unsaid = [replace(question, chain=()) for question in questions]
        assert compared(Asking(model, facts, unsaid), ["oracle"])["oracle"]["one_hop"] == {"value": None, "n": 0}
    assert {name: part["several_hops"]["n"] for name, part in found["compared"].items()} == dict.fromkeys(ways, 2)
    assert found["compared"]["off"]["several_hops"]["value"] == 0.0
    assert found["several_hops"]["value"] == 100.0
    assert few["context"]["one_hop"]["n"] == 1
    assert seen[-1] == (15, 15)
    html = chains_page([found, {**found, "stored": 1000}])
    assert html.count("<svg") == 2
    assert "its own facts given" in html
    assert run_sizes([found])["stored"] == 3
    sizes = run_sizes([found, {**found, "stored": 1000}])
    assert ([row["stored"] for row in sizes["by_size"]], sizes["stored"]) == ([3, 1000], 1000)
    assert chains_page([found]).count("<svg") == 1


def test_facts_that_do_not_fit_into_the_prompt_make_no_row(files: tuple[Path, Path]) -> None:
    facts, questions = read_facts(files[0]), read_questions(files[1])
    many = [replace(facts[0], serial=number, target="word " * 50) for number in range(200)]
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context")
        found = compared(Asking(model, many, questions), ["context"])
    assert found["context"]["several_hops"] == {"value": None, "n": 0}


def test_a_row_of_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="no row guess; there are off, oracle, context, topk"):
        check_rows("off,guess")
    assert check_rows("") == []
