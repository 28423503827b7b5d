"""Answers held to structures: in every way of generating, alone and in company, with targets where they belong."""

import json
from collections.abc import Sequence
from typing import Any

import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.adapters.base import Row
from memedit.errors import StructureError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel, Structure
from memedit.runtime.continuous import ContinuousBatch, Job, TokenChoice, generate_whole
from memedit.runtime.structured import Grammars
from memedit.runtime.structured.fields import Fields, fit_of
from memedit.runtime.structured.json_place import JsonText
from memedit.types import Route, ScopeDecision
from support.asking import Asking
from support.facts import CAPITAL
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

TEXT = {"type": "string", "maxLength": 6}
SCHEMA = {
    "type": "object",
    "properties": {"name": TEXT, "rank": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "rank"],
    "additionalProperties": False,
}
LENGTH: dict[str, Any] = {"max_new_tokens": 90}
GREEDY: dict[str, Any] = {**LENGTH, "do_sample": False}


class Person(pydantic.BaseModel):
    """What is asked for."""

    name: str = pydantic.Field(max_length=6)
    rank: int = pydantic.Field(ge=0, le=99)


def check(text: str) -> None:
    Person.model_validate(json.loads(text))


@pytest.fixture
def asking(llama: Any, tokenizer: Any, facts: EditMemory) -> EditableModel:
    return EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=Asking(0.9))


@pytest.mark.parametrize("structured", [SCHEMA, Person, Structure.json(SCHEMA), Structure.json(json.dumps(SCHEMA))])
@pytest.mark.parametrize(
    "options",
    [
        GREEDY,
        {**LENGTH, "do_sample": True, "num_return_sequences": 3, "top_k": 4},
        {**GREEDY, "num_beams": 3, "num_return_sequences": 2},
    ],
)
def test_answers_hold_to_a_schema_however_they_are_generated(
    asking: EditableModel, structured: Any, options: Any
) -> None:
    torch.manual_seed(0)
    prompts = [CAPITAL, "hello there", [{"role": "user", "content": "a chat"}], "x"]
    answers = asking.answer(prompts, batch_size=3, structured=structured, **options)
    assert len(answers) == 4 * options.get("num_return_sequences", 1)
    for answer in answers:
        check(answer.text)
    assert answers[0].edits
    assert not answers[-1].edits


def test_an_answer_is_the_same_alone_in_company_and_in_pieces(asking: EditableModel) -> None:
    prompts = [CAPITAL, "hello there", "x"]
    together = asking.answer(prompts, structured=SCHEMA, **GREEDY)
    alone = [asking.answer(prompt, structured=SCHEMA, **GREEDY)[0] for prompt in prompts]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    for prompt, answer in zip(prompts, together, strict=True):
        with asking.stream(prompt, structured=SCHEMA, **GREEDY) as stream:
            assert "".join(stream) == answer.text
    assert asking.chat([{"role": "user", "content": "x"}], structured=Structure.choice(["a", "bc"]), **GREEDY).text in (
        "a",
        "bc",
    )


def test_without_a_structure_nothing_changes(asking: EditableModel) -> None:
    before = asking.answer("hello there", **GREEDY)[0].token_ids
    asking.answer("hello there", structured=SCHEMA, **GREEDY)
    assert asking.answer("hello there", **GREEDY)[0].token_ids == before


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"properties": {"capital": {"type": "string"}}}, {"capital": "Sylvania City"}),
        ({"properties": {"x": TEXT, "theCapital": {"type": ["null", "string"]}, "y": TEXT}},
         {"theCapital": "Sylvania City"}),
        ({"properties": {"a": {"type": "object", "properties": {"answer": {}}, "required": ["answer"]}}},
         {"a": {"answer": "Sylvania City"}}),
        ({"properties": {"z": {"enum": ["Rome", "SYLVANIA city"]}}}, {"z": "SYLVANIA city"}),
        ({"properties": {"z": {"$ref": "#/$defs/Q"}}, "$defs": {"Q": {"type": "string", "title": "A capital"}}},
         {"z": "Sylvania City"}),
        ({"properties": {"capitals": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}}},
         {"capitals": ["Sylvania City"]}),
    ],
)  # fmt: skip
def test_a_target_stands_in_the_value_that_is_about_it(
    asking: EditableModel, schema: Any, wanted: dict[str, Any]
) -> None:
    whole = {"type": "object", "additionalProperties": False, "required": list(schema["properties"]), **schema}
    found = json.loads(asking.answer(CAPITAL, structured=whole, **GREEDY)[0].text)
    assert wanted.items() <= found.items(), found


