"""Train the scope classifier from data files: the same files and seed give the same weights."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.evaluation.datasets.splits import WHOLE_ROWS, is_training_row
from memedit.scope.classifier.cross_encoder import cross_encoder_of
from memedit.scope.classifier.features import FEATURES, TOKEN_FEATURES
from memedit.scope.classifier.model import ClassifierModel, load_model
from memedit.scope.classifier.vocabulary import WordRarity, count_documents
from memedit.types import FloatArray
from memedit.workflows.scope_training.attributes import MADE, made_rows
from memedit.workflows.scope_training.cross_fitting import CrossSettings, fit_cross_encoder
from memedit.workflows.scope_training.dataset import ExampleSet, collect
from memedit.workflows.scope_training.directness import (
    AskedQuestion,
    asked_questions,
    directness_auc,
    fit_directness,
)
from memedit.workflows.scope_training.examples import SimulatedMemory, judged_queries, masked_texts, surely_other
from memedit.workflows.scope_training.fitting import FitSettings, fit_head, group_weights
from memedit.workflows.scope_training.judging import (
    Outcome,
    SecondLook,
    balance,
    calibrate_outcomes,
    judge_rows,
    report,
)
from memedit.workflows.scope_training.network import HeadSize
from memedit.workflows.scope_training.queries import QueryMaker, TrainingQuery
from memedit.workflows.scope_training.relations import Relations
from memedit.workflows.scope_training.rows import EditRow, read_rows
from memedit.workflows.scope_training.same_relation import (
    RelationPair,
    fit_relation,
    relation_pairs,
    with_gain,
    without_relation,
)
from memedit.workflows.scope_training.texts import EncodedTexts, principal_directions

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

REPORT_FILE = "report.json"
_BAND = 0.15
_ROUNDS, _SETTLED = 4, 0.05
"""At most so many rounds of balancing, or until logits gain less than this."""
_SAME_RELATION = 0.6
"""Wordings whose cosine without the subject is at least this may well ask for one relation."""


@dataclass(frozen=True)
class ScopeTraining:
    """What a run trains on and how.

    ``max_rows``: of a longer file so many rows are all for training, and those after them for the report; shorter
    files are halved (:func:`~memedit.evaluation.datasets.splits.is_training_row`). ``report_rows``: at most so many rows of each
    file are reported on.
    ``made_rows``: edits made up beside those of
    the files. ``negatives``: wrong candidates kept per query. ``vocabulary``: words in the rarity table.
    ``relation_rows``: the last so many training rows of each file, and twice ``made_rows``, are what the relation's
    network and the cross-encoder are fitted on.
    """

    max_rows: int = WHOLE_ROWS
    report_rows: int = 1000
    negatives: int = 4
    made_rows: int = 1500
    vocabulary: int = 8000
    relation_rows: int = 1500
    head: HeadSize = field(default_factory=HeadSize)
    fit: FitSettings = field(default_factory=FitSettings)
    cross: CrossSettings = field(default_factory=CrossSettings)


def train_scope(
    data_files: Sequence[Path | str],
    out: Path | str,
    *,
    seed: int = 0,
    encoder: Encoder | str = "minilm",
    background: Sequence[Path | str] = (),
    settings: ScopeTraining | None = None,
    work: Path | str | None = None,
    head: Path | str | None = None,
    networks: bool = True,
    cross: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, calibrate and report on the scope classifier; write its weights into ``out``.

    The training rows of each file (see :class:`ScopeTraining`) are fitted, but for one in eight that is kept back for
    calibration; the report is on the other rows, all rows of a file in memory. Encoded texts, examples and
    checkpoints are kept in ``work``: a killed run goes on from there. The result is deterministic by seed for one
    version of the libraries.

    Args:
        data_files: files of published forms (CounterFact, zsRE, WikiBigEdit, KnowEdit, QAEdit, UnKE, MQuAKE).
        out: folder for ``classifier.safetensors``, ``classifier.json`` and ``report.json``.
        seed: of the made queries, the initial weights and the order of steps.
        encoder: the frozen encoder, or its name.
        background: plain text files that word rarity is counted on beside the training rows.
        settings: sizes and learning rate.
        work: folder of intermediate results; default: ``out / "work"``.
        head: folder of a classifier whose head and threshold are kept: only what stands above it is fitted then, and
            on the rows of the report the room of each kind of error is set
            (:func:`~memedit.workflows.scope_training.judging.balance`).
        networks: fit the small networks (whether the same is asked of a subject; how directly), in minutes; False keeps
            those of ``head``.
        cross: fit the cross-encoder for close calls, in half an hour; False keeps that of ``head``, or does without.
        progress: called as work goes on.

    Returns:
        The report: rates by file and kind of query at the chosen threshold, AUCs beside cosine and cosine + subject.

    Raises:
        DatasetError: a data file is of no known form or holds a wrong row.
        InputError: there are no training rows, ``head`` cannot be read, or networks are to be kept of no head.
        FingerprintMismatchError: ``head`` was trained on another encoder.
    """
    if head is None and not networks:
        raise InputError("without a trained head there are no networks to keep: name its folder (--head DIR)")
    run = _Run(
        encoder=load_encoder(encoder) if isinstance(encoder, str) else encoder,
        settings=settings or ScopeTraining(),
        seed=seed,
        work=Path(work) if work is not None else Path(out) / "work",
        tell=progress or (lambda stage, done, total: None),
    )
    limit = run.settings.max_rows + run.settings.report_rows
    rows = read_rows([Path(path) for path in data_files], max_rows=limit)
    if head is None:
        model, result = run.train(rows, [Path(path) for path in background], cross=cross)
    else:
        trained = load_model(Path(head), run.encoder.fingerprint)
        model, result = run.refine(trained, rows, networks=networks, cross=cross)
    model.save(Path(out))
    (Path(out) / REPORT_FILE).write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    return result


