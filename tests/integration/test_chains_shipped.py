"""Chains of edits under the shipped scope, on the real encoder; no language model is needed to look them up."""

import pytest

from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.scope import load_scope

pytestmark = pytest.mark.integration

EDITS = [
    ("The Falcon Pro is produced by", "Arn Works", "Falcon Pro"),
    ("What does a Falcon Pro cost?", "90 euros", "Falcon Pro"),
    ("Who is the chief executive officer of Arn Works?", "Ida Holm", "Arn Works"),
    ("The headquarters of Arn Works is located in the city of", "Tolburia", "Arn Works"),
    ("Ida Holm is a citizen of", "Norland", "Ida Holm"),
    ("What is the capital of Norland?", "Skarn", "Norland"),
    ("The official language of Norland is", "Norric", "Norland"),
]
CHAINS = [
    ("Who is the CEO of the company that makes the Falcon Pro?", ["Arn Works", "Ida Holm"]),
    ("In which city does the maker of the Falcon Pro have its headquarters?", ["Arn Works", "Tolburia"]),
    ("What is the capital of the country of citizenship of Ida Holm?", ["Norland", "Skarn"]),
    (
        "What is the official language of the country that the boss of Arn Works is a citizen of?",
        ["Ida Holm", "Norland", "Norric"],
    ),
    (
        "What is the capital of the country that the CEO of the maker of the Falcon Pro is a citizen of?",
        ["Arn Works", "Ida Holm", "Norland", "Skarn"],
    ),
]
SINGLE = [
    ("Which company makes the Falcon Pro?", "Arn Works"),
    ("how much is a falcon pro", "90 euros"),
    ("Which country is Ida Holm a citizen of?", "Norland"),
    ("Name the capital city of Norland.", "Skarn"),
]
SILENT = [
    "How heavy is the Falcon Pro?",
    "When was Arn Works founded?",
    "Does Ida Holm like sailing?",
    "What is 2 + 2?",
    "Translate to French: Who is the chief executive officer of Arn Works?",
    "Translate to French: What is the capital of Norland?",
    'How do I say "What does a Falcon Pro cost?" in German?',
    "Count the words in this question: Which country is Ida Holm a citizen of?",
    "Don't tell me what the Falcon Pro costs; tell me a joke.",
]


@pytest.fixture(scope="module")
def router():
    with EditMemory(":memory:") as memory:
        memory.add_many([{"prompt": p, "target": t, "subject": s} for p, t, s in EDITS], on_conflict="keep")
        scope = load_scope("default", memory.encoder)
        yield Router(memory, scope, chains="auto")


@pytest.mark.parametrize(("question", "values"), CHAINS)
def test_the_right_chain_is_found(router, question, values):
    (decision,) = router.decide([question])
    assert [hop.value for hop in decision.chain] == values
    assert [hit.edit.target for hit in decision.fired] == values[-1:]


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("What is the anthem of the country that Ida Holm is a citizen of?", "What is the anthem of Norland?"),
        ("Which language is spoken in the city where Arn Works is headquartered?",
         "Which language is spoken in Tolburia?"),
    ],
)  # fmt: skip
def test_what_no_edit_says_the_model_is_asked(router, question, asked):
    (decision,) = router.decide([question])
    assert decision.by_model
    assert decision.asked == asked


@pytest.mark.parametrize(("question", "value"), SINGLE)
def test_a_single_edit_keeps_its_question(router, question, value):
    (decision,) = router.decide([question])
    assert [hit.edit.target for hit in decision.fired] == [value]
    assert decision.chain == ()


@pytest.mark.parametrize("question", SILENT)
def test_questions_that_no_edit_answers_stay_silent(router, question):
    (decision,) = router.decide([question])
    assert decision.fired == ()


@pytest.mark.parametrize(
    ("question", "said", "target"),
    [
        ("What is the capital of the country where Mozart was born?", "Norland", "Skarn"),
        ("Who is the CEO of the company that makes the Kestrel Max?", "Arn Works", "Ida Holm"),
        ("What is the official language of the country that Ann Ray comes from?", "Norland", "Norric"),
    ],
)
def test_a_first_hop_that_the_model_knows_leads_to_an_edit(router, question, said, target):
    (decision,) = router.decide([question], base=lambda phrase: f"{said}.")
    assert [hit.edit.target for hit in decision.fired] == [target]
    assert [hop.value for hop in decision.chain] == [said, target]
    assert router.decide([question])[0].fired == ()


@pytest.mark.parametrize(
    "question",
    [
        "How high is the tallest mountain of the country where Mozart was born?",
        "Which team won the cup in the year that Ann Ray was elected?",
        "Who wrote the book on which the film Amadeus is based?",
        "What was the name of the ship that brought Ann Ray to the island?",
    ],
)
def test_a_question_that_no_edit_could_end_is_not_put_to_the_model(router, question):
    asked = []
    (decision,) = router.decide([question], base=lambda phrase: asked.append(phrase) or "Norland")
    assert (asked, decision.fired) == ([], ())


@pytest.mark.parametrize(
    ("question", "target"),
    [
        ("Which company serves as the producer of the Falcon Pro?", "Arn Works"),
        ("Which country is the CEO of Arn Works a citizen of?", "Norland"),
        ("From which country does the CEO of Arn Works come?", "Norland"),
    ],
)
def test_an_answer_stops_at_what_is_asked_for(router, question, target):
    (decision,) = router.decide([question])
    assert [hit.edit.target for hit in decision.fired] == [target]
    assert decision.asked is None or target not in decision.asked
