"""What is asked for is honoured, or refused by its name; nothing that changes an answer is ignored."""

from typing import Any

import httpx
import pytest

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
SCHEMA = {"type": "object"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
REFUSED: dict[str, Any] = {
    "structural_tag": {"a": 1}, "stop_regex": "a", "guided_whitespace_pattern": "x",
    "min_p": 0.1, "min_tokens": 3, "stop_token_ids": [5], "bad_words": ["x"], "allowed_token_ids": [1],
    "continue_final_message": True, "add_generation_prompt": False, "chat_template": "{{ x }}",
    "chat_template_kwargs": {"enable_thinking": False}, "prompt_logprobs": 1, "truncate_prompt_tokens": 5,
    "include_stop_str_in_output": True, "skip_special_tokens": False, "use_beam_search": True, "length_penalty": 2.0,
    "functions": [TOOL], "function_call": {"name": "f"},
    "modalities": ["text", "audio"], "audio": {"voice": "x"}, "reasoning_effort": "high", "best_of": 2, "echo": True,
    "suffix": "x", "mirostat": 2, "typical_p": 0.5, "n_predict": 5, "max_new_tokens": 5, "num_beams": 4,
    "repeat_penalty": 1.5,
}  # fmt: skip
SILENT: list[dict[str, Any]] = [
    {"guided_json": None, "guided_choice": [], "structured_outputs": {}, "chat_template": None, "bad_words": []},
    {"response_format": {"type": "text"}, "min_p": 0.0, "min_tokens": 0, "stop_token_ids": [], "tools": []},
    {"continue_final_message": False, "add_generation_prompt": True, "skip_special_tokens": True, "best_of": 1},
    {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": True},
    {"tool_choice": "auto", "modalities": ["text"], "use_beam_search": False, "length_penalty": 1.0},
    {"store": False, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x", "priority": 0},
    {"stream_options": {"include_usage": True, "include_obfuscation": False}, "prediction": None, "user": "u"},
]


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_constraint_that_is_not_honoured_is_refused_by_its_name(client: httpx.Client, name: str) -> None:
    text = {"prompt": "hi", "max_tokens": 1}
    for path, body in (("/v1/chat/completions", ASK), ("/v1/completions", text)):
        for stream in (False, True):
            response = client.post(path, json={**body, name: REFUSED[name], "stream": stream})
            assert response.status_code == 400, response.text
            error = response.json()["error"]
            assert (error["param"], error["code"]) == (name, "unsupported_parameter")
            assert name in error["message"]


@pytest.mark.parametrize("body", SILENT)
def test_a_constraint_that_constrains_nothing_is_no_obstacle(client: httpx.Client, body: dict[str, Any]) -> None:
    response = client.post("/v1/chat/completions", json={**ASK, **body})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "prefix": True}]},
         "messages.1.prefix"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"min_p": True}, "min_p"),
        ({"echo": 1}, "echo"),
    ],
)  # fmt: skip
def test_constraints_within_other_fields_are_named_where_they_stand(
    client: httpx.Client, body: dict[str, Any], param: str
) -> None:
    response = client.post("/v1/chat/completions", json={**ASK, **body})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