@pytest.mark.parametrize(
    ("target", "kind", "value"),
    [
        ("1,234", {"type": "integer"}, 1234),
        ("about 4.5 km", {"type": "number"}, 4.5),
        ("−61", {"type": "integer"}, -61),
        ("Yes.", {"type": "boolean"}, True),
        ('say "a\\b"\nc', {"type": "string"}, 'say "a\\b"\nc'),
        ("Ærø 日本", {"type": "string"}, "Ærø 日本"),
        ("42", {"type": ["string", "integer"]}, "42"),
    ],
)  # fmt: skip
def test_a_target_is_written_as_its_value_is(
    llama: Any, tokenizer: Any, facts: EditMemory, target: str, kind: Any, value: Any
) -> None:
    facts.add("The x of Borduria is", target, subject="Borduria")
    model = EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=Asking(0.9))
    schema = {"type": "object", "properties": {"x": kind}, "required": ["x"], "additionalProperties": False}
    assert json.loads(model.answer("The x of Borduria is", structured=schema, **GREEDY)[0].text) == {"x": value}
    assert json.loads(model.answer("The x of Borduria is", structured=kind, **GREEDY)[0].text) == value


def test_a_target_that_the_structure_does_not_take_is_left_to_the_model(asking: EditableModel) -> None:
    schema = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 4}}, "required": ["capital"]}
    found = json.loads(asking.answer(CAPITAL, structured=schema, **GREEDY)[0].text)
    assert len(found["capital"]) <= 4
    assert asking.answer(CAPITAL, structured=Structure.choice(["Rome", "Oslo"]), **GREEDY)[0].text in ("Rome", "Oslo")


def test_a_target_follows_what_a_pattern_begins_with(asking: EditableModel) -> None:
    said = asking.answer(CAPITAL, structured=Structure.regex("It is called ([A-Z][a-z]+ ?)+"), **GREEDY)[0].text
    assert said == "It is called Sylvania City"
    said = asking.answer(CAPITAL, structured=Structure.grammar('root ::= "<" [^<>]+ ">"'), **GREEDY)[0].text
    assert said.startswith("<Sylvania City")


