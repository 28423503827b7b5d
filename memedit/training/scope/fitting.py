"""Fitting the judge: one network, both heads in every step.

A step reads all relations of a few families. Its texts train the relation encoder on all their pairs; the pairs that
the relation encoder finds hardest, with made-up talks, names and times, train the cross-encoder.
"""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.scope.judge.network import MASK, JudgeNetwork, JudgeTokenizer
from memedit.training.checkpoints import load_checkpoint, save_checkpoint
from memedit.training.scope.batches import HOP, BatchMaker, Pair, Text
from memedit.training.scope.inventory import Family
from memedit.training.scope.rows import RewordedRow
from memedit.types import FloatArray

_POSITIVE = 3.0
"""How much more a pair of the same relation weighs: there are few among all pairs."""
_SMOOTH = 0.02
_DIRECT = 0.3
"""What the logit of a direct answer weighs beside that of an answer."""
_ALIKE = 0.72
"""Relations of two families whose untrained vectors are this near may be one question: such pairs teach nothing."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """What a judge depends on besides encoder and data.

    ``families`` are read whole in each step, each with at most ``relations`` relations and ``wordings`` of each;
    ``rows`` rows of data files come along. Of the step's pairs ``hard`` are judged by the cross-encoder too, with
    ``talks``, ``named``, ``several``, ``qualified``, ``hops`` and ``contrasts`` made.
    ``save_every``: steps between checkpoints.
    """

    steps: int = 5000
    families: int = 2
    relations: int = 10
    wordings: int = 3
    rows: int = 8
    hard: int = 24
    talks: int = 6
    named: int = 6
    several: int = 3
    qualified: int = 4
    hops: int = 3
    contrasts: int = 5
    learning_rate: float = 1e-4
    head_rate: float = 5e-4
    warmup: int = 200
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.families, self.relations, self.wordings, self.save_every) < 1
            or self.learning_rate <= 0
        ):
            raise InputError(f"judge settings out of range: {self}; counts are at least 1, the learning rate positive")


@dataclass(frozen=True, slots=True)
class JudgeProgress:
    """How far fitting has come; losses are running means."""

    step: int
    steps: int
    relation_loss: float
    pair_loss: float
    seconds_left: float


def fit_judge(
    network: JudgeNetwork,
    tokenizer: JudgeTokenizer,
    families: Sequence[Family],
    rows: Sequence[RewordedRow],
    *,
    noise: Sequence[str] = (),
    settings: JudgeSettings,
    folder: Path,
    progress: Callable[[JudgeProgress], None] | None = None,
) -> None:
    """Fit ``network`` in place; a checkpoint in ``folder`` of a run with the same settings and data is resumed.

    Raises:
        InputError: the checkpoint there belongs to another run.
    """
    torch.manual_seed(settings.seed)
    for embedding in (
        network.transformer.embeddings.word_embeddings,
        network.transformer.embeddings.position_embeddings,
    ):
        embedding.weight.requires_grad_(False)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in trained.items() if n.startswith("transformer")], "lr": settings.learning_rate},
            {"params": [p for n, p in trained.items() if n.startswith("head")], "lr": settings.head_rate},
            {"params": [network.scale, network.shift], "lr": 1e-2, "weight_decay": 0.0},
        ],
        weight_decay=0.01,
        betas=(0.9, 0.98),
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    key = _key(settings, families, rows)
    begin = load_checkpoint(folder, key=key, parameters=trained, optimizer=optimizer)
    maker = BatchMaker(families, rows, noise, settings.seed)
    alike = Alike(network, tokenizer, families)
    meter = _Meter(begin, settings.steps, progress)
    network.train()
    for step in range(begin, settings.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _schedule(step, settings)
        torch.manual_seed(settings.seed * 1_000_003 + step)
        losses = _step(network, tokenizer, maker.at(step), alike, settings=settings, step=step)
        nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.note(step + 1, *losses)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            save_checkpoint(folder, step=step + 1, key=key, parameters=trained, optimizer=optimizer)
    network.eval()


def start_from(network: JudgeNetwork, arrays: Mapping[str, FloatArray]) -> None:
    """Put the weights of a trained judge into a fresh network."""
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)


def _key(settings: JudgeSettings, families: Sequence[Family], rows: Sequence[RewordedRow]) -> str:
    described = json.dumps([asdict(settings), [family.name for family in families], len(rows)], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _schedule(step: int, settings: JudgeSettings) -> float:
    """Warm-up, then a cosine down to a hundredth."""
    done = min(1.0, max(0.0, (step - settings.warmup) / max(1, settings.steps - settings.warmup)))
    return min(1.0, (step + 1) / max(1, settings.warmup)) * (0.505 + 0.495 * math.cos(math.pi * done))


def _step(
    network: JudgeNetwork,
    tokenizer: JudgeTokenizer,
    maker: BatchMaker,
    alike: "Alike",
    *,
    settings: JudgeSettings,
    step: int,
) -> tuple[float, float]:
    """Add the gradients of one step; return both losses."""
    texts, drawn = maker.texts(settings.families, settings.relations, settings.wordings)
    labels, known = alike.labels(texts, {family.name: family for family in drawn})
    reworded = maker.reworded(settings.rows)
    lines = [text.text for text in texts] + [line for pair in reworded for line in pair]
    labels, known = _with_rows(labels, known, len(reworded))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = _in_parts(network.vectors, tokenizer.texts, lines, 4)
    logits = network.similarity_logits(vectors @ vectors.T)
    loss = _pairwise_loss(logits, labels, known)
    loss.backward()  # type: ignore[no-untyped-call]
    pairs = [
        *_hardest(texts, logits.detach(), labels, known, count=settings.hard, maker=maker, rng=random.Random(step)),
        *maker.talk_pairs(settings.talks),
        *maker.named_pairs(settings.named),
        *maker.several_pairs(settings.several),
        *maker.qualified_pairs(settings.qualified),
        *maker.hop_pairs(settings.hops),
        *maker.contrast_pairs(settings.contrasts),
        *maker.row_pairs(settings.rows),
    ]
    pairs.sort(key=lambda pair: len(pair.query) + len(pair.edit))
    total = 0.0
    for part in _of_like_length(pairs, 4):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network.pair_logits(tokenizer.pairs([(pair.query, pair.stored) for pair in part]))
        part_loss = _pair_loss(found.float(), part) / len(pairs)
        part_loss.backward()  # type: ignore[no-untyped-call]
        total += float(part_loss.detach())
    return float(loss.detach()), total


def _pair_loss(logits: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """Return the summed loss of both logits ``[n, 2]``; the second counts where the edit answers the query."""
    labels = torch.tensor([pair.label for pair in pairs])
    direct = torch.tensor([float(bool(pair.direct)) for pair in pairs])
    known = torch.tensor([float(pair.label > 0 and pair.direct is not None) for pair in pairs])
    wanted = torch.stack([labels, direct], 1) * (1 - _SMOOTH) + _SMOOTH / 2
    judged = torch.tensor([float(pair.kind != HOP) for pair in pairs])
    weights = torch.stack([judged, _DIRECT * known], 1)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * weights).sum()


def _of_like_length(pairs: list[Pair], parts: int) -> Iterator[list[Pair]]:
    """Cut pairs, sorted by length, so that short ones are not padded to long ones."""
    size = math.ceil(len(pairs) / parts)
    yield from (pairs[at : at + size] for at in range(0, len(pairs), size))


def _in_parts(run: Any, tokenise: Any, lines: Sequence[str], parts: int) -> Tensor:
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    size = math.ceil(len(order) / parts)
    found = [run(tokenise([lines[i] for i in order[at : at + size]])) for at in range(0, len(order), size)]
    back = torch.tensor([order.index(i) for i in range(len(lines))])
    return torch.cat(found).float()[back]


def _pairwise_loss(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    weights = torch.where(labels > 0, _POSITIVE, 1.0) * known
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels * (1 - _SMOOTH) + _SMOOTH / 2, reduction="none"
    )
    return 4.0 * (losses * weights).sum() / weights.sum()


def _with_rows(labels: Tensor, known: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Add the texts of rows of data files: each asks what the other of its row asks; of the rest nothing is known."""
    n, size = len(labels), len(labels) + 2 * rows
    wide, seen = torch.zeros(size, size), torch.zeros(size, size)
    wide[:n, :n], seen[:n, :n] = labels, known
    for row in range(rows):
        first, second = n + 2 * row, n + 2 * row + 1
        wide[first, second] = wide[second, first] = seen[first, second] = seen[second, first] = 1.0
    return wide, seen


