"""Answers that are looked up while they are written: when, what comes up, what is written anew, and what never is."""

import pytest
import torch

from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel, placing
from memedit.runtime.placing import next_ids
from memedit.runtime.recheck import Recheck, Watch, check_recheck
from memedit.runtime.recheck.sentences import Pieces
from memedit.runtime.rows import prompt_row
from memedit.types import ScopeDecision
from support.hashing_encoder import HashingEncoder
from support.teller_model import PROMPT, SENTENCES, TEXT, teller_model
from support.tiny import tiny_tokenizer
from support.word_scope import WordScope

GREEDY = {"max_new_tokens": 80, "do_sample": False}


@pytest.fixture
def memory():
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        yield memory


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch):
    """A model that was taught one text has no opinion on where a value goes."""
    monkeypatch.setattr(placing, "_LIKELY", 0.0)


def teller(memory, **options):
    return EditableModel.wrap(
        teller_model(), tiny_tokenizer(), memory, scope=WordScope(), adapter="in_context", **options
    )


def stored(memory):
    return memory.add("The maker of the Falcon Pro is", "Arn Works", subject="Falcon Pro")


@pytest.mark.parametrize(
    ("policy", "found"), [("off", None), ("sentence", Recheck()), (12, Recheck(12)), ("12", Recheck(12))]
)
def test_a_policy_is_a_word_or_a_number(policy, found):
    assert check_recheck(policy) == found


@pytest.mark.parametrize("policy", ["often", "", 0, -5, 3, "1.5"])
def test_another_policy_is_refused(policy):
    with pytest.raises(InputError, match="is none of off, sentence"):
        check_recheck(policy)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is 3.5 km. Far away! Go", ["It is 3.5 km.", "Far away!", "Go"]),
        ('He said "yes." Then\nhe left.\n', ['He said "yes."', "Then", "he left."]),
        ("図書館です。本がある。", ["図書館です。", "本がある。"]),
        ("", []),
    ],
)
def test_an_answer_is_cut_into_sentences(tokenizer, text, sentences):
    ids, pieces, found = tokenizer(text)["input_ids"], Pieces(tokenizer, None), []
    while (end := pieces.due(ids, ended=True)) is not None:
        if pieces.text(ids, end):
            found.append(pieces.text(ids, end))
        pieces.pass_by(ids, end)
    assert found == sentences


def test_with_a_number_of_tokens_a_sentence_is_looked_up_as_it_grows(tokenizer):
    ids, pieces, found = tokenizer("The shop opens at nine. Then")["input_ids"], Pieces(tokenizer, 10), []
    for size in range(1, len(ids) + 1):
        while (end := pieces.due(ids[:size], ended=False)) is not None:
            found.append(pieces.text(ids, end))
            pieces.pass_by(ids[:size], end)
    assert found == ["The shop o", "The shop opens at ni".strip(), "The shop opens at nine."]


def watched(memory, tokenizer, place, **options):
    """A watch over an edit in memory, and the texts that it looked up."""
    scope, looked = WordScope(), []

    def look(texts):
        looked.extend(texts)
        encodings = memory.encoder.encode_tokens(texts)
        return scope.decide(encodings, memory.candidates(encodings))

    return Watch(tokenizer, Recheck(), look=look, place=place, **options), looked


def test_an_edit_comes_up_where_its_value_would_be_said(memory, tokenizer):
    edit = stored(memory)
    ids = tokenizer(TEXT)["input_ids"]
    cut = TEXT.index(" Old Co.")
    watch, looked = watched(memory, tokenizer, lambda *_: cut)
    found = watch.check(ids, ended=True)
    assert (found.hit.edit.id, found.cut) == (edit.id, cut)
    assert looked == ["Birds sing.", SENTENCES[1].strip(), "The maker of the Falcon Pro is"]
    assert watch.sure == cut
    assert watch.check([*ids[:cut], *tokenizer(" Arn Works. It flies.")["input_ids"]], ended=True) is None


