"""Fitting the judge: one network, the relation encoder first, then both heads in every step.

A step reads all relations of a few families. Its texts train the relation encoder on all their pairs; pairs of them,
half of those the ones that the relation encoder finds hardest, train the cross-encoder, with made-up talks, names and
times.
"""

import functools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.scope.judge.network import MASK, JudgeNetwork, JudgeTokenizer, States
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.loop import FitProgress, Schedule, fit
from memedit.training.scope.batches import BatchMaker
from memedit.training.scope.draws import Draws
from memedit.training.scope.inventory import Family
from memedit.training.scope.pairs import HOP, Pair
from memedit.training.scope.rows import RewordedRow
from memedit.training.scope.texts import WRITTEN, Text
from memedit.types import FloatArray

_POSITIVE = 3.0
"""How much more a pair of the same relation weighs: there are few among all pairs."""
_SMOOTH = 0.02
_DIRECT = 0.3
"""What the logit of a direct answer weighs beside that of an answer."""
_ALIKE = 0.3
"""Relations of two families whose untrained vectors, less their mean, are this near may be one question: such pairs
teach nothing."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """What a judge depends on besides encoder and data.

    The first ``relation_first`` steps train the relation encoder alone: a cross-encoder that begins with what that has
    learned learns three times as fast; 0 goes on with both heads. ``families`` are read whole in each step, ``abroad``
    of them such as have wordings in other languages, each with at most ``relations`` relations and ``wordings`` of
    each; ``rows`` rows of data files come along, and ``written`` groups each of contrasts and derived questions. Of the
    pairs ``hard`` are judged by the cross-encoder too, with ``talks``, ``named``, ``several``, ``qualified``, ``hops``,
    ``derived`` and ``contrasts`` made.
    ``save_every``: steps between checkpoints.
    """

    steps: int = 2050
    relation_first: int = 600
    families: int = 2
    abroad: int = 0
    relations: int = 10
    wordings: int = 3
    written: int = 1
    rows: int = 32
    hard: int = 140
    talks: int = 24
    named: int = 40
    several: int = 4
    qualified: int = 12
    hops: int = 3
    contrasts: int = 16
    derived: int = 12
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
class JudgeLoss:
    """Running means of both losses, that of pairs None before the first is read."""

    relation_loss: float
    pair_loss: float | None


JudgeProgress = FitProgress[JudgeLoss]
"""How far fitting is."""


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
    key = run_key(settings=asdict(settings), families=[family.name for family in families], rows=len(rows))
    checkpoints = Checkpoints(folder, key, settings.save_every)
    maker = BatchMaker(Draws(families, rows, noise, settings.seed))
    trainer = JudgeTrainer(network, tokenizer, families, maker, settings)
    fit(trainer, checkpoints=checkpoints, progress=progress)
    checkpoints.save(settings.steps, trainer.parameters, trainer.optimizer)  # what follows takes minutes too
    network.eval()


class JudgeTrainer:
    """Runs training steps; the state lies in ``parameters`` and ``optimizer`` alone.

    Args:
        network: begins with the weights that say which relations of two families may be one question.
        tokenizer: the network's.
        families: what is trained on.
        maker: draws the batches.
        settings: sizes and rates.
    """

    def __init__(
        self,
        network: JudgeNetwork,
        tokenizer: JudgeTokenizer,
        families: Sequence[Family],
        maker: BatchMaker,
        settings: JudgeSettings,
    ) -> None:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(network.is_trained(name))
        self._network, self._tokenizer, self._maker, self._settings = network, tokenizer, maker, settings
        self._alike = Alike(network, tokenizer, families)
        self._loss: JudgeLoss | None = None
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        layers = [p for n, p in self.parameters.items() if n.startswith(("transformer", "joined", "sides"))]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": layers, "lr": settings.learning_rate},
                {"params": [p for n, p in self.parameters.items() if n.startswith("head")], "lr": settings.head_rate},
                {"params": [network.scale, network.shift], "lr": 1e-2, "weight_decay": 0.0},
            ],
            weight_decay=0.01,
            betas=(0.9, 0.98),
        )
        self.schedule = Schedule(settings.steps, warmup=settings.warmup, floor=0.01, start=settings.warmup)
        network.train()

    def step(self, number: int) -> JudgeLoss:
        """Do one optimizer step; return the running means of both losses."""
        settings = self._settings
        if 0 < number == settings.relation_first:
            self._network.begin_joined()
        torch.manual_seed(settings.seed * 1_000_003 + number)
        maker = self._maker.at(number)
        found = _step(self._network, self._tokenizer, maker, self._alike, settings=settings, step=number)
        nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss = found if self._loss is None else _running(self._loss, found)
        return self._loss


def _running(mean: JudgeLoss, loss: JudgeLoss) -> JudgeLoss:
    pair = mean.pair_loss
    if loss.pair_loss is not None:
        pair = loss.pair_loss if pair is None else 0.98 * pair + 0.02 * loss.pair_loss
    return JudgeLoss(0.98 * mean.relation_loss + 0.02 * loss.relation_loss, pair)


def start_from(network: JudgeNetwork, arrays: Mapping[str, FloatArray]) -> None:
    """Put the weights of a trained judge into a fresh network."""
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)


def _step(
    network: JudgeNetwork,
    tokenizer: JudgeTokenizer,
    maker: BatchMaker,
    alike: "Alike",
    *,
    settings: JudgeSettings,
    step: int,
) -> JudgeLoss:
    """Add the gradients of one step; return its losses."""
    texts, drawn = maker.texts.of_families(
        settings.families, settings.relations, settings.wordings, settings.written, settings.abroad
    )
    labels, known = alike.labels(texts, {family.name: family for family in drawn})
    reworded = maker.texts.reworded(settings.rows)
    lines = [text.text for text in texts] + [line for pair in reworded for line in pair]
    with _precision():
        states, vectors = network.read(tokenizer(lines))
    assert vectors is not None
    logits = network.similarity_logits(vectors.float() @ vectors.float().T)
    loss = _pairwise_loss(logits, *_with_rows(torch.from_numpy(labels), torch.from_numpy(known), len(reworded)))
    if step < settings.relation_first:
        loss.backward()  # type: ignore[no-untyped-call]
        return JudgeLoss(float(loss.detach()), None)
    pairs = [
        *_hardest(
            texts,
            logits.detach().numpy()[: len(texts), : len(texts)],
            labels,
            known,
            count=settings.hard,
            maker=maker,
            rng=random.Random(step),
        ),
        *maker.pairs.talk(settings.talks),
        *maker.pairs.named(settings.named),
        *maker.pairs.several(settings.several),
        *maker.pairs.qualified(settings.qualified),
        *maker.pairs.hop(settings.hops),
        *maker.pairs.derived(settings.derived),
        *maker.pairs.contrast(settings.contrasts),
        *maker.pairs.row(settings.rows),
    ]
    with _precision():
        found = _read_pairs(network, tokenizer, lines, states, pairs)
    pair_loss = _pair_loss(found.float(), pairs) / len(pairs)
    (loss + pair_loss).backward()  # type: ignore[no-untyped-call]
    return JudgeLoss(float(loss.detach()), float(pair_loss.detach()))


def _read_pairs(
    network: JudgeNetwork, tokenizer: JudgeTokenizer, lines: Sequence[str], states: States, pairs: Sequence[Pair]
) -> Tensor:
    """Return both logits of pairs; texts that are among ``lines`` have been read."""
    number = {line: i for i, line in enumerate(lines)}
    further = list(dict.fromkeys(t for pair in pairs for t in (pair.query, pair.stored) if t not in number))
    number |= {line: len(lines) + i for i, line in enumerate(further)}
    read, _ = network.read(tokenizer(further), vectors=False)
    both = States(torch.cat([states.tokens, read.tokens]), states.lengths + read.lengths)
    return network.pair_logits(both, [(number[pair.query], number[pair.stored]) for pair in pairs])


@functools.cache
def _halves_pay() -> bool:
    """Say whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    seconds = []
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 384, dtype=kind), torch.ones(1536, 384, dtype=kind)
        tries = []
        for _ in range(8):
            start = time.perf_counter()
            nn.functional.linear(left, right)
            tries.append(time.perf_counter() - start)
        seconds.append(min(tries))
    return seconds[1] < 0.8 * seconds[0]


