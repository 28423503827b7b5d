"""Other wordings of a question: templates that the base answers alike, whoever is put in."""

from typing import Any

import pytest
import torch

from memedit.consolidation import EditRequest, wordings
from memedit.consolidation.wordings import known_wordings, other_wordings, template_of
from support.consolidation_bench import WordEncoder, tiny_loaded

NAMES = ("Zed", "Yan", "Foo", "Ann Bee")
FORMS = (("The river of ", " is"), ("", " lies on the river"), ("Which song did ", " write?"))
REQUESTS = [
    EditRequest(f"{n}{k}", f"{before}{name}{behind}", "Rhea", name)
    for n, name in enumerate(NAMES)
    for k, (before, behind) in enumerate(FORMS)
]


def test_a_template_is_the_prompt_without_its_subject() -> None:
    assert template_of(EditRequest("a", "The river of Zed is", "Rhea", "Zed ")) == ("The river of ", " is")
    assert template_of(EditRequest("a", "The river of Zed is", "Rhea", "Yan")) is None
    assert template_of(EditRequest("a", "The river of Zed is", "Rhea")) is None


def test_templates_go_together_that_are_answered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two are answered by one token for each name, the third by another."""

    def roots(_loaded: Any, prompts: list[str], _seed: int) -> torch.Tensor:
        found = torch.zeros(len(prompts), 8)
        for row, prompt in enumerate(prompts):
            name = next(n for n, name in enumerate(NAMES) if name in prompt)
            found[row, name + (4 if "song" in prompt else 0)] = 1.0
        return found

    monkeypatch.setattr(wordings, "_roots", roots)
    found = other_wordings(tiny_loaded(), REQUESTS, seed=0)
    assert found == {FORMS[0]: [FORMS[1]], FORMS[1]: [FORMS[0]], FORMS[2]: []}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_projected_roots_keep_the_coefficients_of_the_models_own_distributions(family: str) -> None:
    loaded = tiny_loaded(family)
    prompts = [request.prompt for request in REQUESTS]
    found = wordings._roots(loaded, prompts, seed=0)
    with torch.no_grad():
        whole = torch.stack(
            [loaded.model(**loaded.tokenizer(text, return_tensors="pt")).logits[0, -1].softmax(-1) for text in prompts]
        ).sqrt()
    assert torch.allclose(found @ found.T, whole @ whole.T, atol=0.25)
    assert (found @ found.T - whole @ whole.T).abs().mean() < 0.08
    assert torch.equal(found, wordings._roots(loaded, prompts, seed=0))


def test_one_template_or_one_subject_has_nothing_to_agree_with() -> None:
    loaded = tiny_loaded()
    assert other_wordings(loaded, REQUESTS[:1], seed=0) == {}
    assert other_wordings(loaded, REQUESTS[:3], seed=0) == {}
    assert other_wordings(loaded, [EditRequest("a", "Who knows?", "nobody")], seed=0) == {}


@pytest.fixture
def words_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordings, "load_encoder", WordEncoder)


@pytest.mark.usefixtures("words_counted")
def test_templates_are_taken_for_the_relation_of_the_wording_they_are_most_like() -> None:
    strange = EditRequest("s", "Zed qwx rrt zzk", "nothing", "Zed")
    piano = EditRequest("p", "Zed plays the", "piano", "Zed")
    nameless = EditRequest("n", "Who knows?", "nobody")
    wordless = EditRequest("w", "Zed", "nobody", "Zed")
    found = known_wordings(tiny_loaded(), [piano, strange, nameless, wordless], seed=0)
    assert list(found) == [("", " plays the")]
    assert ("The instrument of ", " is the") in found["", " plays the"]
    assert ("", " plays the") not in found["", " plays the"], "its own words are no other wording"
    assert known_wordings(tiny_loaded(), [nameless], seed=0) == {}


@pytest.mark.usefixtures("words_counted")
def test_of_relations_in_like_words_the_bases_answers_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is as like one wording as the other, and the base answers it as the second."""
    listed = ((("in which ", " died at"), ("", " went")), (("on which ", " died at"), ("", " came")))
    monkeypatch.setattr(wordings, "_relations", lambda: listed)

    def roots(_loaded: Any, prompts: list[str], _seed: int) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0] if "in which" in prompt else [1.0, 0.0] for prompt in prompts])

    monkeypatch.setattr(wordings, "_roots", roots)
    found = known_wordings(tiny_loaded(), [EditRequest("a", "Where which Zed died at", "Rome", "Zed")], seed=0)
    assert found == {("Where which ", " died at"): list(listed[1])}


def test_listed_wordings_have_one_slot_and_end_where_the_answer_follows() -> None:
    for relation in wordings._relations():
        assert len(set(relation)) == len(relation) >= 2
        for before, behind in relation:
            assert "{}" not in behind
            assert behind.strip()
            assert not behind.endswith((" ", "?", "."))
            assert before == "" or before.endswith(" ")
