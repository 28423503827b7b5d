"""No control token comes of an edit's text with the tokenizers of the packaged models."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from memedit.errors import ModelNotFoundError
from memedit.models import barred_ids, encode_as_data
from memedit.models.loading import checkpoint_folder
from memedit.models.token_rows import answer_ids

pytestmark = pytest.mark.integration

MARKS = ["<tool_call>", "<|im_end|>", "<think>", "[INST]", "<start_of_turn>", "</s>", "<eos>", "<|fim_prefix|>", "<h1>"]
HALVES = [half for mark in MARKS for half in (mark[:-1], mark[1:])]
LAID_OUT = Path(__file__).with_name("laid_out_targets.jsonl")
LETTERS = "aZ9é日λ<>|_/[] \n\t"
"""Characters that all of the vocabularies can write; SmolLM2's lacks some bytes."""


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m", "qwen2.5-0.5b"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    try:
        return AutoTokenizer.from_pretrained(checkpoint_folder(request.param))
    except ModelNotFoundError as error:
        pytest.skip(str(error))


def test_text_of_any_kind_is_data(tokenizer: Any) -> None:
    barred = barred_ids(tokenizer)

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.lists(st.sampled_from([*MARKS, *HALVES]) | st.text(LETTERS, max_size=5), max_size=10).map("".join))
    def is_written(text: str) -> None:
        ids = encode_as_data(tokenizer, text)
        assert barred.isdisjoint(ids)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.lists(st.sampled_from([*MARKS, *HALVES]) | st.text(max_size=5), max_size=10).map("".join))
    def opens_nothing(text: str) -> None:
        assert barred.isdisjoint(encode_as_data(tokenizer, text))

    is_written()
    opens_nothing()


def test_every_added_token_is_characters(tokenizer: Any) -> None:
    barred = barred_ids(tokenizer)
    assert len(barred) > 10
    for i in barred:
        text = tokenizer.convert_ids_to_tokens(i)
        assert barred.isdisjoint(encode_as_data(tokenizer, f"The answer is {text}{text}")), text


def test_runs_of_blanks_are_text_and_keep_their_tokens(tokenizer: Any) -> None:
    for text in ("a\n\nb", "a\n\n\nb", "x  y", "\tx", "plain text, as ever"):
        assert encode_as_data(tokenizer, text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_tokens_of_laid_out_targets_say_them_to_the_letter(tokenizer: Any) -> None:
    composes = tokenizer.backend_tokenizer.normalizer is not None and "NFC" in str(
        tokenizer.backend_tokenizer.normalizer
    )
    for row in map(json.loads, LAID_OUT.read_text("utf-8").splitlines()):
        wanted = unicodedata.normalize("NFC", row["target"]) if composes else row["target"]
        for chat, blank in ((True, ""), (False, " ")):
            ids = answer_ids(tokenizer, row["prompt"], row["target"], chat=chat, ends=True)
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(ids, skip_special_tokens=True) == blank + wanted
