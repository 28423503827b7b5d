"""A tiny model that was taught to answer one prompt with one text of a few sentences."""

from functools import cache
from typing import Any

import torch

from support.tiny import tiny_model, tiny_tokenizer

PROMPT = "Tell me. "
SENTENCES = ("Birds sing.", " The maker of the Falcon Pro is Old Co.", " It flies well.")
TEXT = "".join(SENTENCES)


@cache
def _taught_state() -> dict[str, torch.Tensor]:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    ids = torch.tensor([[*tokenizer(PROMPT + TEXT)["input_ids"], tokenizer.eos_token_id]])
    optimiser = torch.optim.Adam(model.parameters(), lr=8e-3)
    model.train()
    for _ in range(400):
        loss = model(input_ids=ids, labels=ids).loss
        if loss.item() < 0.01:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def teller_model() -> Any:
    """Return a fresh copy of the model."""
    model = tiny_model("llama")
    model.load_state_dict(_taught_state())
    return model.eval()
