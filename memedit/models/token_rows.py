"""Rows of token ids for training, and what a model predicts at their scored positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memedit.models.hooks import contiguous_head
from memedit.models.tokenizers import encode_as_data

_MARK = "\ue000"

IGNORE = -100
"""Label of positions that are not scored."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Token ids of one query with its answer; the last ``scored`` of them are predicted and scored.

    ``source`` is the number of the edit it belongs to.
    """

    ids: tuple[int, ...]
    scored: int
    source: int

    def __len__(self) -> int:
        return len(self.ids)


def answer_row(
    tokenizer: Any, query: str, target: str, source: int, *, chat: bool, limit: int, ends: bool = False
) -> TokenRow | None:
    """Return the row of a query with its answer (and end token, with ``ends``); None when longer than ``limit``."""
    start = query_ids(tokenizer, query, chat=chat)
    answer = answer_ids(tokenizer, query, target, chat=chat, ends=ends)
    row = TokenRow((*start, *answer), len(answer), source)
    return row if answer and len(row.ids) <= limit else None


def answer_ids(tokenizer: Any, query: str, target: str, *, chat: bool, ends: bool) -> list[int]:
    """Return an answer's ids as they follow a query, with the end token if it ``ends``; empty for an empty target."""
    glued = chat or query[-1:].isspace()
    answer = list(encode_as_data(tokenizer, target if glued else f" {target}"))
    closed = ends and answer and tokenizer.eos_token_id is not None
    return [*answer, int(tokenizer.eos_token_id)] if closed else answer


def query_ids(tokenizer: Any, query: str, *, chat: bool) -> list[int]:
    """Return a query's ids as the runtime feeds them: plain, or as the user turn of a chat.

    The query comes from an edit: added tokens that stand in it are data.
    """
    data = encode_as_data(tokenizer, query)
    if data == tokenizer(query, add_special_tokens=False)["input_ids"]:
        return _ids(tokenizer, _turn(tokenizer, query)) if chat else _ids(tokenizer, query, special=True)
    if chat:
        head, tail = (_ids(tokenizer, part) for part in _turn(tokenizer, _MARK).split(_MARK))
    else:
        bare, whole = _ids(tokenizer, "a"), _ids(tokenizer, "a", special=True)
        at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        head, tail = whole[:at], whole[at + len(bare) :]
    return [*head, *data, *tail]


def _turn(tokenizer: Any, query: str) -> str:
    messages = [{"role": "user", "content": query}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _ids(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    return [int(i) for i in tokenizer(text, add_special_tokens=special)["input_ids"]]


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows padded on the left: ``ids [b, t]``, ``mask [b, t]`` and, for the last ``width`` positions, ``labels``."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    sources: Tensor

    @property
    def width(self) -> int:
        """Scored positions of the row that has most."""
        return int(self.labels.shape[1])


def pad_rows(rows: Sequence[TokenRow], pad_id: int) -> PaddedRows:
    """Pad rows on the left, so that the answers of all end at the same place."""
    length, width = max(len(row.ids) for row in rows), max(row.scored for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORE)
    for i, row in enumerate(rows):
        ids[i, length - len(row.ids) :] = torch.tensor(row.ids)
        mask[i, length - len(row.ids) :] = 1
        labels[i, width - row.scored :] = torch.tensor(row.ids[len(row.ids) - row.scored :])
    return PaddedRows(ids, mask, labels, torch.tensor([row.source for row in rows]))


def scored_logits(model: Any, rows: PaddedRows, prompts: Tensor | None = None) -> Tensor:
    """Return logits ``[b, width, v]`` that predict the scored tokens of each row.

    ``prompts [n, l, d_model]`` are placed before each row's first token (``rows.sources`` says which), behind the
    padding, as at inference; None runs the model on the tokens alone. Differentiable in the prompts and in whatever
    parameters of the model take gradients, but not in its token embeddings.
    """
    device = next(model.parameters()).device
    ids, mask = rows.ids.to(device), rows.mask.to(device)
    embedded = model.get_input_embeddings()(ids).detach()
    if prompts is not None:
        embedded, mask = _with_prompts(embedded, mask, prompts[rows.sources].to(embedded))
    with contiguous_head(model):
        out = model(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            use_cache=False,
            logits_to_keep=rows.width + 1,
        )
    logits: Tensor = out.logits[:, -rows.width - 1 : -1]
    return logits


def answers_loss(model: Any, rows: PaddedRows) -> Tensor:
    """Return the cross-entropy of the scored tokens of all rows, summed, in nats."""
    logits = scored_logits(model, rows).float().flatten(0, 1)
    labels = rows.labels.to(logits.device).flatten()
    return functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")


def _with_prompts(embedded: Tensor, mask: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Insert ``prompts [b, l, d]`` between each row's left padding and its first token."""
    _, length, width = embedded.shape
    tokens = prompts.shape[1]
    pads = length - mask.sum(1)
    at = torch.arange(length + tokens, device=embedded.device).unsqueeze(0) - pads.unsqueeze(1)
    is_prompt = (at >= 0) & (at < tokens)
    from_row = torch.where(at < 0, at + pads.unsqueeze(1), at - tokens + pads.unsqueeze(1)).clamp(0, length - 1)
    rows = embedded.gather(1, from_row.unsqueeze(-1).expand(-1, -1, width))
    placed = prompts.gather(1, at.clamp(0, tokens - 1).unsqueeze(-1).expand(-1, -1, width))
    whole = torch.where(is_prompt.unsqueeze(-1), placed, rows)
    return whole, (at >= 0).to(mask.dtype)
