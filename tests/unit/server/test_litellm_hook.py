"""Edits in the requests of a LiteLLM proxy, looked up at a whole memedit server."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from memedit.errors import MissingExtraError, ServiceUnavailableError
from memedit.memory import EditMemory
from memedit.server import litellm_hook
from memedit.server.litellm_hook import METADATA, EditLookup, make_hook
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.slow

QUESTION = {"role": "user", "content": "Who leads Norvik?"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as memory:
        memory.add("Who leads Norvik?", "Ole", subject="Norvik")
        with serving(proxy_app(memory, ScriptedUpstream())) as found:
            yield found


def test_a_chat_gets_the_edits_that_fire(url: str) -> None:
    data = {"model": "gpt", "messages": [QUESTION], "metadata": {"user": "a"}}
    edited = asyncio.run(EditLookup(url).edited(data))
    assert edited["messages"][0]["role"] == "system"
    assert "Who leads Norvik? Ole" in edited["messages"][0]["content"]
    assert edited["messages"][1] == QUESTION
    assert list(edited["metadata"][METADATA].values()) == [1.0]
    assert edited["metadata"]["user"] == "a"
    assert data["messages"] == [QUESTION], "the caller's own request stays as it is"


@pytest.mark.parametrize(
    "data", [{"messages": [{"role": "user", "content": "How long is a year?"}]}, {"input": "to be embedded"}, {}]
)
def test_other_requests_stay_as_they_are(url: str, data: dict[str, Any]) -> None:
    assert asyncio.run(EditLookup(url).edited(data)) == data


def test_a_server_that_cannot_be_asked_fails_the_request_unless_told_otherwise() -> None:
    data = {"messages": [QUESTION]}
    with pytest.raises(ServiceUnavailableError, match="could not be asked"):
        asyncio.run(EditLookup("http://127.0.0.1:9").edited(data))
    assert asyncio.run(EditLookup("http://127.0.0.1:9", ignore_errors=True).edited(data)) == data


def test_the_hook_is_a_callback_of_litellm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    custom_logger = pytest.importorskip("litellm.integrations.custom_logger", reason="litellm is not installed")
    monkeypatch.setenv("MEMEDIT_URL", url)
    hook = litellm_hook.hook
    assert isinstance(hook, custom_logger.CustomLogger)
    edited = asyncio.run(hook.async_pre_call_hook(None, None, {"messages": [QUESTION]}, "completion"))
    assert "Ole" in str(edited["messages"][0])


def test_without_litellm_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", None)
    with pytest.raises(MissingExtraError, match=r"memedit\[litellm\]"):
        make_hook(EditLookup("http://127.0.0.1:9"))
    with pytest.raises(AttributeError):
        litellm_hook.nothing  # noqa: B018