def _precision() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=_halves_pay())


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
    logits: FloatArray,
    labels: FloatArray,
    known: FloatArray,
    *,
    count: int,
    maker: BatchMaker,
    rng: random.Random,
) -> list[Pair]:
    """Return pairs of a query and a storable text: half of them hard ones, the rest drawn."""
    stored = np.array([text.edit for text in texts])
    families = np.array([text.family for text in texts])
    near = (families[:, None] == families[None]) | (families == "mention")[:, None]
    usable = (known > 0) & stored[None] & ~np.eye(len(texts), dtype=bool)
    same = [(int(i), int(j)) for i, j in np.argwhere(usable & (labels > 0))]
    other = [(int(i), int(j)) for i, j in np.argwhere(usable & (labels == 0) & near)]
    same.sort(key=lambda pair: float(logits[pair]))
    other.sort(key=lambda pair: -float(logits[pair]))
    quarter = count // 4
    chosen = same[:quarter] + other[: 2 * quarter : 2]
    rest = [pair for pair in same[quarter:]], [pair for pair in other[2 * quarter :]]
    chosen += [pair for pairs in rest for pair in rng.sample(pairs, min(quarter, len(pairs)))]
    return [
        Pair(
            texts[i].text,
            texts[j].text,
            float(labels[i, j]),
            "inventory",
            texts[i].direct,
            maker.pairs.value(texts[j].value),
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
            with torch.inference_mode():
                _, vectors = network.read(tokenizer(texts))
            assert vectors is not None
            at = 0
            for relation in family.relations:
                size = len(relation.questions[:2])
                self._index[family.name, relation.id] = len(centres)
                centres.append(nn.functional.normalize(vectors[at : at + size].mean(0), dim=0))
                at += size
        apart = torch.stack(centres) - torch.stack(centres).mean(0)
        self._centres = nn.functional.normalize(apart, dim=1).numpy()

    def labels(self, texts: Sequence[Text], families: Mapping[str, Family]) -> tuple[FloatArray, FloatArray]:
        """Return labels and whether they are known, each ``[n, n]``."""
        n = len(texts)
        codes: dict[tuple[str, str], int] = {}

        def code(text: Text, name: str | None) -> int:
            return -1 if name is None else codes.setdefault((text.family, name), len(codes))

        family = np.array([text.family for text in texts])
        relation = np.array([code(text, text.relation) for text in texts])
        unlike = np.array([code(text, text.unlike) for text in texts])
        rivals = np.array([code(text, f"rivals of {text.rivals}" if text.rivals else None) for text in texts])
        related = family[:, None] == family[None]
        same = related & (relation[:, None] == relation[None])
        contrary = (unlike[:, None] == relation[None]) | (relation[:, None] == unlike[None])
        contrary |= (rivals[:, None] == rivals[None]) & (rivals >= 0)[None]
        plain = (unlike < 0) & (rivals < 0) & np.isin(family, list(families))
        doubtful = np.zeros((n, n), dtype=bool)
        for one in families.values():
            for pair in one.same:
                first, second = (codes.get((one.name, name), -2) for name in (*pair, *pair)[:2])
                doubtful |= (relation[:, None] == first) & (relation[None] == second)
        different = related & ~same & (contrary | (plain[:, None] & plain[None] & ~(doubtful | doubtful.T)))
        written = np.array([text.family.startswith(WRITTEN) for text in texts])
        strangers = ~related & ~self._near(texts) & ~written[:, None] & ~written[None]
        known = (same | different | strangers) & ~np.eye(n, dtype=bool)
        return (same & known).astype(np.float32), known.astype(np.float32)

    def _near(self, texts: Sequence[Text]) -> np.ndarray:
        """Say of which texts the relations may be one question in two families ``[n, n]``."""
        names = [(text.family, text.unlike or text.rivals or text.relation) for text in texts]
        places = np.array([self._index.get(name, -1) for name in names])
        centres = self._centres[places] * (places >= 0)[:, None]
        near: np.ndarray = centres @ centres.T > _ALIKE
        return near
