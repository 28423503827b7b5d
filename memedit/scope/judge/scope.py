"""The trained scope, behind the same interface as the rules."""

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.index.words import Word, words
from memedit.scope.decision import BLOCKED, FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, is_verbatim, scope_fingerprint
from memedit.scope.judge.model import SHIPPED, Calibration, Judge, JudgeModel, load_model
from memedit.scope.judge.places import (
    PARTLY,
    block_texts,
    disagree,
    edit_texts,
    focused,
    mask,
    named_outright,
    partly_named,
    places,
    referring,
    renamed,
    shares_name,
    told,
    turns_ago,
    with_target,
    within_longer_name,
)
from memedit.scope.talk import TURN, turns_of
from memedit.scope.text import folded_text, is_name
from memedit.types import Candidate, Edit, Encoding, FloatArray, Hit, ScopeDecision

MAX_NAMED = 24
"""Candidates of a query whose subject stands in it that are judged: the most similar."""
MAX_READ = 5
"""Close calls among them that the cross-encoder reads: the nearest by the relation encoder."""
MAX_OTHERWISE = 4
"""Candidates whose subject does not stand in the query as stored that the cross-encoder reads."""
MAX_TOLD = 8
"""Candidates of a talk that the cross-encoder reads."""
_LIKE, _LIKE_WITHOUT = 0.7, 0.55
"""An edit whose subject is no name may be meant at this cosine; one without a subject at the second."""
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


@dataclass(slots=True, eq=False)
class _Judged:
    """A candidate under judgement: texts beside each other, and what has been found.

    ``query`` has the subject masked; where it does not stand there as stored, ``whole`` is the text as it is.
    """

    candidate: Candidate
    named: bool
    query: str
    whole: str = ""
    edit: str = ""
    relation: float = 0.0
    cross: float | None = None
    direct: float | None = None
    verbatim: bool = False
    talk: bool = False
    share: float | None = None
    span: tuple[int, int] | None = None
    """Where the query names the subject, which it does not hold as stored."""
    block: float | None = None
    """Logit of the nearest text that the edit blocks, where that is nearer than every text of the edit."""


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
        self._model = load_model(Path(weights) if weights is not None else SHIPPED, encoder.fingerprint)
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
            _nominated_in_talk(query, row) if TURN in query.text else self._nominated(query, row)
            for query, row in zip(queries, candidates, strict=True)
        ]
        everyone = [judged for row in rows for judged in row]
        self._compare([judged for judged in everyone if not judged.verbatim])
        self._read([judged for row in rows for judged in self._close(row)])
        return [
            decide_query(
                self.name, query, [self._scored(judged) for judged in row], self._margin(rule, query), self._twins
            )
            for query, row in zip(queries, rows, strict=True)
        ]

    def _nominated(self, query: Encoding, candidates: Sequence[Candidate]) -> list[_Judged]:
        """Return the candidates that the query may be about, with its text as each is judged beside it."""
        asked = folded_text(query.text)
        everywhere = words(query.text)
        named = [item for item in candidates if item.subject_span is not None]
        found: list[_Judged] = []
        texts: dict[str, str] = {}
        for item in sorted(candidates, key=lambda item: -item.similarity):
            subject = item.edit.subject or ""
            if is_verbatim(asked, item.edit):
                found.append(_Judged(item, item.subject_span is not None, query.text, verbatim=True))
            elif disagree(query.text, item.edit.prompt):
                continue
            elif item.subject_span is not None and sum(judged.named for judged in found) < MAX_NAMED:
                spans = places(subject, query.text) or [item.subject_span]
                if subject not in texts:
                    texts[subject] = focused(mask(query.text, spans))
                found.append(_as_named(item, query.text, spans, texts[subject]))
            elif item.subject_span is None:
                room = sum(not judged.named for judged in found) < MAX_OTHERWISE
                found += self._named_otherwise(item, query.text, _not_of_others(everywhere, named, subject), room)
        return found

    def _named_otherwise(self, item: Candidate, text: str, here: Sequence[Word], room: bool) -> list[_Judged]:
        """Return a candidate whose subject does not stand in a query as stored, if it may be meant all the same."""
        subject = item.edit.subject or ""
        outright = named_outright(subject, item.edit.prompt, here, text, self._judge.is_rare)
        if outright is not None:
            return [_Judged(item, True, focused(outright[1]), span=outright[0])]
        share, hidden = _meant(item, text, here) if room else (None, None)
        if hidden is None:
            return []
        return [_Judged(item, False, focused(hidden), focused(text), share=share if is_name(subject) else None)]

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

    def _compare(self, judged: Sequence[_Judged]) -> None:
        """Have the relation encoder compare each query with the nearest text of its edit."""
        if not judged:
            return
        texts = list(dict.fromkeys(item.query for item in judged))
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

    def _read(self, judged: Sequence[_Judged]) -> None:
        """Have the cross-encoder read each query beside its edit."""
        for item, (answers, direct) in zip(
            judged,
            self._judge.pair_logits([(item.whole or item.query, item.edit) for item in judged]).tolist(),
            strict=True,
        ):
            item.cross, item.direct = answers, direct

    def _close(self, row: Sequence[_Judged]) -> list[_Judged]:
        """Return the close calls of a query: of those whose subject it names the nearest ones."""
        close = [judged for judged in row if self._is_close(judged)]
        named = [judged for judged in close if judged.named and not judged.talk]
        named.sort(key=lambda judged: -judged.relation)
        return [judged for judged in close if judged not in named] + named[:MAX_READ]

    def _is_close(self, judged: _Judged) -> bool:
        if judged.verbatim or judged.block is not None:
            return False
        below, above = self._model.calibration.clear
        return judged.talk or not judged.named or below < self._by_relation(judged) < above

    def _by_relation(self, judged: _Judged) -> float:
        slope, offset = self._model.calibration.relation
        return slope * judged.relation + offset

    def _logit(self, judged: _Judged) -> float:
        if judged.talk:
            first, second, offset = self._model.calibration.talk
            late = _AGO * max(0, turns_ago(judged.whole) - 1)
            return first * judged.relation + second * (judged.cross or 0.0) + offset - late
        if not judged.named and judged.share is None:
            first, second, offset = self._model.calibration.unnamed
            return first * (judged.cross or 0.0) + second * judged.candidate.similarity + offset
        return combined(self._model.calibration, judged.relation, judged.cross, judged.share)

    def _scored(self, judged: _Judged) -> ScoredCandidate:
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


