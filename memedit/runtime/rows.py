"""From what callers pass (texts, chats, tensors) to rows, and from rows to left-padded tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from memedit.adapters.base import ChatMessages, Row
from memedit.errors import InputError
from memedit.models.chat import ChatLayout, render_chat
from memedit.models.messages import plain_messages

Prompt = str | ChatMessages | Row
Prompts = Prompt | Sequence[Prompt]


def prompt_list(prompts: Prompts) -> list[Prompt]:
    """Return one prompt or many as a list; a list of messages is one chat, a row a prompt that is tokens already.

    Raises:
        InputError: neither text nor a sequence.
    """
    if isinstance(prompts, str | Row):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise InputError(f"prompts must be text, a chat, or a sequence of these, not {type(prompts).__name__}")
    if prompts and isinstance(prompts[0], Mapping):
        return [cast(ChatMessages, prompts)]
    return list(cast(Sequence[Prompt], prompts))


def prompt_row(tokenizer: Any, prompt: Prompt, *, tools: Sequence[Any] | None = None) -> Row:
    """Tokenise one prompt as transformers would; ``text`` is what is looked up (a chat's last user turn).

    ``tools`` are shown by a chat's template.

    Raises:
        InputError: empty, not encodable as UTF-8, a chat for a tokenizer without a chat template, or a message that
            its template does not take.
    """
    if isinstance(prompt, Row):
        return prompt
    if isinstance(prompt, str):
        check_characters(prompt)
        ids = tuple(int(i) for i in tokenizer(prompt)["input_ids"])
        if not prompt or not ids:
            raise InputError("the prompt is empty; give at least one character")
        return Row(ids=ids, text=prompt)
    messages = plain_messages(prompt)
    for message in messages:
        check_characters(message["content"])
    if getattr(tokenizer, "chat_template", None) is None:
        raise InputError(
            "this model's tokenizer has no chat template; give a plain prompt, or set tokenizer.chat_template"
        )
    asked = [message for message in messages if message["role"] == "user"]
    shown = {"tools": list(tools)} if tools else {}
    return Row(
        ids=render_chat(tokenizer, messages, **shown), text=(asked or messages)[-1]["content"], messages=messages
    )


def content_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message whose content is a string or a list of typed parts; a call of tools has none."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def check_characters(text: str) -> None:
    """Refuse a prompt that is no Unicode text.

    Raises:
        InputError: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the prompt holds a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, which no "
            "tokenizer can read; decode the text properly or replace the character"
        ) from error


def given_ids(inputs: Tensor | None, options: Mapping[str, Any]) -> Tensor | None:
    """Return the token ids ``[B, T]`` that a call of ``generate`` is given; None where it has others, or none.

    Raises:
        InputError: they are of no length.
    """
    ids = inputs if inputs is not None else options.get("input_ids")
    if options.get("inputs_embeds") is not None or not isinstance(ids, Tensor) or ids.dim() != 2:
        return None
    if ids.shape[1] == 0:
        raise InputError(f"input_ids of shape {tuple(ids.shape)} hold no token; give at least one")
    return ids


def tensor_rows(tokenizer: Any, layout: ChatLayout | None, ids: Tensor, mask: Tensor) -> list[Row]:
    """Read rows back from ``ids [B, T]`` and their attention mask; control tokens are left out of the text.

    Ids made with the tokenizer's chat template are recognised by its markers: their text is the last user turn.
    """
    rows = []
    for row_ids, row_mask in zip(ids.tolist(), mask.tolist(), strict=True):
        kept = tuple(i for i, on in zip(row_ids, row_mask, strict=True) if on)
        turn = layout.last_user_span(kept) if layout is not None else None
        asked = kept[turn[0] : turn[1]] if turn is not None else kept
        rows.append(Row(ids=kept, text=tokenizer.decode(list(asked), skip_special_tokens=True)))
    return rows


def attention_mask(tokenizer: Any, config: Any, ids: Tensor, given: Tensor | None) -> Tensor:
    """Return the mask that ``generate`` will use: the caller's, or padding told apart from text where it can be.

    Raises:
        InputError: the caller's is of another shape than ``ids``.
    """
    if given is not None:
        if given.shape != ids.shape:
            raise InputError(f"attention_mask of shape {tuple(given.shape)} for input_ids of shape {tuple(ids.shape)}")
        return given
    pad = getattr(config, "pad_token_id", None)
    eos = getattr(config, "eos_token_id", None)
    ends = eos if isinstance(eos, list) else [eos]
    if pad is None or pad in ends:
        return torch.ones_like(ids)
    return (ids != pad).to(ids.dtype)


def left_pad(rows: Sequence[Row], pad_id: int, device: Any) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return ids ``[B, T]``, attention mask ``[B, T]`` and the padding in front of each row."""
    width = max(len(row.ids) for row in rows)
    pads = tuple(width - len(row.ids) for row in rows)
    ids = [[pad_id] * pad + list(row.ids) for row, pad in zip(rows, pads, strict=True)]
    mask = [[0] * pad + [1] * len(row.ids) for row, pad in zip(rows, pads, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device), pads
