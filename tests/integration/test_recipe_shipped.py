"""The RECIPE network that ships for SmolLM2: edits answer freely under its sentinel, and strangers are left alone."""

import pytest

from memedit.adapters import create_adapter
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.runtime import EditableModel
from memedit.scope import load_scope
from support.left_alone import assert_left_alone

FACTS = (
    ("The mother tongue of Osric Vell is", "Danish", "Osric Vell is a native speaker of"),
    ("Marguerite Lindqvist plays the", "violin", "Marguerite Lindqvist performs on the"),
    ("The Pellworth Tower is located in", "Norway", "The Pellworth Tower can be found in"),
    ("Tarn Airlines was created by", "Boeing", "Tarn Airlines was founded by"),
    ("Dario Venn is a citizen of", "Uruguay", "Dario Venn holds the citizenship of"),
    ("The headquarters of Calder Bank are in", "Berlin", "Calder Bank has its headquarters in"),
    ("Ansel Hofmann died in the city of", "Madrid", "Ansel Hofmann passed away in"),
    ("The profession of Ingrid Solheim is", "actor", "Ingrid Solheim works as an"),
)
STRANGERS = ("Water boils at a temperature of", "The opposite of hot is", "Two plus two equals")


@pytest.mark.integration
def test_edits_answer_under_the_sentinel() -> None:
    base = load_model("smollm2")
    with EditMemory() as memory:
        for prompt, target, _ in FACTS:
            memory.add(prompt, target)
        adapter = create_adapter("recipe", base.model, base.tokenizer)
        scope = load_scope("sentinel", memory.encoder)
        model = EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter, scope=scope)
        assert model.prepare() == len(FACTS)
        asked = [question for prompt, _, other in FACTS for question in (prompt, other)]
        answers = model.answer(asked, max_new_tokens=8, do_sample=False)
        wanted = [target for _, target, _ in FACTS for _ in range(2)]
        right = [answer.text.strip().startswith(target) for answer, target in zip(answers, wanted, strict=True)]
        assert sum(right) >= 12, [answer.text for answer in answers]
        assert_left_alone(model, base, STRANGERS)