@pytest.mark.parametrize(
    ("text", "place", "applied"),
    [
        ("The maker of the Falcon Pro is Arn Works.", 10, False),  # said already
        ("The maker of the Kestrel is Old Co.", 10, False),  # another subject
        ("The maker of the Falcon Pro is Old Co.", None, False),  # its value has no place
        ("The maker of the Falcon Pro is Old Co.", 30, True),  # in force already
        ("Many old birds in wide fields fly like a Falcon Pro, if its maker wills.", 51, False),  # asks for nothing
    ],
)
def test_what_does_not_come_up(memory, tokenizer, text, place, applied):
    edit = stored(memory)
    watch, _ = watched(memory, tokenizer, lambda *_: place, applied=[edit.id] if applied else [])
    assert watch.check(tokenizer(text)["input_ids"], ended=True) is None


def test_the_answer_goes_on_with_the_value_and_what_was_said_stays(memory):
    edit = stored(memory)
    model = teller(memory, recheck="sentence")
    (bare,) = model.answer(PROMPT, recheck="off", **GREEDY)
    assert bare.text == TEXT
    (answer,) = model.answer(PROMPT, **GREEDY)
    before, value, _ = answer.text.partition(" Arn Works")
    assert value
    assert TEXT.startswith(before)
    assert before.startswith(SENTENCES[0] + " The maker of the Falcon Pro")
    assert [hit.edit.id for hit in answer.edits] == [edit.id]
    assert answer.edits[0].reasons["at_token"] == len(before)
    assert len(answer.token_ids) <= 80


@pytest.mark.parametrize("policy", ["sentence", 8])
def test_streams_and_tensors_say_the_same(memory, policy):
    edit = stored(memory)
    model = teller(memory, recheck=policy)
    (answer,) = model.answer(PROMPT, **GREEDY)
    assert " Arn Works" in answer.text
    with model.stream(PROMPT, **GREEDY) as stream:
        pieces = list(stream)
    assert "".join(pieces) == answer.text
    assert [hit.edit.id for hit in stream.route.fired] == [edit.id]
    row = prompt_row(model.tokenizer, PROMPT)
    both = torch.tensor([list(row.ids), list(row.ids)])
    for sequence in model.generate(both, **GREEDY)[:, len(row.ids) :]:
        assert sequence[: len(answer.token_ids)].tolist() == list(answer.token_ids)


def test_where_nothing_comes_up_every_token_is_the_bare_models(memory):
    memory.add("The price of the Kestrel is", "90 euros", subject="Kestrel")
    model = teller(memory, recheck=6)
    prompts = [PROMPT, "Who goes there?"]
    bare = model.answer(prompts, recheck="off", **GREEDY)
    assert [one.token_ids for one in model.answer(prompts, **GREEDY)] == [one.token_ids for one in bare]
    with model.stream(PROMPT, **GREEDY) as stream:
        assert "".join(stream) == bare[0].text
    ids = torch.tensor([list(prompt_row(model.tokenizer, PROMPT).ids)])
    assert torch.equal(model.generate(ids, **GREEDY), model.base.generate(ids, **GREEDY))


def test_no_more_tokens_are_written_than_were_asked_for(memory):
    stored(memory)
    model = teller(memory, recheck="sentence")
    for limit in (len(SENTENCES[0] + SENTENCES[1]) - 2, 60):
        (answer,) = model.answer(PROMPT, max_new_tokens=limit, do_sample=False)
        assert len(answer.token_ids) <= limit


def test_a_stream_that_is_closed_ends(memory):
    stored(memory)
    stream = teller(memory, recheck="sentence").stream(PROMPT, **GREEDY)
    stream.close()


def test_a_target_goes_on_from_what_was_said(memory, tokenizer):
    edit = stored(memory)
    target = tokenizer(" Arn Works")["input_ids"]
    assert next_ids(tokenizer, edit, tokenizer("The maker is")["input_ids"]) == target
    assert next_ids(tokenizer, edit, tokenizer("The maker is ")["input_ids"]) == target[1:]


def test_a_decision_by_single_edits_serves_what_is_said(memory):
    stored(memory)
    router = teller(memory)._router
    (found, empty) = router.decide_spoken(["The maker of the Falcon Pro is", " "], chat=False)
    assert isinstance(found, ScopeDecision)
    assert found.fired
    assert not empty.fired