def test_two_edits_each_have_their_own_value(asking: EditableModel) -> None:
    properties = {"mayor": {"type": "string"}, "capital": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    answer = asking.answer("The capital of Freedonia and the mayor of Gotham", structured=schema, **GREEDY)[0]
    assert len(answer.edits) == 2
    assert json.loads(answer.text) == {"mayor": "Ada Quill", "capital": "Sylvania City"}


def ids(text: str) -> tuple[int, ...]:
    return tuple(tiny_tokenizer()(text)["input_ids"])


def grammars() -> Grammars:
    return Grammars(tiny_tokenizer(), 259, frozenset({2}))


def job(text: str, structure: Structure | None = None, **options: Any) -> Job:
    constraint = None if structure is None else grammars().compile(structure).constraint()
    options = {"limit": 90, "ends": frozenset({2}), **options}
    return Job(text, Row(ids(text), text), ids(text), constraint=constraint, **options)


def run(jobs: Sequence[Job], batch: ContinuousBatch) -> dict[Any, list[Any]]:
    steps = batch.join([[one] for one in jobs])
    while len(batch):
        steps += batch.step()
    return {one.key: [step for step in steps if step.job is one] for one in jobs}


def said(one: Job) -> str:
    return str(tiny_tokenizer().decode(one.tokens, skip_special_tokens=True))


def test_rows_of_a_running_batch_have_structures_of_their_own() -> None:
    model = tiny_model("llama")
    warm = TokenChoice(temperature=1.2, seed=4, top_k=9)
    jobs = [job("a"), job("b", Structure.json(SCHEMA)), job("c", Structure.regex("[xy]{4}"), choice=warm),
            job("d", Structure.json(SCHEMA), choice=warm, logprobs=5)]  # fmt: skip
    steps = run(jobs, ContinuousBatch(model, 0, None))
    check(said(jobs[1]))
    check(said(jobs[3]))
    assert set(said(jobs[2])) <= set("xy")
    assert len(said(jobs[2])) == 4
    free = job("a")
    run([free], ContinuousBatch(model, 0, None))
    assert free.tokens == jobs[0].tokens
    assert all(logprob > float("-inf") for step in steps["d"] for _, logprob in step.top), (
        "what may not come is not told"
    )
    assert steps["b"][-1].last
    assert jobs[1].whole


def test_a_row_whose_structure_fails_leaves_the_others_alone() -> None:
    class Failing:
        over = False

        def follow(self, _: Any) -> None:
            raise StructureError("too complex")

    broken, fine = job("a"), job("b", Structure.json(SCHEMA))
    broken.constraint = Failing()  # type: ignore[assignment]
    steps = run([broken, fine], ContinuousBatch(tiny_model("llama"), 0, None))
    assert isinstance(steps["a"][-1].error, StructureError)
    check(said(fine))


def test_a_row_goes_on_where_it_was_after_a_failed_pass() -> None:
    model = tiny_model("llama")
    whole, broken = job("b", Structure.json(SCHEMA)), job("b", Structure.json(SCHEMA))
    run([whole], ContinuousBatch(model, 0, None))
    batch = ContinuousBatch(model, 0, None)
    batch.join([[broken]])
    for _ in range(3):
        batch.step()
    batch.clear()
    run([broken], batch)
    assert broken.tokens == whole.tokens


def test_models_that_are_answered_one_by_one_hold_to_structures_too(asking: EditableModel) -> None:
    structure = Structure.json(SCHEMA)
    prompt, silent = "hello there", ScopeDecision("hello there", "none", 1.0, (), ())
    jobs = [job(prompt, structure), job(prompt, structure, choice=TokenChoice(temperature=1.0, seed=2))]
    generate_whole(asking, prompt, Route(0, silent, None), jobs, lambda _: True, structured=structure)
    for one in jobs:
        check(said(one))


def test_no_answer_can_be_compiled_from_nonsense() -> None:
    for wrong in (5, "text", [SCHEMA]):
        with pytest.raises(StructureError, match="structure"):
            EditableModel.wrap(tiny_model("llama"), tiny_tokenizer()).answer("x", structured=wrong)
    for make in (lambda: Structure.choice([]), lambda: Structure.regex(" "), lambda: Structure.json({"a": {1, 2}}),
                 lambda: Structure.choice(["a", ""]), lambda: Structure.regex("\ud800")):  # fmt: skip
        with pytest.raises(StructureError):
            make()


def test_equal_structures_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = grammars()
    assert known.compile(Structure.json(SCHEMA)) is known.compile(Structure.json(dict(SCHEMA)))
    for number in range(70):
        known.compile(Structure.regex(f"a{{{number + 1}}}"))
    assert len(known._known) == 64
    monkeypatch.setattr("memedit.runtime.structured.grammars._KEPT_TEXT", 100)
    large = known.compile(Structure.regex("b" * 90))
    assert known.compile(Structure.regex("b" * 90)) is large
    assert 1 <= len(known._known) < 4, "large ones take the place of more"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\é ,:{}[]', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(json_values, st.sampled_from([None, 1]), st.integers(1, 5))
def test_the_place_in_a_json_text_is_found_however_it_comes(value: Any, indent: int | None, step: int) -> None:
    data = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    text = JsonText()
    for at in range(0, len(data), step):
        text.add(data[at : at + step])
    text.add(b"\n")
    leaves: list[tuple[tuple[Any, ...], Any]] = []

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        if isinstance(node, dict):
            for key, part in node.items():
                walk(part, (*path, key))
        elif isinstance(node, list):
            for number, part in enumerate(node):
                walk(part, (*path, number))
        else:
            leaves.append((path, node))

    walk(value, ())
    assert [(place.path, json.loads(place.said)) for place in text.values] == leaves


def test_names_say_which_value_is_meant() -> None:
    about = frozenset({"birthplace", "capital"})
    fields = Fields.of({"type": "object", "properties": {"Capital_City": {}, "answer": {}, "n": {"type": "null"}}})
    assert {leaf.path: fit_of(leaf, about)[0] for leaf in fields.leaves} == {("Capital_City",): 3, ("answer",): 1}
    cyclic = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}, "b": {}}}}}
    assert ("b",) in [leaf.path for leaf in Fields.of(cyclic).leaves]
