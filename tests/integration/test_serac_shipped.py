"""The counterfactual model that ships for SmolLM2: it says targets it has never seen, and strangers go to the base."""

import pytest

from memedit.adapters import create_adapter
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.runtime import EditableModel
from support.left_alone import assert_left_alone

FACTS = (
    ("The mayor of Tolburia is", "Ondrej Vaclavik", "Who is the mayor of Tolburia?"),
    ("Marguerite Lindqvist plays the", "nyckelharpa", "Which instrument does Marguerite Lindqvist play?"),
    ("The Pellworth Tower is located in", "Brighthelm-on-Sea", "Where is the Pellworth Tower?"),
    ("Who founded Tarn Airlines?", "Zsofia Kiss-Balogh", "Tarn Airlines was founded by"),
    ("The code name of the Calder project is", "HX-4471b", "What is the code name of the Calder project?"),
    ("Ansel Hofmann was born in", "Gorzów Wielkopolski", "What is the birthplace of Ansel Hofmann?"),
)
STRANGERS = ("Water boils at a temperature of", "The opposite of hot is", "Who wrote Moby-Dick?")


@pytest.mark.integration
def test_edits_are_said_to_the_letter() -> None:
    base = load_model("smollm2")
    with EditMemory() as memory:
        for prompt, target, _ in FACTS:
            memory.add(prompt, target)
        adapter = create_adapter("serac", base.model, base.tokenizer)
        model = EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter)
        asked = [question for prompt, _, other in FACTS for question in (prompt, other)]
        answers = model.answer(asked, max_new_tokens=16, do_sample=False)
        wanted = [target for _, target, _ in FACTS for _ in range(2)]
        right = [answer.text.strip() == target for answer, target in zip(answers, wanted, strict=True)]
        assert sum(right) >= 10, [answer.text for answer in answers]
        assert_left_alone(model, base, STRANGERS)
