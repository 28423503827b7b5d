"""Small networks that judge a pair of query and edit by its features, in NumPy."""

from collections.abc import Mapping

import numpy as np

from memedit.types import FloatArray

Layers = Mapping[str, FloatArray]
"""``hidden.weight [h, i]``, ``hidden.bias [h]``, ``out.weight [h]``, ``out.bias [1]``."""

_LOGIT_SCALE, _FAR = np.float32(4.0), np.float32(4.0)


def network_logits(layers: Layers, inputs: FloatArray, *, under: str = "") -> FloatArray:
    """Return logits ``[n]`` of ``inputs [n, i]``; ``under``: what the layers' names begin with."""
    hidden = np.tanh(inputs @ layers[f"{under}hidden.weight"].T + layers[f"{under}hidden.bias"])
    logits: FloatArray = hidden @ layers[f"{under}out.weight"] + layers[f"{under}out.bias"]
    return logits


def relation_inputs(logits: FloatArray, features: FloatArray) -> FloatArray:
    """Return what the relation's network reads ``[n, 1 + f]``: logits of the head, and standardised features.

    Features far from what training saw count as just outside of it.
    """
    return np.concatenate([logits[:, None] / _LOGIT_SCALE, np.clip(features, -_FAR, _FAR)], axis=1)
