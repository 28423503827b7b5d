"""A first hop that only the model knows: when it is asked for, what of its answer counts, and when it is not."""

import pytest
from transformers import LlamaForCausalLM

from memedit.cli.text import chain_text
from memedit.memory import EditMemory
from memedit.runtime import EditableModel, Router
from memedit.runtime.base_says import BaseNames
from memedit.runtime.chains.first_hop import nested_parts
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer
from support.word_scope import WordScope

QUESTION = "What is the capital of the country where Ann Ray was born?"


@pytest.fixture
def memory():
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        for land, town in (("Norland", "Nordby"), ("Suland", "Sunstad")):
            memory.add(f"The capital of {land} is", town, subject=land, on_conflict="keep")
        yield memory


class Base:
    """Says one thing, and notes what it was asked."""

    def __init__(self, says):
        self.says, self.asked = says, []

    def __call__(self, phrase):
        self.asked.append(phrase)
        return self.says


def decide(memory, question, base, **options):
    (decision,) = Router(memory, WordScope(), chains="on", **options).decide([question], base=base)
    return decision


def test_the_model_answers_the_first_hop_and_an_edit_the_second(memory):
    base = Base(" Norland.\nThe capital of Spain is Madrid.")
    decision = decide(memory, QUESTION, base)
    assert base.asked == ["the country where Ann Ray was born"]
    assert [hit.edit.target for hit in decision.fired] == ["Nordby"]
    assert decision.asked == "What is the capital of Norland?"
    assert [(hop.question, hop.value) for hop in decision.chain] == [
        ("the country where Ann Ray was born", "Norland"),
        ("The capital of Norland is", "Nordby"),
    ]
    assert (decision.chain[0].edit_id, decision.by_model) == ("", False)
    assert chain_text(decision.chain).startswith("the country where Ann Ray was born -> Norland (the model) | ")


@pytest.mark.parametrize("says", ["Westland", "", " .", "I do not know", "the country"])
def test_what_names_no_subject_of_an_edit_that_fires_counts_for_nothing(memory, says):
    decision = decide(memory, QUESTION, Base(says))
    assert (decision.fired, decision.chain, decision.asked) == ((), (), None)


@pytest.mark.parametrize(
    "question",
    [
        "Who is the president of the country where Ann Ray was born?",  # no edit says this of any country
        "What is the capital of Westland?",
        "What is the capital of Norland?",  # an edit answers it
        "Where was Ann Ray born, and when?",
        "What is the age of the woman who sings?",  # no name
    ],
)
def test_the_model_is_not_asked_where_wording_or_memory_give_no_reason(memory, question):
    base = Base("Norland")
    decide(memory, question, base)
    assert base.asked == []


def test_a_first_hop_that_an_edit_holds_is_not_the_models(memory):
    memory.add("The country where Ann Ray was born is", "Suland", subject="Ann Ray", on_conflict="keep")
    base = Base("Norland")
    decision = decide(memory, QUESTION, base)
    assert [hit.edit.target for hit in decision.fired] == ["Sunstad"]
    assert base.asked == []


def test_what_the_model_says_leads_into_no_other_namespace(memory):
    memory.add("The mayor of Graz is", "Ana Brill", subject="Graz", namespace="other")
    assert decide(memory, QUESTION, Base("Norland"), namespace="other").chain == ()


def test_edits_go_on_from_what_the_model_says(memory):
    memory.add("The mayor of Nordby is", "Ole Berg", subject="Nordby", on_conflict="keep")
    decision = decide(memory, "Who is the mayor of the capital of the country where Ann Ray was born?", Base("Norland"))
    assert [hop.value for hop in decision.chain][-1:] in (["Ole Berg"], [])  # silent, or right


def test_a_model_is_asked_once_and_its_answer_is_kept(memory):
    model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), chains="on")
    passes = []
    real = LlamaForCausalLM.generate
    model.base.generate = lambda *a, **k: passes.append(k) or real(model.base, *a, **k)
    first, second = model.explain(QUESTION), model.explain(QUESTION)
    assert first == second
    assert len(passes) == 1
    assert passes[0]["max_new_tokens"] <= 16
    model.explain("What is the capital of Westland?")
    assert len(passes) == 1


def test_no_control_token_comes_of_a_question_on_its_way_to_the_model(memory):
    tokenizer, given = tiny_tokenizer(), []

    def generate(options):
        given.append(options["input_ids"])
        return options["input_ids"]

    names = BaseNames(tokenizer, generate, device=lambda: "cpu", pad=lambda: 0)
    names("the country where <|im_end|> was born")
    special = {*tokenizer.all_special_ids} - {tokenizer.bos_token_id}
    assert not special & set(given[0][0].tolist())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (QUESTION, "the country where Ann Ray was born"),
        ("Who leads the state in which the Blue Tower stands?", "the state in which the Blue Tower stands"),
        ("What is the capital of Norland?", None),
        ("Who was the first person to walk on the Moon?", None),
        ("", None),
        ("A", None),
    ],
)
def test_a_question_within_a_question_is_seen_by_its_wording(text, parts):
    found = [part.asked for part in nested_parts(text)]
    assert found == [] if parts is None else parts in found
