"""Fitting the small networks of :mod:`memedit.scope.classifier.networks`."""

import numpy as np
import torch

from memedit.scope.classifier.networks import Layers
from memedit.types import FloatArray

_HIDDEN, _STEPS = 24, 1500
_RATE, _DECAY, _PENALTY = 1e-2, 1e-2, 1e-4


def fit_network(inputs: FloatArray, labels: np.ndarray, weights: np.ndarray, *, seed: int) -> Layers:
    """Fit by AdamW on all examples at once, the step falling to nothing; deterministic by seed.

    Args:
        inputs: ``[n, i]``.
        labels: of ``[n]`` examples, in [0, 1].
        weights: what each counts, ``[n]``.
        seed: of the initial weights.
    """
    read, wanted, share = (torch.from_numpy(np.asarray(a, np.float32)) for a in (inputs, labels, weights))
    generator = torch.Generator().manual_seed(seed)
    layers = {
        "hidden.weight": torch.randn(_HIDDEN, read.shape[1], generator=generator) / read.shape[1] ** 0.5,
        "hidden.bias": torch.zeros(_HIDDEN),
        "out.weight": torch.randn(_HIDDEN, generator=generator) / _HIDDEN**0.5,
        "out.bias": torch.zeros(1),
    }
    parameters = [layer.requires_grad_() for layer in layers.values()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        hidden = torch.tanh(read @ layers["hidden.weight"].T + layers["hidden.bias"])
        logits = hidden @ layers["out.weight"] + layers["out.bias"]
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        loss = (share * each).sum() + _PENALTY * torch.stack([p.square().sum() for p in parameters]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: layer.detach().numpy() for name, layer in layers.items()}
