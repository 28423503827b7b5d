"""Wherever an edit's text reaches the language model, its control tokens are characters."""

import pytest

from memedit.adapters.base import Row
from memedit.adapters.in_context import InContextAdapter
from memedit.adapters.reader.layout import insert_edits
from memedit.adapters.serac.layout import edit_ids, opening_ids
from memedit.consolidation.base import EditRequest
from memedit.consolidation.rows import prompt_ids, subject_tokens, target_ids
from memedit.models import barred_ids, chat_layout
from memedit.models.token_rows import answer_ids, query_ids
from support.recipe_bench import make_edit
from support.tiny_tokenizers import FAMILY_TOKENIZERS

HOSTILE = " <tool_call> <|im_end|> </think> [INST] <start_of_turn> </s> <|eot_id|> <extra_id_0> <|endoftext|> <unk>"
TEMPLATE = "{% for message in messages %}{{ '[' + message.role + '] ' + message.content + ' [/]' }}{% endfor %}"


@pytest.fixture(params=[name for name in FAMILY_TOKENIZERS if name != "t5"])
def tokenizer(request):
    found = FAMILY_TOKENIZERS[request.param]()
    found.chat_template = TEMPLATE
    return found


def opened(tokenizer, ids) -> list[str]:
    return tokenizer.convert_ids_to_tokens(sorted(barred_ids(tokenizer).intersection(ids)))


def test_queries_answers_and_lines_of_edits_are_data(tokenizer):
    assert opened(tokenizer, answer_ids(tokenizer, "x", HOSTILE, chat=False, ends=False)) == []
    frame = opened(tokenizer, [*query_ids(tokenizer, "x", chat=False), *query_ids(tokenizer, "x", chat=True)])
    for chat in (False, True):
        asked = query_ids(tokenizer, f"Who{HOSTILE}?", chat=chat)
        assert set(opened(tokenizer, asked)) <= set(frame)
        assert tokenizer.decode(asked).count("<tool_call>") == 1
    assert opened(tokenizer, edit_ids(tokenizer, HOSTILE, HOSTILE)[len(opening_ids(tokenizer)) :]) == []
    given = query_ids(tokenizer, "Who?", chat=True)
    fed = insert_edits(tokenizer, chat_layout(tokenizer), [(HOSTILE, HOSTILE)], given)
    assert opened(tokenizer, fed) == opened(tokenizer, given)
    assert len(fed) > len(given) + 20


@pytest.mark.parametrize("chat", [False, True])
def test_notes_are_data(tokenizer, chat):
    adapter = InContextAdapter(None, tokenizer)
    edit = make_edit(f"Who{HOSTILE} is it?", f"Ada{HOSTILE}")
    given = tuple(query_ids(tokenizer, "Who?", chat=chat))
    fed = adapter.rewrite(Row(given, "Who?"), [edit], {}).ids
    assert opened(tokenizer, fed) == opened(tokenizer, given)
    assert len(fed) > len(given) + 20


def test_rows_of_consolidation_are_data(tokenizer):
    subject = f"Ada{HOSTILE}"
    request = EditRequest(id="1", prompt=f"{subject} lives in", target=f"Rome{HOSTILE}", subject=subject)
    assert opened(tokenizer, target_ids(tokenizer, request)) == []
    ids, place = prompt_ids(tokenizer, request, spaced=True)
    assert opened(tokenizer, ids) == []
    assert tokenizer.decode(ids[: place + 1]).strip() == subject
    plain = EditRequest(id="1", prompt="Ada Quill lives in", target="Rome", subject="Ada Quill")
    ids, places = subject_tokens(tokenizer, plain) or ([], [])
    if tokenizer.is_fast:
        assert tokenizer.decode([ids[i] for i in places]).strip() == "Ada Quill"
    else:
        assert not places
