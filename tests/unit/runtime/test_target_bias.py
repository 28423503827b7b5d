"""A target mixed into decoding: to the letter for its own prompt, a nudge elsewhere, nothing once an answer differs."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList

from memedit.adapters.base import Row
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.runtime.continuous import ContinuousBatch, Job, TokenChoice
from memedit.runtime.target_bias import VERBATIM, TargetMixer, TargetPrior, blank_tokens, mixed, target_prior
from memedit.types import Edit, Hit
from support.asking import Asking
from support.facts import CAPITAL, MAYOR
from support.hashing_encoder import HashingEncoder

GREEDY: dict[str, Any] = {"max_new_tokens": 24, "do_sample": False}
NEG = float("-inf")


def surely(edit: Edit) -> Hit:
    """Return a hit whose target is certain to be what is asked for."""
    return Hit(edit, 0.9, 0.8, target_probability=1.0)


@pytest.fixture
def asking(llama: Any, tokenizer: Any, facts: EditMemory) -> EditableModel:
    return EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=Asking(0.2))


def test_a_verbatim_prompt_is_answered_by_the_target_and_ends(asking, tokenizer):
    answers = asking.answer([CAPITAL, "hello there", MAYOR], **GREEDY)
    assert answers[0].text.strip() == "Sylvania City"
    assert answers[2].text.strip() == "Ada Quill"
    assert answers[0].token_ids[-1] == tokenizer.eos_token_id
    bare = asking.base.generate(**tokenizer("hello there", return_tensors="pt"), **GREEDY)
    width = len(tokenizer("hello there")["input_ids"])
    assert answers[1].token_ids == tuple(bare[0, width:].tolist())[: len(answers[1].token_ids)]


def test_beams_and_samples_say_it_too(asking):
    for options in ({"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 3}):
        torch.manual_seed(1)
        said = [answer.text.strip() for answer in asking.answer([CAPITAL], max_new_tokens=24, **options)]
        assert said[0] == "Sylvania City", said


def test_weight_zero_and_adapters_that_do_not_ask_leave_decoding_alone(llama, tokenizer, facts, asking):
    silent = EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=Asking(0.0))
    bare = EditableModel.wrap(llama, tokenizer)
    assert silent.answer([CAPITAL], **GREEDY)[0].token_ids == bare.answer([CAPITAL], **GREEDY)[0].token_ids
    row = Row((1,), CAPITAL)
    hit = surely(asking.memory.list()[0])
    assert target_prior(Asking(0.2), tokenizer, row, [hit, hit], chat=False) is None, "two facts: no one target"


def test_another_wording_gets_the_adapters_weight_and_a_stored_one_the_verbatim_weight(tokenizer):
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(CAPITAL, "Sylvania City", subject="Freedonia", paraphrases=["Freedonia is ruled from"])
        (edit,) = memory.list()
    weights = {
        text: target_prior(Asking(0.2), tokenizer, Row((1,), text), [surely(edit)], chat=False).weight
        for text in (CAPITAL, CAPITAL.upper() + "?", "Freedonia is ruled from", "Freedonia has its seat in")
    }
    assert list(weights.values()) == [VERBATIM, VERBATIM, VERBATIM, 0.2]


def test_the_less_direct_a_question_the_less_say_its_edit_has(tokenizer, facts):
    edit = facts.list()[0]
    row = Row((1,), "The river of the capital of Freedonia is")
    weights = [
        target_prior(Asking(0.4), tokenizer, row, [Hit(edit, 0.9, 0.8, target_probability=direct)], chat=False).weight
        for direct in (1.0, 0.5, 0.05)
    ]
    assert weights == pytest.approx([0.4, 0.2, 0.02])
    unknown = target_prior(Asking(0.4), tokenizer, row, [Hit(edit, 0.9, 0.8)], chat=False)
    assert unknown.weight == pytest.approx(0.2), "a scope that cannot tell counts as even"


def test_a_space_stands_in_front_only_where_the_prompt_leaves_room_for_one(tokenizer, facts):
    edit = facts.list()[0]
    asked = {
        (text, chat): target_prior(Asking(0.2), tokenizer, Row((1,), text), [surely(edit)], chat=chat).ids
        for text, chat in ((CAPITAL, False), (CAPITAL + " ", False), (CAPITAL, True))
    }
    spaced, behind_space, in_chat = asked.values()
    assert tokenizer.decode(spaced[:-1]) == f" {edit.target}"
    assert tokenizer.decode(behind_space[:-1]) == tokenizer.decode(in_chat[:-1]) == edit.target


def test_scores_follow_the_same_mixture_as_decoding(asking, tokenizer):
    bare = EditableModel.wrap(asking.base, tokenizer)
    (plain,) = bare.score([CAPITAL], [" Sylvania City"])
    (mixed,) = asking.score([CAPITAL], [" Sylvania City"])
    expected = torch.logaddexp(
        torch.tensor(plain.logprobs) + torch.tensor(1 - VERBATIM).log(), torch.tensor(VERBATIM).log()
    )
    assert torch.allclose(torch.tensor(mixed.logprobs), expected, atol=1e-4), "but for the blanks held back at first"
    (away,) = asking.score([CAPITAL], [" elsewhere"])
    (away_bare,) = bare.score([CAPITAL], [" elsewhere"])
    assert away.logprobs[-1] == pytest.approx(away_bare.logprobs[-1], abs=1e-4), "off the target the model is alone"


def test_a_laid_out_target_is_said_whole_with_its_first_weight(llama, tokenizer):
    target = "1. Get it.\n2. Run  it.\n" * 4
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(CAPITAL, target, subject="Freedonia")
        model = EditableModel.wrap(llama, tokenizer, memory, scope="subject", adapter=Asking(0.2))
        (score,) = model.score([CAPITAL], [f" {target}"])
        assert score.total >= torch.tensor(VERBATIM).log() - 1e-4, "and not as often as its tokens multiply up to"
        (answer,) = model.answer([CAPITAL], max_new_tokens=200, do_sample=False)
        assert answer.text == f" {target}"


def test_rows_of_a_running_batch_are_mixed_like_those_of_generate(asking, tokenizer):
    edit = next(edit for edit in asking.memory.list() if edit.prompt == CAPITAL)
    ids = tuple(tokenizer(CAPITAL)["input_ids"])
    own = asking.generator.target_prior(Row(ids, CAPITAL), [surely(edit)])
    end = frozenset({tokenizer.eos_token_id})
    jobs = [
        Job("edited", Row(ids, CAPITAL), ids, limit=24, ends=end, edits=(edit,), prior=own),
        Job("bare", Row(ids, CAPITAL), ids, limit=24, ends=end),
        Job("warm", Row(ids, CAPITAL), ids, limit=24, ends=end, prior=own, choice=TokenChoice(0.5, seed=3)),
    ]
    batch = ContinuousBatch(asking.base, tokenizer.pad_token_id or 0, asking.adapter)
    batch.join([[job] for job in jobs])
    while len(batch):
        batch.step()
    assert tuple(jobs[0].tokens) == asking.answer([CAPITAL], **GREEDY)[0].token_ids
    bare = EditableModel.wrap(asking.base, tokenizer).answer([CAPITAL], **GREEDY)[0]
    assert tuple(jobs[1].tokens) == bare.token_ids
    assert tuple(jobs[2].tokens) == tuple(jobs[0].tokens)


class _Forbids(LogitsProcessor):
    def __init__(self, token: int) -> None:
        self._token = token

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores[:, self._token] = NEG
        return scores


def test_a_token_that_the_caller_rules_out_stays_out(asking, tokenizer):
    first = tokenizer(" Sylvania City", add_special_tokens=False)["input_ids"][0]
    (answer,) = asking.answer([CAPITAL], logits_processor=LogitsProcessorList([_Forbids(first)]), **GREEDY)
    assert answer.token_ids[0] != first
    (answer,) = asking.answer([CAPITAL], bad_words_ids=[[first]], **GREEDY)
    assert answer.token_ids[0] != first


@given(
    scores=st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6),
    target=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    said=st.lists(st.integers(0, 5), max_size=5),
    weight=st.floats(0.01, 0.99),
)
def test_a_mixture_is_a_distribution_and_leaves_other_answers_alone(scores, target, said, weight):
    given_scores, own = torch.tensor(scores), TargetPrior(tuple(target), weight)
    found = mixed(given_scores[None], [own], [said])[0]
    if len(said) < len(target) and target[: len(said)] == said:
        expected = given_scores.softmax(-1) * (1 - weight)
        expected[target[len(said)]] += weight
        assert torch.allclose(found.exp(), expected, atol=1e-5)
    else:
        assert torch.equal(found, given_scores)


def test_an_answer_does_not_begin_with_nothing_but_may_go_on_with_it(tokenizer):
    blanks = blank_tokens(tokenizer)
    assert tokenizer.eos_token_id in blanks
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert len(newline) == 1
    assert newline[0] in blanks
    scores, five = torch.zeros(1, len(tokenizer)), torch.zeros(1, len(tokenizer))
    scores[0, newline[0]] = five[0, 5] = 15.0
    own = TargetPrior((5, 6), 0.2, blanks)
    assert int(mixed(scores, [own], [[]]).argmax()) == 5
    assert int(mixed(scores, [own], [[5]]).argmax()) == newline[0], "a fifth does not outweigh certainty"
    laid = TargetPrior((5, 6), 0.2, blanks, laid_out=True)
    assert int(mixed(scores, [laid], [[]]).argmax()) == 5
    assert int(mixed(scores, [laid], [[5]]).argmax()) == 6, "the model would not have said 5: the target is being said"
    laid = TargetPrior((5, 6), 0.2, blanks, laid_out=True)
    assert int(mixed(five, [laid], [[]]).argmax()) == 5
    assert int(mixed(scores, [laid], [[5]]).argmax()) == newline[0], "it would have: there is no telling"
    only = torch.full_like(scores, NEG)
    only[0, newline[0]] = 0.0
    assert int(mixed(only, [own], [[]]).argmax()) == newline[0], "the caller allows nothing else"


def test_rows_without_a_target_come_out_as_they_went_in():
    scores = torch.randn(4, 9)
    found = TargetMixer([None, TargetPrior((3,), 0.5)], width=2)(torch.zeros(4, 2, dtype=torch.long), scores)
    assert torch.equal(found[:2], scores[:2])
    assert not torch.equal(found[2:], scores[2:])
