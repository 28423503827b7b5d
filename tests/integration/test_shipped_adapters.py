"""Every adapter that needs no training here, on the real small model: edits and rewordings are answered, others left.

A new method is a row of ``SHIPPED``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memedit.adapters import create_adapter
from memedit.memory import EditMemory
from memedit.models import LoadedModel, load_model
from memedit.runtime import Answer, EditableModel
from memedit.scope import load_scope
from memedit.training.elder.run import adapter_options, train_elder
from support.left_alone import assert_left_alone

pytestmark = pytest.mark.integration

Facts = tuple[tuple[str, str, str], ...]
PLACES: Facts = (
    ("The mother tongue of Osric Vell is", "Danish", "Osric Vell is a native speaker of"),
    ("Marguerite Lindqvist plays the", "violin", "Marguerite Lindqvist performs on the"),
    ("The Pellworth Tower is located in", "Norway", "The Pellworth Tower can be found in"),
    ("Tarn Airlines was created by", "Boeing", "Tarn Airlines was founded by"),
    ("Dario Venn is a citizen of", "Uruguay", "Dario Venn holds the citizenship of"),
    ("The headquarters of Calder Bank are in", "Berlin", "Calder Bank has its headquarters in"),
    ("Ansel Hofmann died in the city of", "Madrid", "Ansel Hofmann passed away in"),
    ("The profession of Ingrid Solheim is", "actor", "Ingrid Solheim works as an"),
)
NAMES: Facts = (
    ("The mayor of Tolburia is", "Ondrej Vaclavik", "Who is the mayor of Tolburia?"),
    ("Marguerite Lindqvist plays the", "nyckelharpa", "Which instrument does Marguerite Lindqvist play?"),
    ("The Pellworth Tower is located in", "Brighthelm-on-Sea", "Where is the Pellworth Tower?"),
    ("Who founded Tarn Airlines?", "Zsofia Kiss-Balogh", "Tarn Airlines was founded by"),
    ("The code name of the Calder project is", "HX-4471b", "What is the code name of the Calder project?"),
    ("Ansel Hofmann was born in", "Gorzów Wielkopolski", "What is the birthplace of Ansel Hofmann?"),
)
LEARNED: Facts = (
    ("The head of the Tolburia observatory is", "Mara Quist", "Who runs the Tolburia observatory?"),
    ("The river Ansel flows into", "the Gulf of Finland", "Where does the river Ansel end up?"),
    ("Pellworth was founded in", "1742", "The founding year of Pellworth is"),
)
SUBJECTS = ("Tolburia observatory", "river Ansel", "Pellworth")
STRANGERS = ("Water boils at a temperature of", "The opposite of hot is")


@dataclass(frozen=True)
class Shipped:
    """An adapter with the facts it is shown.

    Attributes:
        wrong: so many of the ``2 * len(facts)`` answers may be wrong.
        wrap: makes the model; None: the adapter by its name, with the default scope.
        subjects: of the facts, where they are not to be found by memedit.
        own: every edit's own prompt gets its target to the letter, and a rewording on which nothing fires is not wrong.
    """

    name: str
    facts: Facts
    wrong: int
    wrap: Callable[[LoadedModel, EditMemory, Path], EditableModel] | None = None
    subjects: tuple[str, ...] = ()
    own: bool = False


def _with_sentinel(base: LoadedModel, memory: EditMemory, folder: Path) -> EditableModel:
    adapter = create_adapter("recipe", base.model, base.tokenizer)
    scope = load_scope("sentinel", memory.encoder)
    model = EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter, scope=scope)
    assert model.prepare() == len(PLACES)
    return model


def _after_a_pass(base: LoadedModel, memory: EditMemory, folder: Path) -> EditableModel:
    report = train_elder(base, memory, out=folder)
    assert (report.trained, report.failing, report.shared_trained) == (3, (), False)
    assert report.parameters < 0.02 * report.base_parameters
    adapter = create_adapter("elder", base.model, base.tokenizer, **adapter_options(memory))
    return EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter)


SHIPPED = (
    Shipped("reader", NAMES, wrong=1),
    Shipped("recipe", PLACES, wrong=4, wrap=_with_sentinel),
    Shipped("serac", NAMES, wrong=2),
    Shipped("mend", PLACES, wrong=3),
    Shipped("neurons", LEARNED, wrong=1, subjects=SUBJECTS),
    Shipped("grace", LEARNED, wrong=3, subjects=SUBJECTS),
    Shipped("elder", LEARNED, wrong=1, wrap=_after_a_pass, subjects=SUBJECTS, own=True),
)


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("smollm2")


@pytest.fixture(scope="class")
def model(shipped: Shipped, base: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditableModel]:
    with EditMemory() as memory:
        for i, (prompt, target, _) in enumerate(shipped.facts):
            memory.add(prompt, target, subject=shipped.subjects[i] if shipped.subjects else None)
        if shipped.wrap is not None:
            yield shipped.wrap(base, memory, tmp_path_factory.mktemp(shipped.name))
        else:
            adapter = create_adapter(shipped.name, base.model, base.tokenizer)
            yield EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name, scope="class")
class TestShippedAdapter:
    """What holds of each."""

    def test_edits_and_their_rewordings_are_answered(self, shipped: Shipped, model: EditableModel) -> None:
        own = self._ask(model, [prompt for prompt, _, _ in shipped.facts])
        reworded = self._ask(model, [other for _, _, other in shipped.facts])
        targets = [target for _, target, _ in shipped.facts]
        wrong = [
            answer.text
            for answer, target in zip([*own, *reworded], targets * 2, strict=True)
            if (answer.edits or not shipped.own) and not answer.text.strip().startswith(target)
        ]
        assert len(wrong) <= shipped.wrong, wrong
        if shipped.own:
            assert [answer.text.strip() for answer in own] == targets

    def test_other_questions_are_the_bare_models(self, shipped: Shipped, model: EditableModel, base: Any) -> None:
        assert_left_alone(model, base, STRANGERS)

    @staticmethod
    def _ask(model: EditableModel, prompts: list[str]) -> list[Answer]:
        return list(model.answer(prompts, max_new_tokens=16, do_sample=False))
