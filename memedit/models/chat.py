"""Where turns begin and end in a chat-templated prompt, learnt from the template itself.

The template is rendered on a few probe conversations that differ in one word; what stays the same between renders is
the template's own. No list of markers or model names is needed, and token ids given as tensors can be read back.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from memedit.errors import InputError
from memedit.models.messages import folded, plain_messages

Ids = tuple[int, ...]

_ONE, _OTHER = "apple", "zebra"
"""Probe words: they share neither their first nor their last character."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """Text may be put at ``index`` of a prompt's ids, between the template's own ``before`` and ``after``."""

    index: int
    before: Ids = ()
    after: Ids = ()


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """The token ids with which a chat template surrounds what is said.

    ``before_user`` precede each user turn's text; ``after_last_user`` stand between the last one and the answer.
    ``system_open`` begin a prompt that has a system message, ``system_close`` stand between its text and the first
    user turn's; both are None when the template has no system role. ``head`` begins any prompt without a system
    message, and a whole system message is added as ``new_before`` + text + ``new_after`` right behind it.
    """

    before_user: Ids
    after_last_user: Ids
    system_open: Ids | None
    system_close: Ids | None
    head: Ids
    new_before: Ids
    new_after: Ids
    control: frozenset[int]

    def last_user_span(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Return (start, end) of the last user turn's text in ``ids``; None when they hold no user turn."""
        found = _rfind(ids, self.before_user)
        if found is None:
            return None
        start = found + len(self.before_user)
        tail = len(ids) - len(self.after_last_user)
        if self.after_last_user and tail >= start and tuple(ids[tail:]) == self.after_last_user:
            return start, tail
        ends = (i for i in range(start, len(ids)) if ids[i] in self.control)
        return start, next(ends, len(ids))

    def system_place(self, ids: Sequence[int]) -> Insertion | None:
        """Return where text can join the system message: at its end, or as a new one.

        None when ``ids`` are not such a prompt or the template has no system role.
        """
        if self.system_open is None or self.system_close is None:
            return None
        if self.system_open and tuple(ids[: len(self.system_open)]) == self.system_open:
            at = _find(ids, self.system_close, len(self.system_open))
            return None if at is None else Insertion(at)
        if self.new_before and tuple(ids[: len(self.head)]) == self.head:
            return Insertion(len(self.head), self.new_before, self.new_after)
        return None


