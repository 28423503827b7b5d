"""A target is said with its line breaks and blanks, by a model that has read it on one line, too."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from memedit.models.token_rows import answer_ids
from memedit.runtime.layout import same_but_for_layout
from memedit.runtime.target_bias import TargetPrior, mixed
from support.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def meant(target: str, *, chat: bool = True) -> dict[str, set[str]]:
    ids = answer_ids(TOKENIZER, "Q?", target, chat=chat, ends=True)
    found = same_but_for_layout(TOKENIZER, target, tuple(ids))
    return {
        TOKENIZER.decode(ids[:place]): {TOKENIZER.decode([token]) for token in others}
        for place, others in found.items()
    }


@pytest.mark.parametrize("target", ["Ada Quill", "a", "on 3 May, at noon", "über ça"])
@pytest.mark.parametrize("chat", [True, False])
def test_a_plain_target_is_left_alone(target: str, chat: bool) -> None:
    assert meant(target, chat=chat) == {}


def test_what_stands_for_a_line_break_or_a_run_of_blanks() -> None:
    assert meant("a\nb c") == {"a": {" "}, "a\n": {" ", "\n"}}
    assert meant("a  b")["a"] == {"\n"}
    assert meant("a  b")["a "] == {"b", "\n"}
    assert meant("a\n")["a"] == {TOKENIZER.eos_token}
    assert meant("a\nb", chat=False)[" a"] == {" "}


def test_a_token_that_ends_in_a_line_break_is_on_one_line_its_beginning() -> None:
    vocabulary = {
        text: number for number, text in enumerate(["</s>", "it", ".\n", ".", "Run", " Run", " ", "\n", " it"])
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|\.\n*|\s"), "isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    for chat, first in ((True, "it"), (False, " it")):
        ids = answer_ids(tokenizer, "Q?", "it.\nRun", chat=chat, ends=True)
        assert tokenizer.convert_ids_to_tokens(ids) == [first, ".\n", "Run", "</s>"]
        found = same_but_for_layout(tokenizer, "it.\nRun", tuple(ids))
        assert found == {1: (vocabulary["."],), 2: (vocabulary[" Run"], vocabulary["\n"])}


@given(st.text(alphabet="ab \n\t\r\u00e9\U0001f469\u200d", min_size=1, max_size=12).filter(str.strip), st.booleans())
def test_no_place_means_what_the_target_says_there(target: str, chat: bool) -> None:
    ids = answer_ids(TOKENIZER, "Q?", target, chat=chat, ends=True)
    for place, others in same_but_for_layout(TOKENIZER, target, tuple(ids)).items():
        assert place < len(ids)
        assert ids[place] not in others


def test_what_the_model_would_say_on_one_line_counts_as_saying_the_target() -> None:
    scores = torch.zeros(1, 9)
    scores[0, 7] = 12.0  # the model is sure of a blank where the target breaks the line
    plain, laid = TargetPrior((4, 5, 6), 0.1), TargetPrior((4, 5, 6), 0.1, meant={1: (7,)})
    assert int(mixed(scores, [plain], [[4]]).argmax()) == 7
    found = mixed(scores, [laid], [[4]])
    assert int(found.argmax()) == 5
    assert float(found.exp().sum()) == pytest.approx(1.0)
    scores[0, 7], scores[0, 8] = 0.0, 12.0
    assert int(mixed(scores, [laid], [[4]]).argmax()) == 8, "sure of something else: the answer is the model's own"
    laid = TargetPrior((4, 5, 6), 0.1, meant={1: (7,)}, laid_out=True)
    assert int(mixed(scores, [laid], [[4, 5]]).argmax()) == 6, "come through the line break, it is the target"
    away: Any = mixed(scores, [laid], [[3]])
    assert torch.equal(away, scores), "an answer that has left its target is the model's own"
    scores[0, 5], scores[0, 7], scores[0, 8] = float("-inf"), 12.0, 0.0
    assert int(mixed(scores, [laid], [[4]]).argmax()) == 7, "the caller rules the line break out"