def _hardest(
    texts: Sequence[Text],
    logits: Tensor,
    labels: Tensor,
    known: Tensor,
    *,
    count: int,
    maker: BatchMaker,
    rng: random.Random,
) -> list[Pair]:
    """Return pairs of a query and a storable text: a third hard ones of each label, the rest drawn."""
    stored = [j for j, text in enumerate(texts) if text.edit]
    pairs = [(i, j) for j in stored for i in range(len(texts)) if i != j and known[i, j] > 0]
    same = [pair for pair in pairs if labels[pair] > 0]
    other = [
        pair for pair in pairs if labels[pair] == 0 and texts[pair[0]].family in (texts[pair[1]].family, "mention")
    ]
    hard = count // 3
    same.sort(key=lambda pair: float(logits[pair]))
    other.sort(key=lambda pair: -float(logits[pair]))
    chosen = same[:hard] + other[: 2 * hard : 2]
    rest = count - len(chosen)
    chosen += rng.sample(same, min(rest // 2, len(same))) + rng.sample(other, min(rest - rest // 2, len(other)))
    return [
        Pair(
            texts[i].text, texts[j].text, float(labels[i, j]), "inventory", texts[i].direct, maker.edit_value(texts[j])
        )
        for i, j in chosen
    ]


class Alike:
    """Which texts of a batch ask the same, which do not, and of which that is not known."""

    def __init__(self, network: JudgeNetwork, tokenizer: JudgeTokenizer, families: Sequence[Family]) -> None:
        self._index: dict[tuple[str, str], int] = {}
        centres: list[Tensor] = []
        network.eval()
        for family in families:
            texts = [text.replace("{s}", MASK) for relation in family.relations for text in relation.questions[:2]]
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
                vectors = network.vectors(tokenizer.texts(texts)).float()
            at = 0
            for relation in family.relations:
                size = len(relation.questions[:2])
                self._index[family.name, relation.id] = len(centres)
                centres.append(nn.functional.normalize(vectors[at : at + size].mean(0), dim=0))
                at += size
        self._centres = torch.stack(centres)

    def labels(self, texts: Sequence[Text], families: dict[str, Family]) -> tuple[Tensor, Tensor]:
        """Return labels and whether they are known, each ``[n, n]``."""
        n = len(texts)
        labels, known = torch.zeros(n, n), torch.zeros(n, n)
        for i, first in enumerate(texts):
            for j in range(i):
                same = self._same(first, texts[j], families)
                if same is not None:
                    labels[i, j] = labels[j, i] = float(same)
                    known[i, j] = known[j, i] = 1.0
        return labels, known

    def _same(self, first: Text, second: Text, families: dict[str, Family]) -> bool | None:
        if first.family != second.family:
            return None if self._near(first, second) else False
        if first.relation == second.relation:
            return True
        if first.unlike == second.relation or second.unlike == first.relation:
            return False
        if first.rivals is not None and first.rivals == second.rivals:
            return False
        plain = first.unlike is None and second.unlike is None and not (first.rivals or second.rivals)
        family = families.get(first.family)
        return False if plain and family is not None and family.different(first.relation, second.relation) else None

    def _near(self, first: Text, second: Text) -> bool:
        places = [
            self._index.get((text.family, text.unlike or text.rivals or text.relation)) for text in (first, second)
        ]
        if places[0] is None or places[1] is None:
            return False
        return bool(self._centres[places[0]] @ self._centres[places[1]] > _ALIKE)


class _Meter:
    def __init__(self, begin: int, steps: int, progress: Callable[[JudgeProgress], None] | None) -> None:
        self._begin, self._steps, self._progress = begin, steps, progress
        self._start = time.monotonic()
        self._means: list[float] | None = None

    def note(self, step: int, *losses: float) -> None:
        means = self._means
        self._means = (
            list(losses) if means is None else [0.98 * m + 0.02 * x for m, x in zip(means, losses, strict=True)]
        )
        if self._progress is not None:
            pace = (time.monotonic() - self._start) / (step - self._begin)
            self._progress(
                JudgeProgress(step, self._steps, self._means[0], self._means[1], pace * (self._steps - step))
            )
