"""The head as a PyTorch module, for training; it computes what :mod:`memedit.scope.classifier.head` computes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memedit.scope.classifier.features import FEATURES, TOKEN_FEATURES
from memedit.types import FloatArray
from memedit.workflows.scope_training.dataset import ExampleSet

_FAR = -1e4
_SUBJECT = TOKEN_FEATURES.index("subject")
_USED = TOKEN_FEATURES.index("used")


@dataclass(frozen=True, slots=True)
class HeadSize:
    """Widths of the head: ``width`` of its token vectors, ``hidden`` of its last layers; and the dropout there."""

    projection: int = 128
    width: int = 96
    hidden: int = 128
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """Examples padded to one shape: ``features [b, f]``, token arrays ``[b, n, p]``, ``[b, n, 5]``."""

    features: Tensor
    query_tokens: Tensor
    query_extra: Tensor
    edit_tokens: Tensor
    edit_extra: Tensor


class Head(nn.Module):
    """See :func:`memedit.scope.classifier.head.head_logits`."""

    def __init__(self, size: HeadSize) -> None:
        super().__init__()
        width, hidden, count = size.width, size.hidden, len(FEATURES)
        self.embed = nn.Linear(size.projection + len(TOKEN_FEATURES), width)
        self.attend = nn.Linear(width, width)
        self.compare = nn.Linear(4 * width, width)
        self.pool = nn.Linear(8 * width, hidden)
        self.judge1 = nn.Linear(hidden + count, hidden)
        self.judge2 = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(size.dropout)
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.register_buffer("feature_mean", torch.zeros(count))
        self.register_buffer("feature_scale", torch.ones(count))

    def forward(self, batch: TensorBatch) -> Tensor:
        """Return logits ``[b]``."""
        used_query, used_edit = batch.query_extra[..., _USED] > 0.5, batch.edit_extra[..., _USED] > 0.5
        query = torch.tanh(self.embed(torch.cat([batch.query_tokens, batch.query_extra], -1)))
        edit = torch.tanh(self.embed(torch.cat([batch.edit_tokens, batch.edit_extra], -1)))
        attention = self.attend(edit) @ self.attend(query).transpose(1, 2) / edit.shape[-1] ** 0.5
        from_query = attention.masked_fill(~used_query[:, None, :], _FAR).softmax(-1) @ query
        from_edit = attention.transpose(1, 2).masked_fill(~used_edit[:, None, :], _FAR).softmax(-1) @ edit
        pooled = torch.cat(
            [
                _pool(self._compared(edit, from_query), used_edit, batch.edit_extra[..., _SUBJECT] > 0.5),
                _pool(self._compared(query, from_edit), used_query, batch.query_extra[..., _SUBJECT] > 0.5),
            ],
            -1,
        )
        features = (batch.features - self.feature_mean) / self.feature_scale
        hidden = torch.cat([self.dropout(torch.relu(self.pool(pooled))), features], -1)
        logits: Tensor = self.judge2(torch.relu(self.judge1(hidden)))[:, 0]
        return logits

    def _compared(self, own: Tensor, found: Tensor) -> Tensor:
        joined = torch.cat([own, found, (own - found).abs(), own * found], -1)
        return torch.relu(self.compare(joined))

    def arrays(self) -> dict[str, FloatArray]:
        """Return the parameters as NumPy arrays, for the NumPy head."""
        return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in self.state_dict().items()}


def _pool(compared: Tensor, used: Tensor, subject: Tensor) -> Tensor:
    parts = []
    for rows in (used & subject, used & ~subject):
        mask = rows[..., None].float()
        parts += [(compared * mask).sum(1) / mask.sum(1).clamp(min=1.0), (compared * mask).amax(1)]
    return torch.cat(parts, -1)


def gather(examples: ExampleSet, numbers: np.ndarray) -> TensorBatch:
    """Pad the examples ``numbers`` into one batch."""
    query_start, edit_start = examples.query_start[examples.query[numbers]], examples.edit_start[examples.row[numbers]]
    query_extra = _rows(examples.query_extra, examples.query_extra_start, numbers)
    edit_extra = _rows(examples.edit_extra, examples.edit_extra_start, numbers)
    return TensorBatch(
        features=torch.from_numpy(examples.features[numbers]),
        query_tokens=_pad(
            [examples.query_tokens[s : s + len(x)] for s, x in zip(query_start, query_extra, strict=True)]
        ),
        query_extra=_pad(query_extra),
        edit_tokens=_pad([examples.edit_tokens[s : s + len(x)] for s, x in zip(edit_start, edit_extra, strict=True)]),
        edit_extra=_pad(edit_extra),
    )


def _rows(flat: np.ndarray, start: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    return [flat[start[number] : start[number + 1]] for number in numbers]


def _pad(parts: list[np.ndarray]) -> Tensor:
    out = np.zeros((len(parts), max(1, *(len(part) for part in parts)), parts[0].shape[1]), np.float32)
    for row, part in enumerate(parts):
        out[row, : len(part)] = part
    return torch.from_numpy(out)
