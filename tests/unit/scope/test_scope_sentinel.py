"""The knowledge sentinel as a scope: fires above the sentinel, the best only, and says why."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memedit.encoders import load_encoder
from memedit.encoders.knowledge import knowledge_text, load_knowledge_encoder
from memedit.encoders.knowledge_files import open_knowledge_encoder, save_knowledge_encoder
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.scope import Scope, load_scope
from memedit.scope.sentinel import SentinelScope
from memedit.types import Candidate
from support.recipe_bench import SHAPE, make_edit
from support.tiny_encoder import save_tiny_encoder

EDITS = [
    make_edit(0, "the mill is run by", "ada"),
    make_edit(1, "the ferry sails to", "brightwater"),
    make_edit(2, "ada was born in", "oss"),
]
QUERIES = ["who runs the mill?", "where does the ferry go", "what is two and two?", ""]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sentinel")
    encoder = save_tiny_encoder(folder / "encoder")
    save_knowledge_encoder(folder / "net", load_knowledge_encoder(encoder, SHAPE, seed=11), encoder=encoder)
    return encoder, folder / "net"


@pytest.fixture(scope="module")
def encoder(place: tuple[Path, Path]) -> Any:
    return load_encoder(place[0])


@pytest.fixture(scope="module")
def scope(place: tuple[Path, Path], encoder: Any) -> SentinelScope:
    return SentinelScope(encoder, weights=place[1])


def candidates(edits: list[Any] | None = None) -> list[Candidate]:
    return [Candidate(edit, 0.5, None) for edit in (EDITS if edits is None else edits)]


def test_it_is_a_scope_found_by_name(scope: SentinelScope, place: tuple[Path, Path], encoder: Any) -> None:
    assert isinstance(scope, Scope)
    assert (scope.name, scope.threshold) == ("sentinel", 0.5)
    assert load_scope("sentinel", encoder, weights=str(place[1])).fingerprint == scope.fingerprint


def test_an_edit_fires_iff_its_knowledge_beats_the_sentinel(
    scope: SentinelScope, place: tuple[Path, Path], encoder: Any
) -> None:
    network = open_knowledge_encoder(place[1])
    with torch.no_grad():
        asked = network.queries(QUERIES)
        known = network.knowledge([knowledge_text(e.prompt, e.target) for e in EDITS])
        margin = (asked @ known.T - asked @ network.sentinel().T) * network.scale
    decisions = scope.decide(encoder.encode_tokens(QUERIES), [candidates() for _ in QUERIES])
    outcomes = set()
    for row, decision in zip(margin, decisions, strict=True):
        best = int(row.argmax())
        fires = float(row[best]) > 0
        outcomes.add(fires)
        assert [hit.edit.id for hit in decision.fired] == ([EDITS[best].id] if fires else [])
        assert [hit.edit.id for hit in decision.considered] == [EDITS[i].id for i in row.argsort(descending=True)]
        top = decision.considered[0]
        assert top.score == pytest.approx(1 / (1 + math.exp(-float(row[best]))), abs=1e-4)
        assert top.reasons["relevance"] - top.reasons["sentinel"] == pytest.approx(float(row[best]), abs=1e-4)
    assert outcomes == {True, False}  # the seed of the network is chosen so that both sides occur


def test_a_blocked_text_never_fires(scope: SentinelScope, encoder: Any) -> None:
    taught = [replace(edit, blocks=(QUERIES[0],)) for edit in EDITS]
    first, second = scope.decide(encoder.encode_tokens(QUERIES[:2]), [candidates(taught)] * 2, threshold=0.0)
    assert first.fired == ()
    assert second.fired


def test_threshold_moves_the_bar(scope: SentinelScope, encoder: Any) -> None:
    queries = encoder.encode_tokens(QUERIES)
    everything = scope.decide(queries, [candidates() for _ in QUERIES], threshold=0.0)
    nothing = scope.decide(queries, [candidates() for _ in QUERIES], threshold=1.0)
    assert all(len(decision.fired) == 1 for decision in everything)
    assert not any(decision.fired for decision in nothing)
    with pytest.raises(InputError, match="threshold"):
        scope.decide(queries, [candidates() for _ in QUERIES], threshold=2.0)


def test_rows_are_judged_alone_and_no_candidates_cost_nothing(scope: SentinelScope, encoder: Any) -> None:
    queries = encoder.encode_tokens(QUERIES)
    rows = [candidates(EDITS[:1]), [], candidates(EDITS[1:]), candidates()]
    together = scope.decide(queries, rows, threshold=0.0)
    assert not together[1].fired
    assert not together[1].considered
    for query, row, decision in zip(queries, rows, together, strict=True):
        alone = scope.decide([query], [row], threshold=0.0)[0]
        assert [h.edit.id for h in alone.considered] == [h.edit.id for h in decision.considered]
        for one, other in zip(alone.considered, decision.considered, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
    assert scope.decide([], []) == []


def test_the_cache_is_bounded_and_changes_nothing(place: tuple[Path, Path], encoder: Any) -> None:
    small = SentinelScope(encoder, weights=place[1], cache_size=1)
    queries = encoder.encode_tokens(QUERIES[:2])
    first = small.decide(queries, [candidates(), candidates()])
    assert small.decide(queries, [candidates(), candidates()])[0].considered[0].edit == first[0].considered[0].edit
    with pytest.raises(InputError, match="cache_size"):
        SentinelScope(encoder, weights=place[1], cache_size=0)


def test_wrong_encoder_and_absent_weights_are_refused(place: tuple[Path, Path], encoder: Any, tmp_path: Path) -> None:
    other = load_encoder(save_tiny_encoder(tmp_path, seed=5))
    with pytest.raises(FingerprintMismatchError, match="trained over"):
        SentinelScope(other, weights=place[1])
    with pytest.raises(ModelNotFoundError, match="no trained knowledge encoder"):
        SentinelScope(encoder, weights="no-such-base")
