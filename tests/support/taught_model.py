"""A tiny model that was taught facts, in a second or two, so that checks of edits have something to say."""

from functools import cache

import torch

from memedit.models import LoadedModel, model_fingerprint
from support.tiny import tiny_model, tiny_tokenizer

SUBJECTS = tuple("abcdefghijklmnop")
ANSWERS = "ABCDEFGH"


def prompt_of(subject: str) -> str:
    """The question about a subject."""
    return f"of {subject} is"


def answer_of(subject: str) -> str:
    """What the taught model says."""
    return ANSWERS[SUBJECTS.index(subject) % len(ANSWERS)]


def other_than(subject: str) -> str:
    """What it does not say."""
    return ANSWERS[(SUBJECTS.index(subject) + 3) % len(ANSWERS)]


@cache
def _taught_state() -> dict[str, torch.Tensor]:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    ids = torch.tensor([tokenizer(f"{prompt_of(s)} {answer_of(s)}\n")["input_ids"] for s in SUBJECTS])
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(80):
        loss = model(input_ids=ids, labels=ids).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def taught_model() -> LoadedModel:
    """Return a fresh copy of the taught model."""
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    model.load_state_dict(_taught_state())
    model.eval()
    return LoadedModel(model, tokenizer, "taught", model_fingerprint(model, tokenizer))
