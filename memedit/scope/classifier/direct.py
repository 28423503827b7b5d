"""How directly a query asks for an edit's target: a small network on the classifier's features, in NumPy."""

import numpy as np

from memedit.scope.classifier.head import Weights
from memedit.types import FloatArray


def direct_logits(layers: Weights, features: FloatArray) -> FloatArray:
    """Return logits ``[n]``: above 0 the edit's own target is the answer, below it follows from the edit at best.

    Args:
        layers: ``hidden.weight [h, f]``, ``hidden.bias [h]``, ``out.weight [h]``, ``out.bias [1]``.
        features: standardised features ``[n, f]`` of pairs of query and edit.
    """
    hidden = np.tanh(features @ layers["hidden.weight"].T + layers["hidden.bias"])
    logits: FloatArray = hidden @ layers["out.weight"] + layers["out.bias"]
    return logits
