"""Tools as Qwen2.5's own template shows them, and calls as it writes them, where its tokenizer is installed."""

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from memedit.errors import ModelNotFoundError
from memedit.models.loading import checkpoint_folder
from memedit.runtime.structured import Grammars
from memedit.server.engines.base import GenerationRequest, Sampling
from memedit.server.engines.prompts import local_prompt
from memedit.server.engines.toolbox import CallStyle, calls_structure, shows_tools, style_of, toolbox_of

pytestmark = pytest.mark.integration

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather now", "parameters": CITY}}]
TALK: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "How is the weather in Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
)  # fmt: skip
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def qwen() -> Any:
    try:
        return AutoTokenizer.from_pretrained(checkpoint_folder("qwen2.5-0.5b"))
    except ModelNotFoundError as error:
        pytest.skip(str(error))


def test_its_template_shows_tools_calls_and_results(qwen: Any) -> None:
    assert (style_of(qwen), shows_tools(qwen)) == (CallStyle.HERMES, True)
    request = GenerationRequest("r", TALK, "default", Sampling())
    _, row = local_prompt(qwen, request, toolbox_of({"tools": TOOLS}))
    shown = qwen.decode(row.ids)
    assert json.dumps(TOOLS[0]["function"]["name"]) in shown
    assert "Weather now" in shown
    assert CALL in shown
    assert "<tool_response>\nrain\n</tool_response>" in shown
    assert row.text == TALK[0]["content"], "what is asked is the user's last turn, not a result"


def test_its_own_token_for_a_call_is_let_through(qwen: Any) -> None:
    grammars = Grammars(qwen, len(qwen), frozenset({qwen.eos_token_id}))
    for choice in ("auto", "required"):
        toolbox = toolbox_of({"tools": TOOLS, "tool_choice": choice})
        assert toolbox is not None
        structure = calls_structure(toolbox, CallStyle.HERMES, grammars.compile, None)
        assert structure is not None
        ids = qwen(CALL, add_special_tokens=False)["input_ids"]
        assert qwen.convert_tokens_to_ids("<tool_call>") == ids[0]
        assert grammars.compile(structure).constraint().takes([*ids, qwen.eos_token_id])
