"""The trained scope, behind the same interface as the rules."""

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.scope.decision import BLOCKED, FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, scope_fingerprint
from memedit.scope.judge.model import SHIPPED, Calibration, Judge, JudgeModel, load_model, shipped_for
from memedit.scope.judge.nomination import Judged, nominated, nominated_in_talk
from memedit.scope.judge.places import block_texts, edit_texts, focused, masked, turns_ago, with_target
from memedit.scope.talk import TURN, turns_of
from memedit.scope.text import folded_text
from memedit.types import Candidate, Edit, Encoding, FloatArray, Hit, ScopeDecision

MAX_READ = 5
"""Close calls among them that the cross-encoder reads: the nearest by the relation encoder."""
_LEAD = 1.0
"""Of what a text asks once, those edits fire too whose log-odds lie less than this below the best one's."""
_SEVERAL = re.compile(
    r"\?.*\?|[,;&+]|、|[和与と]|\b(?:and|also|or|und|et|y|e|en|i|oraz|и|و|ve|och|og|ja|as well as|both)\b",
    re.IGNORECASE | re.DOTALL,
)
"""What stands in texts that ask several things."""
_SEVERAL_AT_LAST = re.compile(
    r"\?.*\?|\w,? (?:and|also|und|et|y|e|en|oraz|и|och|og|ja)\b.*\?|\b(?:both|each|beide|les deux)\b",
    re.IGNORECASE | re.DOTALL,
)
"""The same of a talk's last turn, which may well begin with "Thanks, and ..."."""
_AGO = 0.4
"""What the logit loses for every turn that lies between a subject's name and the turn that may refer to it."""
_HIGHEST = 0.9999
"""Scores of the network end here: 1 is a verbatim prompt's."""


