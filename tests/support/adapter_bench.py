"""Adapters at work on tiny models: a left-padded batch's logits, and what was said behind a prompt."""

from collections.abc import Sequence
from typing import Any

import torch

from memedit.adapters.base import AdapterBatch, Row


def said(rows: torch.Tensor, tokenizer: Any, prompt: str = "") -> list[list[int]]:
    """What was said behind a prompt, up to the end token."""
    new = rows[:, len(tokenizer(prompt)["input_ids"]) :].tolist()
    return [row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row for row in new]


def batch_logits(base: tuple[Any, Any], adapter: Any, texts: Sequence[str], edits: Sequence[Any], blobs: Any) -> Any:
    """Return the logits ``[b, t, v]`` of a left-padded batch under an adapter, with each row's edits."""
    model, tokenizer = base
    rows = tuple(Row(tuple(tokenizer(text)["input_ids"]), text) for text in texts)
    length = max(len(row.ids) for row in rows)
    pads = tuple(length - len(row.ids) for row in rows)
    ids = torch.tensor([[0] * pad + list(row.ids) for pad, row in zip(pads, rows, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (length - pad) for pad in pads])
    with torch.no_grad(), adapter.active(AdapterBatch(rows, tuple(edits), pads), blobs):
        place = (mask.cumsum(1) - 1).clamp_min(0)
        return model(input_ids=ids, attention_mask=mask, position_ids=place).logits


def last_logits(base: tuple[Any, Any], adapter: Any, texts: Sequence[str], edits: Sequence[Any], blobs: Any) -> Any:
    """Return the logits ``[b, v]`` of the batch's last position."""
    return batch_logits(base, adapter, texts, edits, blobs)[:, -1]
