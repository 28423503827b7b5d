"""Hidden states of texts as an answerer's own passes have them."""

from collections.abc import Sequence

import numpy as np
import torch

from memedit.evaluation.answering import Answerer
from memedit.evaluation.rows.base import States
from memedit.models import LoadedModel
from memedit.models.hooks import capture
from memedit.models.spec import ModelSpec

_TAIL = " ."
_BATCH = 32


def state_layers(loaded: LoadedModel, edited: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return three layers to look behind: the top edited one, two thirds of the depth, the last.

    ``edited`` are the edited layers; None takes those that consolidation would.
    """
    spec = ModelSpec.of(loaded.model)
    top = max(edited if edited else spec.consolidation_layers())
    return tuple(sorted({top, (2 * spec.n_layers) // 3, spec.n_layers - 1}))


def last_states(loaded: LoadedModel, answerer: Answerer, texts: Sequence[str], layers: Sequence[int]) -> States:
    """Return the states behind ``layers`` at each text's last token, ``[texts, layers, d_model]``.

    They are caught while the answerer scores a full stop behind the texts, so that whatever it does to weights or
    prompts is in them. Where edits fire, a batch has several passes, and its texts are asked one by one.
    """
    parts = [_caught(loaded, answerer, texts[at : at + _BATCH], layers) for at in range(0, len(texts), _BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, len(layers), 0), dtype=np.float32)


def _caught(loaded: LoadedModel, answerer: Answerer, texts: Sequence[str], layers: Sequence[int]) -> States:
    names = [f"{ModelSpec.of(loaded.model).layers}.{layer}" for layer in layers]
    behind = 1 + answerer.count_tokens([_TAIL])[0]
    with capture(loaded.model, names, inputs=False) as record:
        answerer.score(list(texts), [_TAIL] * len(texts))
    caught = [record.outputs[name] for name in names]
    if len(caught[0]) > 1 and len(texts) > 1:
        return np.concatenate([_caught(loaded, answerer, [text], layers) for text in texts])
    # The last pass is the answer's own; before it an adapter may have read something else.
    states = torch.stack([passes[-1][:, -behind] for passes in caught], dim=1)
    return states.float().cpu().numpy()
