"""Prompts and targets in the forms that callers write them in, on a tiny random model."""

from typing import Any

import pytest

from memedit.errors import InputError
from memedit.runtime import EditableModel
from support.facts import CAPITAL
from support.tiny import tiny_tokenizer

GREEDY: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}


@pytest.mark.parametrize(
    ("prompt", "target", "blank"),
    [
        (CAPITAL, "Mira Osei", " "),
        (CAPITAL, "-40 °C", " "),
        (CAPITAL, "$5", " "),
        (CAPITAL, "(unknown)", " "),
        (CAPITAL, " Mira Osei", ""),
        (f"{CAPITAL} ", "Mira Osei", ""),
        (f"{CAPITAL} (", "Mira", ""),
        (CAPITAL, ", as is known", ""),
        ("首都は", "東京", ""),
        ([{"role": "user", "content": CAPITAL}], "Mira Osei", ""),
    ],
)
def test_score_puts_the_blank_that_a_target_needs(editable, prompt, target, blank):
    (found,) = editable.score([prompt], [target])
    (stated,) = editable.score([prompt], [blank + target], as_is=True)
    assert found == stated
    (glued,) = editable.score([prompt], [target], as_is=True)
    assert (found == glued) is not bool(blank)


def test_embeddings_are_answered_by_the_bare_model_with_one_warning(editable, tokenizer, recwarn):
    ids = tokenizer(CAPITAL, return_tensors="pt")["input_ids"]
    embedded = editable.get_input_embeddings()(ids)
    with pytest.warns(UserWarning, match="does not look up edits"):
        found = editable.generate(inputs_embeds=embedded, **GREEDY)
    editable.generate(inputs_embeds=embedded, **GREEDY)
    assert not [one for one in recwarn if "look up edits" in str(one.message)]
    assert found.equal(editable.base.generate(inputs_embeds=embedded, **GREEDY))


def test_embeddings_need_no_warning_without_edits(llama, tokenizer, recwarn):
    embedded = llama.get_input_embeddings()(tokenizer(CAPITAL, return_tensors="pt")["input_ids"])
    EditableModel.wrap(llama, tokenizer).generate(inputs_embeds=embedded, **GREEDY)
    assert not [one for one in recwarn if "look up edits" in str(one.message)]


STRICT = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'tool' %}"
    "{{ raise_exception('roles take turns') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Neither system nor tool role, and turns in alternation, as Gemma 2's and Mistral 0.1's."""


def test_chats_come_in_any_form(editable):
    plain = editable.chat([{"role": "user", "content": CAPITAL}], **GREEDY)
    parts = editable.chat([{"role": "user", "content": [{"type": "text", "text": CAPITAL}]}], **GREEDY)
    assert parts == plain
    assert plain.edits


def test_a_chat_under_a_strict_template(llama, facts):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = STRICT
    editable = EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter="in_context")
    asked = {"role": "user", "content": CAPITAL}
    answer = editable.chat([{"role": "system", "content": "Be brief."}, asked], **GREEDY)
    assert answer.route.decision.query == CAPITAL
    assert answer.edits
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]}
    with pytest.raises(InputError, match=r"message 1 \(role 'assistant'\) has tool_calls"):
        editable.chat([asked, call, {"role": "tool", "content": "12:00"}, asked])
    with pytest.raises(InputError, match=r"message 1 \(role 'tool'\)"):
        editable.chat([asked, {"role": "tool", "content": "12:00"}])
