"""Exercises as token ids, with the base model's own continuations where no edit bears on the question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.reader.layout import insert_edits
from memedit.models.chat import ChatLayout, chat_layout, render_chat
from memedit.training.reader.examples import Example


@dataclass(frozen=True, slots=True)
class Encoded:
    """An exercise ready to train on: ``prompt`` and ``answer`` ids.

    ``soft`` is None for a given answer; for the base's own continuation it holds, for each of the answer's n tokens,
    the base's k most likely ids ``[n, k]`` and their probabilities ``[n, k]`` (renormalised).
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    soft: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def encode_examples(
    examples: Sequence[Example], model: Any, tokenizer: Any, *, base_tokens: int = 12, top_k: int = 32
) -> list[Encoded]:
    """Tokenise exercises in order; those without an answer get the base model's (``model`` without the reader)."""
    layout = chat_layout(tokenizer)
    prompts = [prompt_ids(tokenizer, example, layout) for example in examples]
    bare = [i for i, example in enumerate(examples) if example.answer is None]
    own = base_continuations(
        model,
        [prompt_ids(tokenizer, examples[i], edits=False) for i in bare],
        pad=tokenizer.pad_token_id,
        tokens=base_tokens,
        top_k=top_k,
    )
    found = dict(zip(bare, own, strict=True))
    encoded = []
    for i, example in enumerate(examples):
        if example.answer is None:
            ids, soft = found[i]
            encoded.append(Encoded(prompts[i], ids, soft))
        else:
            text = " ".join(example.answer.split())  # as the layout states it
            text = text if example.glued else f" {text}"
            answer = tokenizer(text, add_special_tokens=False)["input_ids"]
            encoded.append(Encoded(prompts[i], (*answer, tokenizer.eos_token_id)))
    return encoded


def prompt_ids(
    tokenizer: Any, example: Example, layout: ChatLayout | None = None, *, edits: bool = True
) -> tuple[int, ...]:
    """Return the ids of an exercise's prompt, with or without its edits; ``layout`` is that of the chat template."""
    if example.messages is None:
        ids = tuple(tokenizer(example.query)["input_ids"])
    else:
        ids = render_chat(tokenizer, example.messages)
    return insert_edits(tokenizer, layout, example.edits, ids) if edits else ids


def base_continuations(
    model: Any, prompts: Sequence[Sequence[int]], *, pad: int, tokens: int, top_k: int, batch: int = 32
) -> list[tuple[tuple[int, ...], tuple[Tensor, Tensor]]]:
    """Return, for each prompt in order, the greedy continuation and its top-k distribution at every step.

    A continuation ends with the first end-of-sequence token or after ``tokens`` tokens.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[Any] = [None] * len(prompts)
    ends = model.generation_config.eos_token_id
    stop = set(ends if isinstance(ends, list) else [ends])
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        width = max(len(prompts[i]) for i in part)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in part], device=model.device)
        mask = torch.tensor(
            [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in part], device=model.device
        )
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=pad,
                output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        top = torch.stack(out.logits, dim=1).float().softmax(-1).topk(top_k, dim=-1)
        for row, i in enumerate(part):
            said = out.sequences[row, width:].tolist()
            length = next((n + 1 for n, token in enumerate(said) if token in stop), len(said))
            probabilities = top.values[row, :length]
            soft = (top.indices[row, :length].cpu(), (probabilities / probabilities.sum(-1, keepdim=True)).cpu())
            found[i] = (tuple(said[:length]), soft)
    return found
