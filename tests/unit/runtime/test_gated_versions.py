"""Of one batch some rows run on the frozen base, some on a version's weights, some under an adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch

from memedit.consolidation.records import WeightScope
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.facts import CAPITAL, MAYOR
from support.saved_version import version_of
from support.tiny import tiny_model, tiny_tokenizer

OTHER = ["Tell me of the weather", "One, two,", "The capital of France is"]
GREEDY: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}


def opened(folder: Path, memory: EditMemory, family: str, scope: WeightScope, **known: Any) -> EditableModel:
    """Open a version that holds the first of two facts."""
    made = version_of(folder / "version", family, memory.list()[:1], scope=scope, **known)
    return EditableModel.from_pretrained(made, memory=memory, scope="subject", adapter="in_context")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_each_row_of_a_batch_meets_the_weights_that_answer_it(facts: EditMemory, tmp_path: Path, family: str) -> None:
    gated = opened(tmp_path, facts, family, WeightScope.GATED)
    always = opened(tmp_path / "plain", facts, family, WeightScope.ALWAYS)
    base = EditableModel.wrap(tiny_model(family), tiny_tokenizer(), facts, scope="subject", adapter="in_context")
    before = {name: tensor.clone() for name, tensor in gated.base.state_dict().items()}
    prompts = [OTHER[0], CAPITAL, OTHER[1], MAYOR, OTHER[2]]
    plan = gated.plan(prompts)
    assert (plan.weight_rows, plan.edited_rows) == ((1,), (3,))
    mixed, bare = gated.answer(prompts, **GREEDY), base.answer(prompts, **GREEDY)
    for row in (0, 2, 3, 4):
        assert mixed[row].token_ids == bare[row].token_ids, "the base's, or the adapter's on the base"
    assert mixed[1].token_ids == always.answer([CAPITAL], **GREEDY)[0].token_ids
    assert mixed[1].token_ids != base.base.generate(**_fed(base, [CAPITAL]), **GREEDY)[0].tolist()[-6:]
    assert all(torch.equal(before[name], tensor) for name, tensor in gated.base.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_row_of_the_base_is_the_bases_to_the_bit(facts: EditMemory, tmp_path: Path, family: str) -> None:
    gated = opened(tmp_path, facts, family, WeightScope.GATED)
    prompts = [OTHER[0], CAPITAL, OTHER[1]]
    options = {**GREEDY, "return_dict_in_generate": True, "output_logits": True}
    fed = _fed(gated, prompts)
    mixed, bare = gated.generate(**fed, **options), tiny_model(family).generate(**fed, **options)
    for one, other in zip(mixed.logits, bare.logits, strict=True):
        assert torch.equal(one[[0, 2]], other[[0, 2]])
        assert not torch.allclose(one[1], other[1])


def test_beams_of_a_row_meet_its_weights(facts: EditMemory, tmp_path: Path) -> None:
    gated = opened(tmp_path, facts, "llama", WeightScope.GATED)
    options = {**GREEDY, "num_beams": 3, "num_return_sequences": 2}
    alone = [gated.generate(**_fed(gated, [prompt]), **options)[:, -6:] for prompt in (OTHER[1], CAPITAL)]
    fed = _fed(gated, [OTHER[1], CAPITAL])
    assert torch.equal(gated.generate(**fed, **options)[:, -6:], torch.cat(alone))


def test_scores_go_by_the_same_weights(facts: EditMemory, tmp_path: Path) -> None:
    gated = opened(tmp_path, facts, "llama", WeightScope.GATED)
    always = opened(tmp_path / "plain", facts, "llama", WeightScope.ALWAYS)
    base = EditableModel.wrap(tiny_model("llama"), tiny_tokenizer(), facts, scope="subject", adapter="in_context")
    prompts, targets = [OTHER[0], CAPITAL, MAYOR], [" x", " Sylvania", " Ada"]
    found = gated.score(prompts, targets)
    wanted = [
        base.score([OTHER[0]], targets[:1]),
        always.score([CAPITAL], targets[1:2]),
        base.score([MAYOR], targets[2:]),
    ]
    for one, (other,) in zip(found, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_without_an_edit_in_force_a_gated_version_is_the_base(facts: EditMemory, tmp_path: Path) -> None:
    gated = opened(tmp_path, facts, "llama", WeightScope.GATED)
    for edit in facts.list():
        facts.delete(edit.id)
    fed = _fed(gated, [CAPITAL, OTHER[1]])
    assert torch.equal(gated.generate(**fed, **GREEDY), tiny_model("llama").generate(**fed, **GREEDY))


def test_talks_and_words_that_the_weights_fail_at_are_the_memorys(facts: EditMemory, tmp_path: Path) -> None:
    facts.update(facts.list()[0].id, paraphrases=["Freedonia is ruled from"])
    known = {"stored": (True, False), "asked": 4, "right": 3, "any_wording": False}
    gated = opened(tmp_path, facts, "llama", WeightScope.GATED, **known)
    talk = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": CAPITAL},
    ]
    asked = [CAPITAL, "Freedonia is ruled from", f"Say it: {CAPITAL}", talk, talk[-1:]]
    routes = gated.plan(asked).routes
    assert [len(route.decision.in_weights) for route in routes] == [1, 0, 0, 0, 1]
    assert [len(route.fired) for route in routes] == [0, 1, 1, 1, 0]


def test_what_comes_up_in_an_answer_is_the_memorys(facts: EditMemory, tmp_path: Path) -> None:
    gated = opened(tmp_path, facts, "llama", WeightScope.GATED)
    (spoken,) = gated._router.decide_spoken([f"As is well known, {CAPITAL}"], chat=False)
    assert (len(spoken.fired), spoken.in_weights) == (1, ())


def _fed(model: EditableModel, prompts: list[str]) -> dict[str, Any]:
    batch = model.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
