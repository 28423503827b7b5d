"""The mixture that ships for SmolLM2: a few edits are learned from it, answered freely, and others left alone."""

from pathlib import Path

import pytest

from memedit.adapters import create_adapter
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.runtime import EditableModel
from memedit.training.elder.run import adapter_options, train_elder
from support.left_alone import assert_left_alone

FACTS = (
    (
        "The head of the Tolburia observatory is",
        "Mara Quist",
        "Tolburia observatory",
        "Who runs the Tolburia observatory?",
    ),
    ("The river Ansel flows into", "the Gulf of Finland", "river Ansel", "Where does the river Ansel end up?"),
    ("Pellworth was founded in", "1742", "Pellworth", "The founding year of Pellworth is"),
)


@pytest.mark.integration
def test_edits_are_learned_over_the_shipped_mixture(tmp_path: Path) -> None:
    base = load_model("smollm2")
    with EditMemory(tmp_path / "edits.db") as memory:
        for prompt, target, subject, _ in FACTS:
            memory.add(prompt, target, subject=subject)
        report = train_elder(base, memory, out=tmp_path / "out")
        assert (report.trained, report.failing, report.shared_trained) == (3, (), False)
        assert report.parameters < 0.02 * report.base_parameters
        adapter = create_adapter("elder", base.model, base.tokenizer, **adapter_options(memory))
        model = EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter)
        own = model.answer([fact[0] for fact in FACTS], max_new_tokens=12, do_sample=False)
        assert [answer.text.strip() for answer in own] == [fact[1] for fact in FACTS]
        other = model.answer([fact[3] for fact in FACTS], max_new_tokens=12, do_sample=False)
        routed = [answer for answer in other if answer.edits]
        assert sum(answer.text.strip() == answer.edits[0].edit.target for answer in routed) >= len(routed) - 1
        assert_left_alone(model, base, ["Water boils at a temperature of"])
