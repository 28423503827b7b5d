"""Chats in every form that callers write, under templates that behave as the published ones do."""

import pytest

from memedit.errors import InputError
from memedit.models import chat_layout, render_chat
from support.tiny_tokenizers import FAMILY_TOKENIZERS

TURN = "{{ '<start_of_turn>' + %s + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
STRICT = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must take turns') }}{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}"
    + STRICT
    + TURN % "('model' if message['role'] == 'assistant' else message['role'])"
    + "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""As Gemma 2's: no system role, user and assistant take turns, content is trimmed."""
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    + STRICT
    + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
"""As Mistral 7B Instruct v0.1's: no system role, user and assistant take turns."""
QWEN = (
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "{{ '<tool_call>\n' + call.function.name + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As Qwen2.5's: tool calls and their results have places of their own."""
SYSTEM_FIRST = (
    "{% for message in messages %}{% if message.role == 'system' and not loop.first %}"
    "{{ raise_exception('system text comes first') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As those of several models of 2025: system text stands first or nowhere."""

CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "clock"}}]}


def with_template(family: str, template: str):
    tokenizer = FAMILY_TOKENIZERS[family]()
    tokenizer.chat_template = template
    return tokenizer


STRICT_ONES = {"gemma": GEMMA2, "mistral": MISTRAL}


def turn(role: str, content) -> dict:
    return {"role": role, "content": content}


@pytest.mark.parametrize("family", STRICT_ONES)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_text_is_folded_into_the_first_user_turn(family, role):
    tokenizer = with_template(family, STRICT_ONES[family])
    talk = [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Who?")]
    found = render_chat(tokenizer, [turn(role, "Be brief."), *talk])
    assert found == render_chat(tokenizer, [turn("user", "Be brief.\n\nHi"), *talk[1:]])
    assert found != render_chat(tokenizer, talk)


@pytest.mark.parametrize("family", STRICT_ONES)
def test_system_text_alone_is_asked(family):
    tokenizer = with_template(family, STRICT_ONES[family])
    assert render_chat(tokenizer, [turn("system", "Greet me.")]) == render_chat(tokenizer, [turn("user", "Greet me.")])


@pytest.mark.parametrize("family", STRICT_ONES)
def test_a_template_without_a_system_role_has_no_place_for_notes_there(family):
    layout = chat_layout(with_template(family, STRICT_ONES[family]))
    assert layout.system_open is None
    assert layout.before_user


@pytest.mark.parametrize("family", STRICT_ONES)
@pytest.mark.parametrize(
    ("messages", "number", "role"),
    [
        ([turn("user", "a"), turn("user", "b")], 1, "user"),
        ([turn("assistant", "a"), turn("user", "b")], 0, "assistant"),
        ([turn("user", "a"), turn("assistant", "b"), turn("tool", "12:00"), turn("user", "c")], 2, "tool"),
        ([turn("system", "s"), turn("user", "a"), turn("user", "b")], 2, "user"),
        ([turn("user", "a"), turn("system", "s")], 1, "system"),
    ],
)
def test_a_role_out_of_place_is_named(family, messages, number, role):
    with pytest.raises(InputError, match=f"refuses message {number} .role '{role}'.: TemplateError"):
        render_chat(with_template(family, STRICT_ONES[family]), messages)


def test_system_text_stays_where_the_template_has_a_place_for_it():
    tokenizer = with_template("qwen2.5", QWEN)
    text = tokenizer.decode(render_chat(tokenizer, [turn("developer", "Be brief."), turn("user", "Hi")]))
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_later_system_text_is_folded_where_only_the_first_has_a_place():
    tokenizer = with_template("qwen2.5", SYSTEM_FIRST)
    talk = [turn("system", "One."), turn("user", "Hi"), turn("assistant", "Hello")]
    found = render_chat(tokenizer, [*talk, turn("system", "Two."), turn("user", "Who?")])
    assert found == render_chat(tokenizer, [*talk, turn("user", "Two.\n\nWho?")])


@pytest.mark.parametrize("template", [GEMMA2, MISTRAL, QWEN])
def test_parts_are_text(template):
    tokenizer = with_template("qwen2.5" if template == QWEN else "gemma", template)
    parts = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]
    assert render_chat(tokenizer, [turn("user", parts)]) == render_chat(tokenizer, [turn("user", "Hi\nthere")])


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}, 7, "Hi"])
def test_content_that_is_no_text_is_refused_by_role(part):
    with pytest.raises(InputError, match=r"message 0 \(role 'user'\) holds content of type"):
        render_chat(with_template("qwen2.5", QWEN), [turn("user", [part])])


@pytest.mark.parametrize("call", [CALL, {key: CALL[key] for key in ("role", "tool_calls")}])
def test_tool_calls_and_their_results_are_rendered(call):
    tokenizer = with_template("qwen2.5", QWEN)
    text = tokenizer.decode(render_chat(tokenizer, [turn("user", "What time is it?"), call, turn("tool", "12:00")]))
    assert "assistant\n<tool_call>\nclock\n</tool_call><|im_end|>" in text
    assert "<tool_response>\n12:00\n</tool_response>" in text


@pytest.mark.parametrize("family", STRICT_ONES)
def test_tool_calls_that_a_template_would_lose_are_refused(family):
    with pytest.raises(InputError, match=r"message 1 \(role 'assistant'\) has tool_calls"):
        render_chat(with_template(family, STRICT_ONES[family]), [turn("user", "a"), CALL])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content'] + 1 }}",  # TypeError
        "{% for message in messages %}",  # jinja2's TemplateSyntaxError
        "{{ messages[0].content.nothing.more }}",  # jinja2's UndefinedError
        "{{ 1 / 0 }}",
    ],
)
def test_a_broken_template_is_said_to_be_one(template):
    with pytest.raises(InputError, match=r"chat template refuses message 0 \(role 'user'\)"):
        render_chat(with_template("qwen2.5", template), [turn("user", "Hi")])


@pytest.mark.parametrize("messages", [[], "Hi", [{"content": "x"}], [turn(None, "x")], [{"role": "user"}], [7]])
def test_what_is_no_chat_is_refused(messages):
    with pytest.raises(InputError):
        render_chat(with_template("qwen2.5", QWEN), messages)
