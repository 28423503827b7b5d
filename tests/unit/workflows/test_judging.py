"""Edits are asked in words that nobody stored, and what they do there decides who answers yet other words."""

import pytest

from memedit.consolidation.base import EditRequest
from memedit.consolidation.wordings import template_of
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.types import Edit
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.checking import check_edits
from memedit.workflows.consolidate.judging import drawn_wordings, judged
from memedit.workflows.consolidate.settings import JobSettings
from support.hashing_encoder import HashingEncoder
from support.taught_model import answer_of, other_than, prompt_of, taught_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return taught_model()


@pytest.fixture(scope="module")
def edits() -> list[Edit]:
    """Two that the model answers, one that it does not."""
    with EditMemory(encoder=HashingEncoder(8)) as memory:
        targets = {"a": answer_of("a"), "b": answer_of("b"), "c": other_than("c")}
        return [memory.add(prompt_of(subject), target, subject=subject) for subject, target in targets.items()]


@pytest.mark.parametrize(("least", "any_wording"), [(1.0, [True, False, False]), (0.75, [True, True, False])])
def test_other_words_are_the_weights_where_those_asked_were(
    loaded: LoadedModel, edits: list[Edit], least: float, any_wording: list[bool]
) -> None:
    answerer, settings = BareAnswerer(loaded), JobSettings(least_right=least)
    known, unknown = "of {} is", "zzzzzzzz"
    said = {"a": [known] * 3, "b": [known, known, unknown], "c": [known] * 3}
    wordings = {edit.id: [words.format(edit.subject) for words in said[edit.subject or ""]] for edit in edits}
    checks = judged(answerer, check_edits(answerer, edits, settings), wordings, settings)
    assert [check.generated for check in checks] == [(True, True, True), (True, True, False), ()]
    assert [check.any_wording for check in checks] == any_wording
    few = {edit_id: texts[:2] for edit_id, texts in wordings.items()}
    assert not any(check.any_wording for check in judged(answerer, checks, few, settings))


def test_wordings_are_drawn_from_all_sources_and_some_stand_behind_a_text() -> None:
    request = EditRequest("one", "The capital of Freedonia is", "Sylvania", "Freedonia")
    template = template_of(request)
    assert template is not None
    near = {template: [("", " is ruled from"), ("The seat of ", " is"), ("", "'s capital is")]}
    far = {template: [("In ", " one flies to"), ("The seat of ", " is")]}
    drawn = drawn_wordings(request, template, [near, far], ["It rains."], 8)
    assert len(drawn) == 4
    assert [text.startswith("It rains. ") for text in drawn] == [False, True, False, True]
    assert all("Freedonia" in text for text in drawn)
    assert drawn == drawn_wordings(request, template, [near, far], ["It rains."], 8), "the same every time"
    assert drawn_wordings(request, template, [{}], ["It rains."], 8) == []