class JudgeScope:
    """Score = calibrated probability that the edit answers the query, from one trained network with two heads.

    Where the edit's subject stands in the query, it is masked in both, and the relation encoder compares both texts;
    vectors of edits are kept. Close calls, and edits whose subject the query may name in other words, are read by
    the cross-encoder, query beside edit. A verbatim prompt scores 1; an edit does not fire on a query that is nearer to
    one of its blocks than to every text of its own.

    Args:
        encoder: the encoder of the queries; the network stands on its embeddings and tokenizer.
        threshold: default: the one that was calibrated in training.
        band: width of the abstention band under the threshold; default: the trained one.
        margin: where a query asks several things, edits of one subject fire that score less than this below the best.
        weights: folder of the trained parameters; default: the shipped ones.
        cache_size: how many edits' vectors are kept.

    Raises:
        InputError: threshold out of range, or the weights cannot be read.
        FingerprintMismatchError: the weights were trained on another encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        threshold: float | None = None,
        band: float | None = None,
        margin: float = 0.5,
        weights: Path | str | None = None,
        cache_size: int = 100_000,
    ) -> None:
        folder = getattr(encoder, "folder", None)
        if folder is None:
            raise InputError("the scope classifier needs an encoder with files of its own; choose scope 'subject'")
        found = Path(weights) if weights is not None else shipped_for(encoder.fingerprint) or SHIPPED / "minilm"
        self._model = load_model(found, encoder.fingerprint)
        chosen = check_threshold(threshold, self._model.threshold)
        self._rule = FiringRule(chosen, self._model.band if band is None else band, margin)
        self._judge = Judge(folder, self._model)
        self._vectors = _EditVectors(self._judge, cache_size)
        self._fingerprint = scope_fingerprint(self.name, encoder.fingerprint, model=self._model.fingerprint())

    reads_talks = True
    """A query may be the turns of a talk (:mod:`memedit.scope.talk`): its edits are those of its last turn."""

    @property
    def name(self) -> str:
        """Registered name."""
        return "classifier"

    @property
    def threshold(self) -> float:
        """Scores at or above it fire."""
        return self._rule.threshold

    @property
    def fingerprint(self) -> str:
        """Hash of everything the scores depend on, the encoder's fingerprint included."""
        return self._fingerprint

    @property
    def model(self) -> JudgeModel:
        """The trained parameters."""
        return self._model

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return the relation vectors of edits as bytes by edit id, for the memory to keep."""
        return self._vectors.pack(edits)

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits whose vectors are not in the cache."""
        return self._vectors.missing(edits)

    def accept(self, artefacts: Mapping[str, bytes]) -> int:
        """Take what :meth:`prepare` returned into the cache; damaged entries are left out. Return how many came in."""
        return self._vectors.accept(artefacts)

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Judge each query's candidates, those of all queries in one batch; several edits may fire on one query."""
        rule = self._rule.at(threshold)
        rows = [
            nominated_in_talk(query, row) if TURN in query.text else self._nominated(query, row)
            for query, row in zip(queries, candidates, strict=True)
        ]
        everyone = [judged for row in rows for judged in row]
        self._compare([judged for judged in everyone if not judged.verbatim], along=[_to_be_read(row) for row in rows])
        self._read([judged for row in rows for judged in self._close(row)])
        return [
            decide_query(
                self.name, query, [self._scored(judged) for judged in row], self._margin(rule, query), self._twins
            )
            for query, row in zip(queries, rows, strict=True)
        ]

    def _nominated(self, query: Encoding, candidates: Sequence[Candidate]) -> list[Judged]:
        return nominated(query, candidates, self._judge.is_rare, scripts=self._model.calibration.abroad is not None)

    @staticmethod
    def _margin(rule: FiringRule, query: Encoding) -> FiringRule:
        """Return the rule for a query: where it asks one thing, the best edit of a subject has to be nearly alone."""
        several = _SEVERAL_AT_LAST if TURN in query.text else _SEVERAL
        return rule if several.search(turns_of(query.text)[-1]) else replace(rule, lead=_LEAD)

    def _twins(self, first: Edit, second: Edit) -> bool:
        """Say whether two edits about one subject answer one question, by their relation vectors."""
        if not first.subject or not second.subject or folded_text(first.subject) != folded_text(second.subject):
            return False
        stored = self._vectors.get([first, second])
        one, other = (stored[_key(edit)][: _own(edit)].astype(np.float32) for edit in (first, second))
        products = one @ other.T
        scale, shift = self._judge.scale
        slope, offset = self._model.calibration.relation
        return bool(slope * (scale * float(products.max()) + shift) + offset > 0.0)

    def _compare(self, judged: Sequence[Judged], *, along: Sequence[Sequence[str]]) -> None:
        """Have the relation encoder compare each query with the nearest text of its edit; read ``along`` with them."""
        if not judged:
            return
        asked = [item.query for item in judged]
        texts = list(dict.fromkeys([*asked, *(text for row in along for text in row)]))
        vectors = dict(zip(texts, self._judge.vectors(texts, keep=True), strict=True))
        stored = self._vectors.get([item.candidate.edit for item in judged])
        scale, shift = self._judge.scale
        for item in judged:
            edit = item.candidate.edit
            products = stored[_key(edit)].astype(np.float32) @ vectors[item.query]
            own, blocks = products[: _own(edit)], products[_own(edit) :]
            best = int(np.argmax(own))
            item.relation = scale * float(own[best]) + shift
            if len(blocks) and blocks.max() > own[best]:
                item.block = scale * float(blocks.max()) + shift
            stored_as = edit_texts(edit) if item.named else (edit.prompt, *edit.paraphrases)
            item.edit = with_target(stored_as[best], edit)

    def _read(self, judged: Sequence[Judged]) -> None:
        """Have the cross-encoder read each query beside its edit."""
        for item, (answers, direct) in zip(
            judged,
            self._judge.pair_logits([(item.whole or item.query, item.edit) for item in judged]).tolist(),
            strict=True,
        ):
            item.cross, item.direct = answers, direct

    def _close(self, row: Sequence[Judged]) -> list[Judged]:
        """Return the close calls of a query: of those whose subject it names the nearest ones."""
        close = [judged for judged in row if self._is_close(judged)]
        named = [judged for judged in close if judged.named and not judged.talk]
        named.sort(key=lambda judged: -judged.relation)
        return [judged for judged in close if judged not in named] + named[:MAX_READ]

    def _is_close(self, judged: Judged) -> bool:
        if judged.verbatim or judged.block is not None:
            return False
        below, above = self._model.calibration.clear
        return judged.talk or not judged.named or below < self._by_relation(judged) < above

    def _by_relation(self, judged: Judged) -> float:
        slope, offset = self._model.calibration.relation
        return slope * judged.relation + offset

    def _logit(self, judged: Judged) -> float:
        if judged.talk:
            first, second, offset = self._model.calibration.talk
            late = _AGO * max(0, turns_ago(judged.whole) - 1)
            return first * judged.relation + second * (judged.cross or 0.0) + offset - late
        if not judged.named and judged.share is None:
            calibration = self._model.calibration
            first, second, offset = calibration.abroad if judged.abroad and calibration.abroad else calibration.unnamed
            return first * (judged.cross or 0.0) + second * judged.candidate.similarity + offset
        return combined(self._model.calibration, judged.relation, judged.cross, judged.share)

    def _scored(self, judged: Judged) -> ScoredCandidate:
        item = judged.candidate
        if judged.verbatim:
            reasons = {"verbatim": 1.0}
            return ScoredCandidate(Hit(item.edit, 1.0, item.similarity, reasons, 1.0), item.subject_span)
        if judged.block is not None:
            reasons = {BLOCKED: 1.0, "relation": judged.relation, "block": judged.block}
            return ScoredCandidate(Hit(item.edit, 0.0, item.similarity, reasons, 0.0), item.subject_span)
        score = min(sigmoid(self._logit(judged)), _HIGHEST)
        reasons = {"verbatim": 0.0, "subject": float(judged.named), "relation": judged.relation}
        reasons |= {} if judged.cross is None else {"cross": judged.cross}
        reasons |= {"talk": 1.0} if judged.talk else {}
        direct = 0.9 if judged.direct is None else sigmoid(judged.direct)
        # what a last turn refers to is one thing, wherever it was named
        span = None if judged.talk else judged.span or item.subject_span
        return ScoredCandidate(Hit(item.edit, score, item.similarity, reasons, direct), span)