def chat_layout(tokenizer: Any) -> ChatLayout | None:
    """Learn the layout of the tokenizer's chat template; None without a template or when it shows no markers."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    from memedit.models.tokenizers import control_ids

    first, other_first = (_render(tokenizer, _user(word)) for word in (_ONE, _OTHER))
    if first is None or other_first is None:
        return None
    head = _common_prefix(first, other_first)
    after = _common_suffix(first, other_first)
    before_user = _last_user_opening(tokenizer, head)
    if not before_user:
        return None
    opening, closing, block = _system(tokenizer, first, head)
    prefix, new_before, new_after = block or ((), (), ())
    return ChatLayout(
        before_user=before_user,
        after_last_user=after,
        system_open=opening,
        system_close=closing,
        head=prefix,
        new_before=new_before,
        new_after=new_after,
        control=control_ids(tokenizer),
    )


def render_chat(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **options: Any) -> Ids:
    """Return the ids of a templated chat that awaits the assistant's answer.

    A last message of the assistant's is a beginning to be continued, as in transformers' pipeline. Content may come in
    any form of :func:`~memedit.models.messages.plain_messages`. Where the template has no place for system text, it
    stands before the text of the user turn that follows. ``options`` go to ``apply_chat_template`` (tools ...).

    Raises:
        InputError: a message that the template refuses or does not show; names its role.
    """
    plain = plain_messages(messages)
    _check_tool_calls(tokenizer, plain)
    has_system = any(message["role"] == "system" for message in plain)
    given = folded(plain) if has_system and not _takes_system(tokenizer) else plain
    try:
        return _templated(tokenizer, given, options)
    except Exception as error:  # templates raise what they like (jinja2's TemplateError, TypeError, ...)
        later = folded(given, first=1)
        if later != given:  # a template may take system text in front and nowhere else
            with suppress(Exception):
                return _templated(tokenizer, later, options)
        number = _refused(tokenizer, given, options)
        if given is not plain:
            number = [*(i for i, message in enumerate(plain) if message["role"] != "system"), len(plain) - 1][number]
        raise InputError(
            f"the model's chat template refuses message {number} (role {plain[number]['role']!r}): "
            f"{type(error).__name__}: {error}; give roles in an order that it takes, or set tokenizer.chat_template"
        ) from error


def _templated(tokenizer: Any, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Ids:
    continued = messages[-1]["role"] == "assistant"
    options = {"add_generation_prompt": not continued, "continue_final_message": continued, **options}
    rendered = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=True, return_dict=True, **options)
    return tuple(int(i) for i in rendered["input_ids"])


def _check_tool_calls(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    for number, message in enumerate(messages):
        if message.get("tool_calls") and "tool_calls" not in str(tokenizer.chat_template):
            raise InputError(
                f"message {number} (role {message['role']!r}) has tool_calls, which the model's chat template does not "
                "show; write them into its content, or leave the message out"
            )


def _takes_system(tokenizer: Any) -> bool:
    """Whether the template shows a system message."""
    first, other = (_render(tokenizer, [{"role": "system", "content": w}, *_user(_ONE)]) for w in (_ONE, _OTHER))
    return first is not None and first != other


def _refused(tokenizer: Any, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> int:
    """Return the number of the first message with which a chat is refused."""
    for size in range(1, len(messages)):
        if messages[size - 1]["role"] == "system":  # many templates want a question behind it
            continue
        try:
            _templated(tokenizer, messages[:size], options)
        except Exception:
            return size - 1
    return len(messages) - 1


def _user(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> Ids | None:
    """Render a probe; a template may refuse a role with any error of its own."""
    try:
        return _templated(tokenizer, messages, {})
    except Exception:  # it is the template's own business why
        return None


def _last_user_opening(tokenizer: Any, head: Ids) -> Ids:
    """Return what precedes a first and a later user turn alike."""

    def talk(answer: str, question: str) -> Ids | None:
        return _render(tokenizer, [*_user(_ONE), {"role": "assistant", "content": answer}, *_user(question)])

    base, other_answer, other_question = talk(_ONE, _ONE), talk(_OTHER, _ONE), talk(_ONE, _OTHER)
    if base is None or other_answer is None or other_question is None:
        return head
    start = len(base) - len(_common_suffix(base, other_answer))
    between = base[start : len(_common_prefix(base, other_question))]
    return _common_suffix(head, between)


def _system(tokenizer: Any, without: Ids, head: Ids) -> tuple[Ids | None, Ids | None, tuple[Ids, Ids, Ids] | None]:
    """Return what opens and closes a system message, and how a new one is inserted where there is none."""

    def talk(text: str, question: str) -> Ids | None:
        return _render(tokenizer, [{"role": "system", "content": text}, *_user(question)])

    base, other, question = talk(_ONE, _ONE), talk(_OTHER, _ONE), talk(_ONE, _OTHER)
    if base is None or other is None or question is None or base == other:
        return None, None, None
    opening = _common_prefix(base, other)
    end = len(base) - len(_common_suffix(base, other))
    closing = base[end : len(_common_prefix(base, question))]
    if without[: len(opening)] == opening:  # the template has a default system message
        return opening, closing, None
    prefix = _common_prefix(base, without)[: len(opening)]
    size = len(base) - len(without)
    if size <= 0 or base[len(prefix) + size :] != without[len(prefix) :]:
        return opening, closing, None
    return opening, closing, (prefix, base[len(prefix) : len(opening)], base[end : len(prefix) + size])


def _common_prefix(a: Ids, b: Ids) -> Ids:
    size = 0
    while size < min(len(a), len(b)) and a[size] == b[size]:
        size += 1
    return a[:size]


def _common_suffix(a: Ids, b: Ids) -> Ids:
    return _common_prefix(a[::-1], b[::-1])[::-1]


def _find(ids: Sequence[int], wanted: Ids, start: int = 0) -> int | None:
    places = range(start, len(ids) - len(wanted) + 1)
    return next((i for i in places if tuple(ids[i : i + len(wanted)]) == wanted), None) if wanted else None


def _rfind(ids: Sequence[int], wanted: Ids) -> int | None:
    places = range(len(ids) - len(wanted), -1, -1)
    return next((i for i in places if tuple(ids[i : i + len(wanted)]) == wanted), None) if wanted else None
