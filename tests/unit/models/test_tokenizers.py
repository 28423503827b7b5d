import threading
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.models import barred_ids, encode_as_data, prepare_tokenizer
from support.tiny import tiny_tokenizer
from support.tiny_tokenizers import FAMILY_TOKENIZERS

TOKENIZERS = {"chatml": tiny_tokenizer(), **{name: make() for name, make in FAMILY_TOKENIZERS.items()}}
LOSSLESS = ("chatml", "llama3", "qwen2.5", "qwen3", "gemma", "mistral", "phi2", "phi3", "gpt2", "spelt", "byt5")
"""Their vocabularies can write any text that their normaliser leaves as it is."""

PLAIN = [
    "The capital of France is",
    " x",
    "two  blanks",
    "a\n\nb",
    "\ttab",
    "naïve café 日本 👩‍👩‍👧",
    "",
    "< | > [ ] / s",
    "im_end think",
]


def names(tokenizer) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values()]


@st.composite
def hostile(draw, tokenizer):
    """Text of added tokens, halves of them, their full-width twins, and what may stand between."""
    added = names(tokenizer)
    halves = [part for name in added for part in (name[: len(name) // 2], name[len(name) // 2 :])]
    wide = [name.translate({33 + i: 0xFF01 + i for i in range(94)}) for name in added]
    blanks = [" ", "  ", "\n", "\n\n\n", "\t\t", "\u2581", "\u200b"]
    piece = st.sampled_from([*added, *halves, *wide, *blanks, "a", "Ada", "é", "e\u0301", "日", "\0"]) | st.text(
        max_size=4
    )
    return "".join(draw(st.lists(piece, max_size=8)))


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_added_token_comes_of_data(name, data):
    tokenizer = TOKENIZERS[name]
    text = data.draw(hostile(tokenizer))
    ids = encode_as_data(tokenizer, text)
    unknown = {tokenizer.unk_token_id} if name == "t5" else set()  # a character that its vocabulary lacks
    assert not (barred_ids(tokenizer) - unknown) & set(ids)
    if name in LOSSLESS and "\u2581" not in text:
        wanted = unicodedata.normalize("NFC", text) if name.startswith("qwen") else text
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == wanted


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_added_token_stays_text(name):
    tokenizer = TOKENIZERS[name]
    for added in names(tokenizer):
        if added.replace("\u2581", " ").strip():
            assert not barred_ids(tokenizer) & set(encode_as_data(tokenizer, f"a {added} b{added}")), added


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", PLAIN)
def test_text_without_added_tokens_is_tokenised_as_ever(name, text):
    tokenizer = TOKENIZERS[name]
    if name == "t5" and not text.isascii():
        return
    assert encode_as_data(tokenizer, text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_rest_of_a_text_is_tokenised_as_it_was():
    tokenizer = TOKENIZERS["qwen2.5"]
    plain = tokenizer("The capital of France", add_special_tokens=False)["input_ids"]
    ids = encode_as_data(tokenizer, "The capital of France<tool_call>")
    assert ids[: len(plain)] == plain
    assert tokenizer.decode(ids) == "The capital of France<tool_call>"


def test_an_unknown_character_is_no_way_to_an_end_token():
    tokenizer = TOKENIZERS["t5"]
    assert tokenizer.unk_token_id in encode_as_data(tokenizer, "日")
    assert tokenizer.unk_token_id not in encode_as_data(tokenizer, "<unk>")
    shared = FAMILY_TOKENIZERS["t5"]()
    shared.eos_token = "<unk>"
    assert encode_as_data(shared, "a日b") == encode_as_data(shared, "ab")


def test_tokens_added_later_are_barred_too():
    tokenizer = FAMILY_TOKENIZERS["qwen2.5"]()
    assert encode_as_data(tokenizer, "<answer>")
    tokenizer.add_tokens(["<answer>"])
    assert not {tokenizer.convert_tokens_to_ids("<answer>")} & set(encode_as_data(tokenizer, "<answer>"))
    assert tokenizer.decode(encode_as_data(tokenizer, "<answer>")) == "<answer>"


def test_prompts_tokenised_meanwhile_keep_their_control_tokens():
    tokenizer, wrong, done = FAMILY_TOKENIZERS["qwen2.5"](), [], threading.Event()
    end = tokenizer.eos_token_id

    def prompts():
        while not done.is_set():
            if tokenizer("a<|im_end|>", add_special_tokens=False)["input_ids"][-1] != end:
                wrong.append("prompt")

    thread = threading.Thread(target=prompts)
    thread.start()
    for _ in range(300):
        if end in encode_as_data(tokenizer, "x<|im_end|>y"):
            wrong.append("data")
    done.set()
    thread.join()
    assert not wrong


def test_padding_falls_back_to_the_end_token():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    assert prepare_tokenizer(tokenizer).pad_token == tokenizer.eos_token
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither a padding"):
        prepare_tokenizer(tokenizer)
