"""Answers end where they should, batches change nothing, and bare scores are the model's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.stopping import AnswerEnd
from support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
END = AnswerEnd(TOKENIZER, [EOS])


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def answerer() -> BareAnswerer:
    return BareAnswerer(LoadedModel(tiny_model("llama"), tiny_tokenizer(), "tiny", "f"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Paris\nmore", "Paris\n"),
        ("\n\n Paris\nmore", "\n\n Paris\n"),
        ("\n \n", "\n \n"),
        ("é\nmore", "é\n"),  # the bytes of a character that spans tokens are visible
        ("no end", "no end"),
    ],
)
def test_an_answer_ends_at_the_first_newline_behind_text(text: str, kept: str) -> None:
    cut = END.cut(ids(text), stop_at_newline=True, limit=100)
    assert TOKENIZER.decode(list(cut)) == kept
    assert END.cut(ids(text), stop_at_newline=False, limit=100) == tuple(ids(text))


def test_an_answer_ends_with_the_end_token_and_at_the_limit() -> None:
    assert END.cut([*ids("ab"), EOS, *ids("c")], stop_at_newline=False, limit=9) == (*ids("ab"), EOS)
    assert END.cut(ids("abcdef"), stop_at_newline=True, limit=3) == tuple(ids("abc"))
    # special tokens are not visible text
    assert END.cut([0, *ids("\nab\ncd")], stop_at_newline=True, limit=9) == (0, *ids("\nab\n"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("a \n", min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_the_criterion_stops_rows_exactly_where_the_cut_is(texts: list[str], width: int) -> None:
    criterion = END.criterion()
    rows = torch.tensor([ids("p\n" * width) + ids(text) for text in texts])
    prompt = 2 * width
    stopped = [None] * len(texts)
    for step in range(1, 7):
        done = criterion(rows[:, : prompt + step], None)
        for i, flag in enumerate(done.tolist()):
            if flag and stopped[i] is None:
                stopped[i] = step
    cuts = [len(END.cut(ids(text), stop_at_newline=True, limit=6)) for text in texts]
    ends_there = [END.cut(ids(t), stop_at_newline=True, limit=6)[-1] == ids("\n")[0] for t in texts]
    for step, cut, text, ended in zip(stopped, cuts, texts, ends_there, strict=True):
        assert (step or 6) == cut or (not ended and step is None), (text, step, cut)


def test_a_criterion_used_for_a_second_batch_starts_anew() -> None:
    criterion = END.criterion()
    for length in (1, 2):
        criterion(torch.tensor([ids("ab")[:length]]), None)
    assert criterion(torch.tensor([ids("\n")]), None).tolist() == [False]


def test_a_row_answers_the_same_in_any_batch(answerer: BareAnswerer) -> None:
    prompts = ["a", "what is the longest of these prompts?", "b c d", "seven"]
    together = answerer.generate(prompts, max_new_tokens=12, stop_at_newline=True)
    alone = [answerer.generate([p], max_new_tokens=12, stop_at_newline=True)[0] for p in prompts]
    assert together == alone
    assert answerer.generate(prompts[::-1], max_new_tokens=12, stop_at_newline=True) == alone[::-1]


def test_generation_is_transformers_own(answerer: BareAnswerer) -> None:
    batch = answerer.tokenizer(["what is"], return_tensors="pt")
    output = answerer.model.generate(**batch, max_new_tokens=8, do_sample=False)
    found = answerer.generate(["what is"], max_new_tokens=8, stop_at_newline=False)[0]
    assert found.token_ids == tuple(output[0, batch["input_ids"].shape[1] :].tolist())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_are_those_of_a_plain_forward_pass(family: str) -> None:
    answerer = BareAnswerer(LoadedModel(tiny_model(family), tiny_tokenizer(), "tiny", "f"))
    prompts, targets = ["one", "a rather longer prompt", "two"], [" yes", " n", " perhaps so"]
    for prompt, target, found in zip(prompts, targets, answerer.score(prompts, targets), strict=True):
        row = torch.tensor([ids(prompt) + ids(target)])
        logits = answerer.model(row).logits[0, len(ids(prompt)) - 1 : -1].log_softmax(-1)
        wanted = logits.gather(1, row[0, len(ids(prompt)) :, None])[:, 0]
        assert found.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)
        assert found.predicted == tuple(logits.argmax(-1).tolist())
        assert found.matches == tuple(p == t for p, t in zip(found.predicted, ids(target), strict=True))


def test_tokens_are_counted_without_special_ones(answerer: BareAnswerer) -> None:
    assert answerer.count_tokens(["abc", "", "é"]) == [3, 0, 2]
    assert answerer.count_tokens([]) == []
