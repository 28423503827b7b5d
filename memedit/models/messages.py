"""Chats as callers write them, brought to the form that every chat template takes: a role and a text."""

from collections.abc import Mapping, Sequence
from typing import Any

from memedit.errors import InputError

Message = dict[str, Any]

_ROLES = {"developer": "system"}
"""Names by which OpenAI's API calls a role that templates know under another."""


def plain_messages(messages: Any) -> list[Message]:
    """Return a chat's messages with text for content, whatever form it came in; further keys are kept.

    A list of text parts becomes their lines, no content (``None``, as beside tool calls) the empty text, and a
    developer's message a system message.

    Raises:
        InputError: not a chat, or content that is no text; names the role.
    """
    fine = isinstance(messages, Sequence) and not isinstance(messages, str) and len(messages) > 0
    if not fine or not all(isinstance(message, Mapping) and "role" in message for message in messages):
        raise InputError(f"a chat is a non-empty list of messages with 'role' and 'content', not {messages!r:.200}")
    return [_plain(message, number) for number, message in enumerate(messages)]


def _plain(message: Mapping[str, Any], number: int) -> Message:
    role = message["role"]
    if not isinstance(role, str) or not role:
        raise InputError(f"message {number}: role {role!r} is no name; give 'user', 'assistant', 'system' or 'tool'")
    if "content" not in message and not message.get("tool_calls"):
        raise InputError(f"message {number} (role {role!r}) has no 'content'; give it text, or leave the message out")
    return {**message, "role": _ROLES.get(role, role), "content": _text(message.get("content"), role, number)}


def _text(content: Any, role: str, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else [content]
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise InputError(
                f"message {number} (role {role!r}) holds content of type {kind!r}, and a language model reads text "
                "alone; give text, or parts like {'type': 'text', 'text': ...}"
            )
    return "\n".join(part["text"] for part in parts)


def folded(messages: Sequence[Message], *, first: int = 0) -> list[Message]:
    """Return the messages with each system message from number ``first`` on put before the next user turn's text.

    One that no user turn follows becomes a user turn itself.
    """
    found: list[Message] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        if message["role"] == "system" and number >= first:
            waiting.append(message["content"])
        elif message["role"] == "user" and waiting:
            found.append({**message, "content": _joined([*waiting, message["content"]])})
            waiting = []
        else:
            found.append(message)
    return [*found, {"role": "user", "content": _joined(waiting)}] if waiting else found


def _joined(texts: Sequence[str]) -> str:
    return "\n\n".join(text for text in texts if text)
