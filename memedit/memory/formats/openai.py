"""OpenAI's fine-tuning rows, and ShareGPT's: a chat each, of which the last question and its answer are the edit."""

from collections.abc import Mapping
from typing import Any

from memedit.errors import FieldError
from memedit.memory.formats.base import JsonRow, Parsed, checked_text
from memedit.types import Edit

_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}


class OpenAIFormat:
    """``messages``: the last message of a user that an assistant's follows, and that one."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have a list of messages, or of conversations."""
        return any(isinstance(row.get(name), list) for name in ("messages", "conversations"))

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one chat."""
        messages = row["messages"] if isinstance(row.get("messages"), list) else None
        if messages is None and isinstance(row.get("conversations"), list):
            messages = [_shared(message) for message in row["conversations"]]
        if messages is None:
            raise FieldError("messages", f"expected a list of messages, got {str(row.get('messages'))[:80]!r}")
        pair = next((at for at in reversed(range(1, len(messages))) if _roles(messages[at - 1 : at + 1])), None)
        if pair is None:
            roles = [message.get("role") if isinstance(message, Mapping) else message for message in messages]
            raise FieldError("messages", f"no assistant's message follows a user's; their roles are {roles}")
        fields = {"prompt": _content(messages, pair - 1), "target": _content(messages, pair)}
        names = {"prompt": f"messages[{pair - 1}].content", "target": f"messages[{pair}].content"}
        return Parsed(fields, names=names)

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one chat."""
        return {"messages": [{"role": "user", "content": edit.prompt}, {"role": "assistant", "content": edit.target}]}


def _shared(message: Any) -> Any:
    """Return a message of ShareGPT (``from``, ``value``) as one of OpenAI's."""
    if not isinstance(message, Mapping) or "from" not in message:
        return message
    return {"role": _SPEAKERS.get(str(message["from"]), message["from"]), "content": message.get("value")}


def _roles(pair: list[Any]) -> bool:
    return [message.get("role") if isinstance(message, Mapping) else None for message in pair] == ["user", "assistant"]


def _content(messages: list[Any], at: int) -> str:
    """Return a message's text, given as text or as a list of parts.

    Raises:
        FieldError: it holds anything but text.
    """
    content, name = messages[at].get("content"), f"messages[{at}].content"
    if not isinstance(content, list):
        return checked_text(content, name)
    return "".join(checked_text(part.get("text") if isinstance(part, Mapping) else part, name) for part in content)


FORMAT = OpenAIFormat()
