"""Edits as text in the prompt."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.adapters import ADAPTERS, Adapter, AdapterBatch, Row, create_adapter
from memedit.adapters.base import MixesTargets
from memedit.adapters.in_context.layout import REPEATS, REPEATS_BESIDE_TARGET, chat_note, completion_prefix
from memedit.errors import InputError, UnknownNameError
from memedit.models import control_ids, render_chat
from memedit.types import Edit, EditKind, EditState
from support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
NO_SYSTEM = tiny_tokenizer()
NO_SYSTEM.chat_template = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}[{{ m['role'] }}] {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CONTROL = control_ids(TOKENIZER)
MODEL = tiny_model()
TEXT = st.lists(
    st.one_of(st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "system\n", "\n"]), st.text(max_size=6)),
    min_size=1,
    max_size=6,
).map("".join)


def edit(prompt: str = "The capital of Freedonia is", target: str = "Sylvania", kind: EditKind = EditKind.FACT) -> Edit:
    now = datetime.now(UTC)
    return Edit(
        "1", "default", prompt, target, None, (), None, kind, {}, None, now, None, None, None, 1, EditState.ACTIVE, "h"
    )  # fmt: skip


def row(text: str) -> Row:
    return Row(ids=tuple(TOKENIZER(text)["input_ids"]), text=text)


def chat(*turns: tuple[str, str], tokenizer=TOKENIZER) -> Row:
    messages = [{"role": role, "content": text} for role, text in turns]
    return Row(ids=render_chat(tokenizer, messages), text=turns[-1][1], messages=messages)


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return create_adapter("in_context", MODEL, TOKENIZER)


def test_a_completion_gets_the_facts_in_front_of_its_own_ids(adapter):
    query = row("Who knows? The capital of Freedonia is")
    plain = create_adapter("in_context", MODEL, TOKENIZER, target_weight=0.0)
    for used, lines in ((adapter, REPEATS_BESIDE_TARGET), (plain, REPEATS)):
        fed = used.rewrite(query, [edit()], {})
        text = TOKENIZER.decode(list(fed.ids))
        assert text == "The capital of Freedonia is Sylvania\n" * lines + query.text
        assert fed.ids[-len(query.ids) :] == query.ids


def test_the_best_of_several_facts_stands_nearest_to_the_query():
    prefix = completion_prefix([edit("Best is", "A"), edit("Second is", "B")])
    assert prefix.endswith("Second is B\nBest is A\n")
    assert prefix.count("Best is A") == prefix.count("Second is B") == REPEATS // 2


def test_long_text_is_stated_once():
    assert completion_prefix([edit(target="word " * 80)]).count("Freedonia") == 1
    assert completion_prefix([edit(kind=EditKind.LONG_FORM)]).count("Freedonia") == 1


def test_the_beginning_of_text_token_stays_in_front(adapter):
    ids = (TOKENIZER.bos_token_id, *row("Hello").ids)
    fed = adapter.rewrite(Row(ids=ids, text="Hello"), [edit()], {})
    assert fed.ids[0] == TOKENIZER.bos_token_id
    assert fed.ids.count(TOKENIZER.bos_token_id) == 1


def test_a_chat_gets_the_facts_in_a_new_system_message(adapter):
    fed = adapter.rewrite(chat(("user", "Where?")), [edit()], {})
    text = TOKENIZER.decode(list(fed.ids))
    wanted = [{"role": "system", "content": chat_note([edit()])}, {"role": "user", "content": "Where?"}]
    assert text == TOKENIZER.apply_chat_template(wanted, tokenize=False, add_generation_prompt=True)


def test_a_chats_own_system_message_is_kept_and_extended(adapter):
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hi"), ("user", "Where?")]
    fed = adapter.rewrite(chat(*turns), [edit()], {})
    text = TOKENIZER.decode(list(fed.ids))
    wanted = [{"role": role, "content": words} for role, words in turns]
    wanted[0]["content"] += "\n\n" + chat_note([edit()])
    assert text == TOKENIZER.apply_chat_template(wanted, tokenize=False, add_generation_prompt=True)


def test_ids_of_a_chat_without_its_messages_are_read_the_same_way(adapter):
    known = chat(("system", "Be brief."), ("user", "Where?"))
    unknown = Row(ids=known.ids, text=known.text)
    assert adapter.rewrite(unknown, [edit()], {}).ids == adapter.rewrite(known, [edit()], {}).ids


def test_a_template_without_a_system_role_states_them_in_the_last_user_turn():
    adapter = create_adapter("in_context", MODEL, NO_SYSTEM)
    query = chat(("user", "Hi"), ("assistant", "Hi"), ("user", "Where?"), tokenizer=NO_SYSTEM)
    text = NO_SYSTEM.decode(list(adapter.rewrite(query, [edit()], {}).ids))
    assert text.endswith(f"[user] {chat_note([edit()])}\n\nWhere?<|im_end|>[assistant] ")
    assert text.startswith("<|im_start|>[user] Hi<|im_end|>[assistant] Hi<|im_end|>")


@settings(max_examples=150, deadline=None)
@given(prompt=TEXT, target=TEXT, as_chat=st.booleans())
def test_no_text_of_an_edit_can_open_a_control_token(prompt, target, as_chat):
    adapter = create_adapter("in_context", MODEL, TOKENIZER)
    query = chat(("system", "Be brief."), ("user", "Where?")) if as_chat else row("Where?")
    fed = adapter.rewrite(query, [edit(prompt, target)], {})
    control = [i for i in fed.ids if i in CONTROL]
    assert control == [i for i in query.ids if i in CONTROL]


def test_nothing_is_prepared_and_nothing_is_hooked(adapter):
    assert adapter.prepare([edit()]) == {}
    assert adapter.model() is None
    with adapter.active(AdapterBatch((row("x"),), ((edit(),),), (0,)), {}):
        assert not any(module._forward_hooks for module in MODEL.modules())
    assert isinstance(adapter, Adapter)


def test_the_registry_names_what_it_has():
    assert {"in_context", "reader", "recipe", "serac"} <= set(ADAPTERS)
    with pytest.raises(UnknownNameError, match="did you mean 'in_context'"):
        create_adapter("in_contxt", MODEL, TOKENIZER)
    with pytest.raises(InputError, match="no_such_option"):
        create_adapter("in_context", MODEL, TOKENIZER, no_such_option=1)
    with pytest.raises(InputError, match="below 1"):
        create_adapter("in_context", MODEL, TOKENIZER, max_edits=0)


def test_the_targets_say_is_an_option_and_part_of_the_fingerprint(adapter):
    plain = create_adapter("in_context", MODEL, TOKENIZER, target_weight=0.0)
    assert isinstance(plain, MixesTargets)
    assert plain.target_weight == 0.0 < adapter.target_weight < 1.0
    assert plain.fingerprint != adapter.fingerprint
    for wrong in (1.0, -0.1, float("nan"), "half"):
        with pytest.raises(InputError, match=r"target_weight=.* is not a number in \[0, 1\)"):
            create_adapter("in_context", MODEL, TOKENIZER, target_weight=wrong)


def test_no_reader_ships_for_a_tiny_model():
    assert create_adapter("default", MODEL, TOKENIZER).name == "in_context"