def _to_be_read(row: Sequence[Judged]) -> list[str]:
    """Return what the cross-encoder is likely to read of a query's candidates: with the query it costs next to nothing.

    Which text of an edit is nearest is not known yet, unless it has one.
    """
    likely = [item for item in row if not item.verbatim and not item.candidate.edit.paraphrases][:MAX_READ]
    edits = [(item.candidate.edit, item.named) for item in likely]
    stored = [with_target(masked(edit.prompt, edit.subject if named else None), edit) for edit, named in edits]
    return [*(item.whole for item in likely if item.whole), *stored]


def combined(calibration: Calibration, relation: float, cross: float | None, share: float | None = None) -> float:
    """Return the calibrated logit of a pair.

    Args:
        calibration: the judge's.
        relation: logit of the relation encoder.
        cross: logit of the cross-encoder, None where it was not asked.
        share: the share of the subject that stands in the query, where it does not as it is stored.
    """
    if cross is None:
        slope, offset = calibration.relation
        return slope * relation + offset
    if share is not None:
        first, second, third, offset = calibration.named_otherwise
        return first * relation + second * cross + third * share + offset
    first, second, offset = calibration.both
    return first * relation + second * cross + offset


def sigmoid(logit: float) -> float:
    """Return the logistic function of ``logit``."""
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))


def _own(edit: Edit) -> int:
    """Return how many of an edit's vectors are those of its own texts; those of its blocks stand behind them."""
    return 1 + len(edit.paraphrases)


def _key(edit: Edit) -> str:
    """Return what an edit's vectors depend on: its content, and its blocks, which are no part of that."""
    if not edit.blocks:
        return edit.content_hash
    return f"{edit.content_hash}-{hashlib.sha256(json.dumps(edit.blocks).encode()).hexdigest()}"


class _EditVectors:
    """Relation vectors ``[texts and blocks, d]`` of edits, float16; least recently used ones go first."""

    def __init__(self, judge: Judge, capacity: int) -> None:
        self._judge, self._capacity = judge, capacity
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        with self._lock:
            return list({_key(e): e for e in edits if _key(e) not in self._kept}.values())

    def get(self, edits: Sequence[Edit]) -> dict[str, np.ndarray]:
        """Return the vectors of edits; missing ones are made, all in one batch."""
        absent = self.missing(edits)
        made = self._make(absent)
        with self._lock:
            for key in map(_key, edits):
                if key in self._kept:
                    made[key] = self._kept[key]
                    self._kept.move_to_end(key)
        self._keep(made)
        return made

    def pack(self, edits: Sequence[Edit]) -> dict[str, bytes]:
        made = self._make(edits)
        self._keep(made)
        return {edit.id: _key(edit).encode() + b"\0" + made[_key(edit)].tobytes() for edit in edits}

    def accept(self, blobs: Mapping[str, bytes]) -> int:
        found = {}
        for blob in blobs.values():
            key, _, data = blob.partition(b"\0")
            width = self._judge.width
            if data and len(data) % (2 * width) == 0:
                found[key.decode("ascii", "replace")] = np.frombuffer(data, np.float16).reshape(-1, width)
        self._keep(found)
        return len(found)

    def _make(self, edits: Sequence[Edit]) -> dict[str, np.ndarray]:
        texts = [edit_texts(edit) + block_texts(edit) for edit in edits]
        vectors: FloatArray = self._judge.vectors([focused(text) for row in texts for text in row])
        made, at = {}, 0
        for edit, row in zip(edits, texts, strict=True):
            made[_key(edit)] = vectors[at : at + len(row)].astype(np.float16)
            at += len(row)
        return made

    def _keep(self, made: Mapping[str, np.ndarray]) -> None:
        with self._lock:
            self._kept.update(made)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