def _as_named(item: Candidate, text: str, spans: Sequence[tuple[int, int]], hidden: str) -> _Judged:
    """Return a candidate whose subject stands in a query: of that, if not of something with a longer name."""
    if within_longer_name(text, spans, item.edit.prompt):
        return _Judged(item, False, hidden, focused(text), share=1.0)
    return _Judged(item, True, hidden)


def _nominated_in_talk(query: Encoding, candidates: Sequence[Candidate]) -> list[_Judged]:
    """Return the candidates whose subject an earlier turn names, those named in full and most similar first."""
    ordered = sorted(candidates, key=lambda item: (item.subject_span is None, -item.similarity))
    found = []
    for item in ordered[:MAX_TOLD]:
        text = told(query.text, item.edit.subject or "")
        if text is not None:
            found.append(_Judged(item, True, referring(text), text, talk=True))
    return found


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


def _meant(item: Candidate, text: str, here: Sequence[Word]) -> tuple[float | None, str | None]:
    """Return the share of the subject that stands in a query, and the query with that masked (None: not meant).

    Of the query those words count that name no other subject.
    """
    subject = item.edit.subject or ""
    share, hidden = partly_named(subject, here, text) if subject else (0.0, text)
    if share >= PARTLY and renamed(subject, here, text):
        return share, None
    if share >= PARTLY or shares_name(item.edit.prompt, here):
        return share, hidden
    least = _LIKE if subject else _LIKE_WITHOUT
    return share, text if item.similarity >= least and not is_name(subject) else None


def _not_of_others(found: Sequence[Word], named: Sequence[Candidate], subject: str) -> Sequence[Word]:
    """Return the words of a query without those that name another stored subject, unless that is a part of this one."""
    own = folded_text(subject)
    spans = [
        item.subject_span for item in named if item.subject_span and folded_text(item.edit.subject or "") not in own
    ]
    return [word for word in found if not any(start <= word.start < end for start, end in spans)] if spans else found


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
