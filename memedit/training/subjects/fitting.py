"""Fit the tagger to labelled texts, and say how well it finds what it has not seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from memedit.encoders.base import Encoder
from memedit.evaluation.metrics.statistics import rate
from memedit.index.subject_tagging import FEATURES, OUTSIDE, SUBJECT, VALUE, SubjectTagger, token_features
from memedit.index.words import words
from memedit.training.subjects.examples import ARTICLES, LabelledText
from memedit.types import Encoding, FloatMatrix

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class TaggerSettings:
    """Size of the network and of the fit; ``epochs`` passes over all texts in batches of ``batch``."""

    hidden: int = 96
    width: int = 3
    epochs: int = 3
    batch: int = 64
    rate: float = 3e-3
    dropout: float = 0.15


class TaggerNetwork(nn.Module):
    """The network of :class:`~memedit.index.subject_tagging.SubjectTagger`, for training."""

    def __init__(self, dimension: int, settings: TaggerSettings) -> None:
        super().__init__()
        h, k = settings.hidden, settings.width
        self.add_module("in", nn.Linear(dimension + FEATURES, h))
        self.context = nn.Linear(h, h)
        self.first = nn.Conv1d(h, h, k, padding=k // 2)
        self.second = nn.Conv1d(h, h, k, padding=k // 2)
        self.out = nn.Linear(h, 3)
        self._drop = nn.Dropout(settings.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits ``[b, t, 3]`` for ``x [b, t, d]``; ``mask [b, t, 1]`` is 1 where there is a token."""
        h = torch.relu(self.get_submodule("in")(self._drop(x))) * mask
        h = (h + self.context(h.sum(1, keepdim=True) / mask.sum(1, keepdim=True))) * mask
        for layer in (self.first, self.second):
            h = (h + torch.relu(layer(h.transpose(1, 2)).transpose(1, 2))) * mask
        logits: torch.Tensor = self.out(self._drop(h))
        return logits


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token inputs ``[t, d + FEATURES]`` (float16) and labels ``[t]`` of a text."""

    inputs: np.ndarray[Any, np.dtype[np.float16]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


def encode_examples(
    texts: Sequence[LabelledText], encoder: Encoder, progress: Progress | None = None
) -> list[EncodedExample]:
    """Encode texts and label their tokens."""
    examples: list[EncodedExample | None] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].text))
    for at in range(0, len(order), _CHUNK):
        rows = order[at : at + _CHUNK]
        for i, encoding in zip(rows, encoder.encode_tokens([texts[i].text for i in rows]), strict=True):
            if encoding.spans:
                features = token_features(encoding.text, encoding.spans)
                inputs = np.concatenate([encoding.tokens, features], axis=1).astype(np.float16)
                examples[i] = EncodedExample(inputs, _labels(texts[i], encoding))
        if progress is not None:
            progress("encoding", min(at + _CHUNK, len(order)), len(order))
    return [example for example in examples if example is not None]


def _labels(text: LabelledText, encoding: Encoding) -> "np.ndarray[Any, np.dtype[np.int64]]":
    labels = np.full(len(encoding.spans), OUTSIDE, dtype=np.int64)
    for label, spans in ((VALUE, text.values), (SUBJECT, text.subjects)):
        for start, end in spans:
            for i, (a, b) in enumerate(encoding.spans):
                if a < end and b > start:
                    labels[i] = label
    return labels


def fit_tagger(
    examples: Sequence[EncodedExample],
    settings: TaggerSettings | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, FloatMatrix]:
    """Fit the network; return its weights in float16 by name. The same examples and seed give the same weights."""
    settings = settings or TaggerSettings()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = TaggerNetwork(examples[0].inputs.shape[1] - FEATURES, settings).train()
    steps = settings.epochs * -(-len(examples) // settings.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps + 1, pct_start=0.1)
    done = 0
    for _ in range(settings.epochs):
        for batch in _batches(examples, settings.batch, rng):
            x, labels, mask = _padded([examples[i] for i in batch])
            loss = nn.functional.cross_entropy(network(x, mask).flatten(0, 1), labels.flatten(), ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress("fitting", done, steps)
    state = network.eval().state_dict()
    return {name: array.numpy().astype(np.float16) for name, array in state.items()}


def _batches(examples: Sequence[EncodedExample], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of similar length in random order."""
    order = rng.permutation(len(examples))
    pools = [order[at : at + 50 * size] for at in range(0, len(order), 50 * size)]
    batches = []
    for pool in pools:
        by_length = sorted(pool.tolist(), key=lambda i: len(examples[i].labels))
        batches += [by_length[at : at + size] for at in range(0, len(by_length), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _padded(examples: Sequence[EncodedExample]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(example.labels) for example in examples)
    x = torch.zeros(len(examples), width, examples[0].inputs.shape[1])
    labels = torch.full((len(examples), width), -1)
    mask = torch.zeros(len(examples), width, 1)
    for i, example in enumerate(examples):
        n = len(example.labels)
        x[i, :n] = torch.from_numpy(example.inputs.astype(np.float32))
        labels[i, :n] = torch.from_numpy(example.labels)
        mask[i, :n] = 1.0
    return x, labels, mask


def alike(found: str | None, wanted: str | None) -> tuple[bool, bool]:
    """Whether two spans have the same words but for a leading article, and a word F1 of at least one half."""
    if wanted is None or found is None:
        return found == wanted, found == wanted
    a, b = ([word.folded for word in words(text)] for text in (found, wanted))
    a, b = (x[1:] if len(x) > 1 and x[0] in ARTICLES else x for x in (a, b))
    shared = 2 * len(set(a) & set(b)) / max(1, len(set(a)) + len(set(b)))
    return a == b, shared >= 0.5


def score_tagger(tagger: SubjectTagger, encoder: Encoder, texts: Iterable[LabelledText]) -> list[dict[str, Any]]:
    """Rows of a report: for each source exact and overlapping spans of subject and value, in percent with intervals."""
    by_source: dict[str, list[LabelledText]] = {}
    for text in texts:
        by_source.setdefault(text.source, []).append(text)
    rows = []
    for source, group in by_source.items():
        readings = [
            tagger.read(encoding)
            for at in range(0, len(group), _CHUNK)
            for encoding in encoder.encode_tokens([text.text for text in group[at : at + _CHUNK]])
        ]
        pairs = list(zip(readings, group, strict=True))
        rows.append(_row(source, "subject", [alike(reading.subject, text.subject) for reading, text in pairs]))
        said = [alike(reading.value, text.value) for reading, text in pairs if text.values]
        if said:
            rows.append(_row(source, "value", said))
    return rows


def _row(source: str, part: str, found: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    exact, overlap = rate([e for e, _ in found]), rate([o for _, o in found])
    return {"source": source, "part": part, "n": exact.n, "exact": exact.as_json(), "overlap": overlap.as_json()}