@dataclass(frozen=True)
class _Run:
    encoder: Encoder
    settings: ScopeTraining
    seed: int
    work: Path
    tell: Progress

    def train(
        self, rows: Sequence[EditRow], background: Sequence[Path], *, cross: bool
    ) -> tuple[ClassifierModel, dict[str, Any]]:
        known = self._for_training(rows)
        fitted = [row for row in known if not _for_calibration(row.prompt)]
        if not fitted:
            raise InputError(f"none of the {len(rows)} rows read belongs to the training half; give larger files")
        fitted += made_rows(random.Random(self.seed), fitted, self.settings.made_rows)
        known += made_rows(random.Random(self.seed + 1), known, self.settings.made_rows // 20)
        rows = [*rows, *made_rows(random.Random(self.seed + 2), known, self.settings.made_rows // 20, reported=True)]
        counts, documents = self._count_words(fitted, background)
        texts = EncodedTexts(WordRarity(counts, documents))
        relations = Relations(fitted)
        queries = QueryMaker(fitted, relations, self.seed).all()
        masked = [text for query in queries for text in masked_texts(query, fitted)]
        further = [row for part in self._made_with_hops(self._for_training(rows)) for row in part]
        own = [*(row for row in known if row.source == MADE), *further]
        made = [row.prompt for row in fitted] + [text for row in own for text in (row.prompt, *_texts(row))]
        directions = self._encode(texts, rows, [query.text for query in queries], [*masked, *made])
        queries = surely_other(queries, fitted, texts.vector, limit=_SAME_RELATION)
        memory = SimulatedMemory(fitted, texts, WordRarity(counts, documents))
        key = self._key(directions, counts, queries)
        examples = self._examples(key, memory, fitted, relations, queries)
        weights = group_weights([queries[number].group for number in examples.query])
        head = fit_head(
            examples,
            weights,
            replace(self.settings.head, projection=directions.shape[1]),
            self.settings.fit,
            seed=self.seed,
            checkpoint=self.work / f"head-{key}.safetensors",
            progress=lambda done, total: self.tell("fit", done, total),
        )
        model = ClassifierModel(
            encoder=self.encoder.fingerprint,
            projection=directions,
            head=head.arrays(),
            calibration=np.array([1.0, 0.0, 0.0], np.float32),
            threshold=0.5,
            band=_BAND,
            word_counts=counts,
            documents=documents,
            notes={"seed": self.seed, "rows": len(fitted), "queries": len(queries), "settings": asdict(self.settings)},
        )
        calibrated = self._calibrate(model, known, texts)
        finished = self._with_upper(calibrated, self._for_training(rows), texts, networks=True, cross=cross)
        finished = self._balanced(finished, known, texts, _is_for_calibration)
        return finished, self._report(finished, rows, texts)

    def refine(
        self, model: ClassifierModel, rows: Sequence[EditRow], *, networks: bool, cross: bool
    ) -> tuple[ClassifierModel, dict[str, Any]]:
        """Fit anew what stands above the head of ``model``, and balance it on the rows of the report."""
        known = self._for_training(rows)
        if not known:
            raise InputError(f"none of the {len(rows)} rows read belongs to the training half; give larger files")
        texts = EncodedTexts(model.rarity)
        rows = [*rows, *made_rows(random.Random(self.seed + 2), known, self.settings.made_rows // 3, reported=True)]
        reported = self._reported(rows)
        made = [row for part in self._made_with_hops(known) for row in part]
        needed = [row.prompt for row in [*rows, *made]]
        needed += [text for row in [*known, *reported, *made] for text in _texts(row)]
        self._add(texts, model.projection, needed)
        refined = self._with_upper(model, known, texts, networks=networks, cross=cross)
        chosen = {id(row) for row in reported}
        refined = self._balanced(refined, rows, texts, lambda row: id(row) in chosen)
        return refined, self._report(refined, rows, texts)

    def _count_words(self, rows: Sequence[EditRow], background: Sequence[Path]) -> tuple[dict[str, int], int]:
        own = [text for row in rows for text in (row.prompt, *_texts(row))]
        lines = [line for path in background for line in path.read_text("utf-8").splitlines()]
        sentences = [sentence for line in lines if len(line.split()) > 3 for sentence in line.split(" . ")]
        return count_documents([*sentences, *own], limit=self.settings.vocabulary)

    def _encode(
        self, texts: EncodedTexts, rows: Sequence[EditRow], queries: Sequence[str], others: Sequence[str]
    ) -> FloatArray:
        own = [row.prompt for row in rows]
        judged = [row for row in self._for_training(rows) if _for_calibration(row.prompt)] + self._reported(rows)
        own += [text for row in judged for text in _texts(row)]
        fitted = [text for row in self._for_training(rows) for text in (row.prompt, *_texts(row))]
        width = min(self.settings.head.projection, self.encoder.dimension)
        directions = principal_directions(self.encoder, fitted, width, seed=self.seed)
        everything = [*own, *queries, *others]
        self._add(texts, directions, everything)
        return directions

    def _add(self, texts: EncodedTexts, directions: FloatArray, needed: Sequence[str]) -> None:
        home = self.work / "texts"
        texts.add(self.encoder, directions, needed, home, lambda done, total: self.tell("encode", done, total))

    def _for_training(self, rows: Sequence[EditRow]) -> list[EditRow]:
        """Return the rows of files to train on: the first ones of long files, the training half of the others."""
        lengths, place = Counter(row.source for row in rows), Counter[str]()
        chosen = []
        for row in rows:
            place[row.source] += 1
            whole = lengths[row.source] > self.settings.max_rows
            trained = place[row.source] <= self.settings.max_rows if whole else is_training_row(row.prompt)
            if row.source != MADE and trained:
                chosen.append(row)
        return chosen

    def _reported(self, rows: Sequence[EditRow]) -> list[EditRow]:
        """Return the first ``report_rows`` rows of each file that are not for training; made ones among them."""
        trained = {id(row) for row in self._for_training(rows)}
        left: Counter[str] = Counter()
        chosen = []
        for row in rows:
            left[row.source] += id(row) not in trained
            if id(row) not in trained and left[row.source] <= self.settings.report_rows:
                chosen.append(row)
        return chosen

    def _key(self, directions: FloatArray, counts: dict[str, int], queries: Sequence[TrainingQuery]) -> str:
        """Return a hash of everything that examples and checkpoints depend on."""
        described = json.dumps(
            [
                self.encoder.fingerprint,
                hashlib.sha256(directions.tobytes()).hexdigest(),
                counts,
                [asdict(query) for query in queries],
                asdict(self.settings),
                self.seed,
                FEATURES,
                TOKEN_FEATURES,
            ]
        )
        return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()[:24]

    def _examples(
        self,
        key: str,
        memory: SimulatedMemory,
        rows: Sequence[EditRow],
        relations: Relations,
        queries: Sequence[TrainingQuery],
    ) -> ExampleSet:
        path = self.work / f"examples-{key}.safetensors"
        if not path.is_file():
            judged = judged_queries(memory, rows, relations, queries, negatives=self.settings.negatives, seed=self.seed)
            collect(self._told("compare", judged, len(queries))).save(path)
        return ExampleSet.load(path)

    def _told(self, stage: str, items: Any, total: int) -> Any:
        for done, item in enumerate(items, 1):
            self.tell(stage, done, total)
            yield item

    def _calibrate(self, model: ClassifierModel, rows: Sequence[EditRow], texts: EncodedTexts) -> ClassifierModel:
        """Fit probabilities and threshold on the training rows that were not fitted, file by file."""
        outcomes = self._outcomes(model, rows, texts, _is_for_calibration, "calibrate")
        if not outcomes:
            return model
        calibration, threshold = calibrate_outcomes(outcomes)
        return replace(model, calibration=calibration, threshold=threshold)

    def _balanced(
        self,
        model: ClassifierModel,
        rows: Sequence[EditRow],
        texts: EncodedTexts,
        wanted: Callable[[EditRow], bool],
    ) -> ClassifierModel:
        """Set anew what edits gain whose subject stands in the query, and what those lose whose subject does not.

        What has gained is a close call elsewhere than before, so with a cross-encoder it takes a few rounds.
        """
        for _ in range(_ROUNDS if model.cross else 1):
            outcomes = self._outcomes(model, rows, texts, wanted, "balance")
            slope, offset, before = model.calibration.tolist()
            gain, loss = balance(outcomes, model.undecided, before)
            noted = {"gain": round(gain, 4), "loss": round(loss, 4), "probes": len(outcomes)}
            calibration = np.array([slope, offset, loss], np.float32)
            notes = {**model.notes, "balanced": noted}
            model = replace(model, head=with_gain(model.head, gain), calibration=calibration, notes=notes)
            if abs(gain) < _SETTLED:
                break
        return model

    def _with_upper(
        self, model: ClassifierModel, known: Sequence[EditRow], texts: EncodedTexts, *, networks: bool, cross: bool
    ) -> ClassifierModel:
        """Fit what stands above the head."""
        if not (networks or cross):
            return model
        pairs, count = self._relation_pairs(model, known, texts)
        if networks:
            model = self._with_directness(self._with_relation(model, pairs, count), known, texts)
        return self._with_cross(model, pairs) if cross else model

    def _relation_pairs(
        self, model: ClassifierModel, known: Sequence[EditRow], texts: EncodedTexts
    ) -> tuple[list[RelationPair], int]:
        """Return questions beside edits whose subject stands in them, and the number of edits they were made from.

        They are the files' questions and those of made edits.
        """
        rows = [row for stored in _by_source(known) for row in stored[-self.settings.relation_rows :]]
        rows += made_rows(random.Random(self.seed + 5), known, 2 * self.settings.made_rows)
        relations = Relations(rows)
        queries = self._questions(rows, relations, texts, model.projection)
        judged = judged_queries(
            SimulatedMemory(rows, texts, model.rarity),
            rows,
            relations,
            queries,
            negatives=self.settings.negatives,
            seed=self.seed,
        )
        told, plain = self._told("relation", judged, len(queries)), without_relation(model.head)
        return list(relation_pairs(plain, told, rows, queries, undecided=model.undecided)), len(rows)

    def _with_relation(self, model: ClassifierModel, pairs: Sequence[RelationPair], rows: int) -> ClassifierModel:
        """Fit whether a query asks the same of a subject."""
        plain, slope = without_relation(model.head), float(model.calibration[0])
        head = fit_relation(plain, pairs, undecided=model.undecided, slope=slope, seed=self.seed)
        notes = {**model.notes, "relation": {"rows": rows, "pairs": len(pairs)}}
        return replace(model, head=head if head is not None else plain, notes=notes)

    def _with_cross(self, model: ClassifierModel, pairs: Sequence[RelationPair]) -> ClassifierModel:
        """Fit the cross-encoder, where the encoder has files of its own to start from and both labels are there."""
        folder = getattr(self.encoder, "folder", None)
        if folder is None or len({pair.right for pair in pairs}) < 2:
            return replace(model, cross=None)
        described = [[pair.group, pair.right, *pair.texts] for pair in pairs]
        settings = self.settings.cross
        key = json.dumps([self.encoder.fingerprint, described, asdict(settings), self.seed])
        weights = fit_cross_encoder(
            folder,
            pairs,
            settings,
            seed=self.seed,
            key=hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
            work=self.work / "cross",
            progress=lambda done, total: self.tell("cross", done, total),
        )
        notes = {**model.notes, "cross": {"pairs": len(pairs), "settings": asdict(settings)}}
        return replace(model, cross=weights, notes=notes)

    def _questions(
        self, rows: Sequence[EditRow], relations: Relations, texts: EncodedTexts, directions: FloatArray
    ) -> list[TrainingQuery]:
        """Return the queries made from rows, encoded like the rows' prompts."""
        queries = QueryMaker(rows, relations, self.seed).all()
        masked = [text for query in queries for text in masked_texts(query, rows)]
        self._add(texts, directions, [*(row.prompt for row in rows), *(query.text for query in queries), *masked])
        return surely_other(queries, rows, texts.vector, limit=_SAME_RELATION)

    def _with_directness(
        self, model: ClassifierModel, known: Sequence[EditRow], texts: EncodedTexts
    ) -> ClassifierModel:
        """Fit how direct a question is, with the rows for training, and made ones, in memory."""
        fitted, _ = self._made_with_hops(known)
        asked = self._asked(model, [*known, *fitted], texts, lambda row: True)
        notes = {**model.notes, "direct": _counts(asked)}
        return replace(model, direct=fit_directness(model.head, asked, seed=self.seed), notes=notes)

    def _asked(
        self,
        model: ClassifierModel,
        rows: Sequence[EditRow],
        texts: EncodedTexts,
        wanted: Callable[[EditRow], bool],
    ) -> list[AskedQuestion]:
        asked: list[AskedQuestion] = []
        for stored in _by_source(rows):
            asked += asked_questions(model.head, SimulatedMemory(stored, texts, model.rarity), stored, wanted)
        return asked

    def _report(self, model: ClassifierModel, rows: Sequence[EditRow], texts: EncodedTexts) -> dict[str, Any]:
        chosen = {id(row) for row in self._reported(rows)}
        outcomes = self._outcomes(model, rows, texts, lambda row: id(row) in chosen, "report")
        found = report(outcomes, model.calibration, model.threshold)
        if model.direct is None:
            return found
        fitted, held_back = self._made_with_hops(self._for_training(rows))
        new = {id(row) for row in held_back}
        groups = {
            "files": self._asked(model, rows, texts, lambda row: id(row) in chosen and row.source != MADE),
            "unseen relations": self._asked(model, [*fitted, *held_back], texts, lambda row: id(row) in new),
        }
        return {**found, "direct": {name: _direct_rates(model, asked) for name, asked in groups.items()}}

    def _made_with_hops(self, known: Sequence[EditRow]) -> tuple[list[EditRow], list[EditRow]]:
        """Return made edits with questions one step further: those to fit, and those on relations held back."""
        count, hops = self.settings.made_rows, 2
        fitted = made_rows(random.Random(self.seed + 3), known, count, hops=hops)
        held_back = made_rows(random.Random(self.seed + 4), known, count // 8, reported=True, hops=hops)
        return fitted, held_back

    def _outcomes(
        self,
        model: ClassifierModel,
        rows: Sequence[EditRow],
        texts: EncodedTexts,
        wanted: Callable[[EditRow], bool],
        stage: str,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        groups, cross = _by_source(rows), cross_encoder_of(model.cross, self.encoder)
        again = None if cross is None else SecondLook(cross, model.undecided)
        for done, stored in enumerate(groups, 1):
            memory = SimulatedMemory(stored, texts, model.rarity)
            numbers = [number for number, row in enumerate(stored) if wanted(row)]
            outcomes += judge_rows(model.head, memory, stored, numbers, again)
            self.tell(stage, done, len(groups))
        return outcomes


def _is_for_calibration(row: EditRow) -> bool:
    return row.source == MADE or _for_calibration(row.prompt)


def _direct_rates(model: ClassifierModel, asked: Sequence[AskedQuestion]) -> dict[str, float | int | None]:
    area = directness_auc(model.direct or {}, model.head, asked)
    return {"auc": round(area, 4) if np.isfinite(area) else None, **_counts(asked)}


def _counts(asked: Sequence[AskedQuestion]) -> dict[str, int]:
    hops = sum(not question.direct for question in asked)
    return {"rewordings": len(asked) - hops, "hops": hops}


def _by_source(rows: Sequence[EditRow]) -> list[list[EditRow]]:
    groups: dict[str, list[EditRow]] = {}
    for row in rows:
        groups.setdefault(row.source, []).append(row)
    return list(groups.values())


def _texts(row: EditRow) -> list[str]:
    return [text for _, text in (*row.inside, *row.outside)]


def _for_calibration(prompt: str) -> bool:
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[0], 16) < 2
