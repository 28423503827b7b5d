"""The trained scope, with a small random head: what must hold whatever the weights are."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scope_bench import HashedWords

from memedit.errors import FingerprintMismatchError, InputError
from memedit.scope import Scope
from memedit.scope.classifier import ClassifierModel, ClassifierScope, load_model, ships_for
from memedit.scope.classifier.features import FEATURES
from memedit.scope.classifier.model import ALIKE
from memedit.scope.text import is_name
from memedit.workflows.scope_training.network import Head, HeadSize

WIDTH = 16
PARAPHRASES = ("Blue Moon is sung by", "Blue Moon?")
STRANGE = ["", " ", "?!", "日本の首都はどこですか", "x" * 5000, "word " * 900, "\ud800 a", "\x00"]


def random_model(encoder, seed=0):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    return ClassifierModel(
        encoder=encoder.fingerprint,
        projection=rng.standard_normal((encoder.dimension, WIDTH)).astype(np.float32) / 4,
        head=Head(HeadSize(projection=WIDTH, width=8, hidden=12)).eval().arrays(),
        calibration=np.array([1.5, -0.2, 2.0], np.float32),
        threshold=0.5,
        band=0.1,
        word_counts={"the": 90, "of": 80, "is": 85},
        documents=100,
        notes={"seed": seed},
    )


@pytest.fixture
def weights(tmp_path, encoder):
    random_model(encoder).save(tmp_path)
    return tmp_path


@pytest.fixture
def scope(encoder, weights):
    return ClassifierScope(encoder, weights=weights)


@pytest.fixture
def edits(bench):
    return [
        bench.edit("The capital of Peru is", "Cusco", subject="Peru"),
        bench.edit(
            "Who sings Blue Moon?", "Ana", subject="Blue Moon", paraphrases=("Blue Moon is sung by", "Blue Moon?")
        ),
        bench.edit("Which year came first?", "1999"),
    ]


def scores(scope, bench, text, edits):
    query, found = bench.ask(text, edits)
    (decision,) = scope.decide([query], [found], threshold=0.0)
    return {hit.edit.id: hit.score for hit in decision.considered}


def test_follows_the_protocol_and_gives_probabilities_with_reasons(scope, bench, edits):
    assert isinstance(scope, Scope)
    query, found = bench.ask("Tell me the capital of Peru and who sings Blue Moon", edits)
    (decision,) = scope.decide([query], [found])
    assert len(decision.considered) == 3
    for hit in decision.considered:
        assert 0.0 <= hit.score < 1.0
        assert set(FEATURES) < set(hit.reasons)
        assert all(np.isfinite(value) for value in hit.reasons.values())


def test_candidates_and_queries_do_not_disturb_each_other(scope, bench, edits):
    texts = ["capital of Peru?", "Some noise. Now who sings Blue Moon", "", "which year"]
    asked = [bench.ask(text, edits) for text in texts]
    together = scope.decide([q for q, _ in asked], [c for _, c in asked], threshold=0.0)
    for (query, found), whole in zip(asked, together, strict=True):
        (alone,) = scope.decide([query], [found], threshold=0.0)
        assert [(h.edit.id, h.score) for h in alone.considered] == [(h.edit.id, h.score) for h in whole.considered]
        (turned,) = scope.decide([query], [found[::-1]], threshold=0.0)
        for one, other in zip(whole.considered, turned.considered, strict=True):
            assert (one.edit.id, pytest.approx(one.score, abs=1e-5)) == (other.edit.id, other.score)


def test_best_text_of_an_edit_counts(scope, bench, edits):
    base = scores(scope, bench, "someone sings Blue Moon", edits)[edits[1].id]
    alone = bench.edit("Who sings Blue Moon?", "Ana", subject="Blue Moon")
    assert base >= scores(scope, bench, "someone sings Blue Moon", [edits[0], alone, edits[2]])[alone.id] - 1e-6


def test_a_blocked_text_never_fires(scope, bench, edits):
    taught = [replace(edit, blocks=("the capital of Peru was?",)) for edit in edits]
    query, found = bench.ask("The capital of Peru was", edits)
    assert scope.decide([query], [found], threshold=0.0)[0].fired
    query, found = bench.ask("The capital of Peru was", taught)
    (decision,) = scope.decide([query], [found], threshold=0.0)
    assert decision.fired == ()
    assert {hit.score for hit in decision.considered} == {0.0}


@pytest.mark.parametrize("text", ["The capital of Peru is", "THE CAPITAL OF PERU IS?", "Blue Moon is sung by"])
def test_verbatim_prompts_and_paraphrases_score_one(scope, bench, edits, text):
    assert max(scores(scope, bench, text, edits).values()) == 1.0


@pytest.mark.parametrize(
    "text", ["", " ", "?!", "日本の首都はどこですか", "x" * 5000, "word " * 900, "\ud800 a", "\x00"]
)
def test_any_text_gets_finite_scores(scope, bench, edits, text):
    strange = bench.edit(text, "日本", subject=text[:10] or None, content_hash=hashlib.sha256(b"s").hexdigest())
    for asked in (text, "The capital of Peru is"):
        assert all(np.isfinite(value) for value in scores(scope, bench, asked, [*edits, strange]).values())


def test_artefacts_bring_the_same_scores_without_encoding(encoder, weights, bench, edits):
    class Counting(HashedWords):
        texts = 0

        def encode_tokens(self, texts, *, batch_size=64):
            self.texts += len(texts)
            return super().encode_tokens(texts, batch_size=batch_size)

    first, counting = ClassifierScope(encoder, weights=weights), Counting()
    second = ClassifierScope(counting, weights=weights)
    expected = scores(first, bench, "who sings Blue Moon", edits)
    assert second.missing(edits) == edits
    assert second.accept(first.prepare(edits)) == len(edits)
    assert second.missing(edits) == []
    assert scores(second, bench, "who sings Blue Moon", edits) == expected
    assert counting.texts == 0


def test_damaged_artefacts_are_left_out_and_made_anew(scope, bench, edits, encoder, weights):
    blobs = dict(scope.prepare(edits))
    blob = blobs[edits[0].id]
    bad = {"a": b"", "b": blob[:-3], "c": b"XXXX" + blob[4:], "d": blob + b"\0", "e": b"\0" * 64}
    fresh = ClassifierScope(encoder, weights=weights)
    assert fresh.accept(bad) == 0
    assert scores(fresh, bench, "capital of Peru", edits) == scores(scope, bench, "capital of Peru", edits)


def test_small_caches_forget_but_answer_alike(encoder, weights, bench, edits):
    small, large = (ClassifierScope(encoder, weights=weights, cache_size=size) for size in (1, 100))
    for text in ("capital of Peru", "who sings Blue Moon", "capital of Peru"):
        assert scores(small, bench, text, edits) == scores(large, bench, text, edits)
    assert len(small.missing(edits)) == 2
    assert large.missing(edits) == []


def test_changed_edit_is_not_answered_from_the_cache(scope, bench, edits):
    before = scores(scope, bench, "who rules Peru", edits)[edits[0].id]
    changed = bench.edit("The ruler of Peru is", "Ana", subject="Peru", id=edits[0].id)
    assert scores(scope, bench, "who rules Peru", [changed])[edits[0].id] != before


def test_an_absent_subject_costs_probability_and_a_missing_one_does_not(encoder):
    model = random_model(encoder)
    assert model.probability(1.0, absent=True) == pytest.approx(model.probability(-1.0, absent=False))
    assert model.probability(1.0, absent=True) < model.probability(1.0, absent=False)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("Blue Moon", True), ("iPhone", True), ("singer", False), ("first pick of fa cup games", False),
        ("route 75", True), ("日本", True), ("القاهرة", True), ("", True), ("émigré", False), ("москва", False),
    ],
)  # fmt: skip
def test_names_have_capitals_where_there_are_any(subject, name):
    assert is_name(subject) is name


def test_a_question_without_a_subject_that_is_no_name_is_judged_by_its_likeness_as_well(scope, bench):
    prompt = "which {} held a gladiolus in his first appearance on the show called top of the pops in may"
    asked = prompt.format("vocalist")
    same, named, other = (
        bench.edit(prompt.format("singer"), "Ana", subject="singer"),
        bench.edit(prompt.format("Singer"), "Ana", subject="Singer"),
        bench.edit("which painter held a brush", "Ana", subject="painter"),
    )
    found = bench.ask(asked, [same, named, other])[1]
    assert found[0].similarity > ALIKE
    given = scores(scope, bench, asked, [same, named, other])
    assert given[same.id] >= scope.threshold > given[named.id]
    assert given[other.id] < scope.threshold, "its cosine says nothing"
    likeness = scope.model.likeness
    assert likeness(ALIKE) == pytest.approx(scope.threshold)
    assert likeness(ALIKE - 0.1) < 0.2 < 0.8 < likeness(ALIKE + 0.1)


def test_no_candidates_no_decision(scope, bench):
    query, _ = bench.ask("anything", [])
    (decision,) = scope.decide([query], [[]])
    assert (decision.fired, decision.considered, decision.abstained) == ((), (), False)


def test_model_survives_saving(encoder, weights):
    made, loaded = random_model(encoder), load_model(weights, encoder.fingerprint)
    assert loaded.fingerprint() == made.fingerprint()
    assert (loaded.threshold, loaded.band, dict(loaded.notes)) == (made.threshold, made.band, dict(made.notes))
    assert random_model(encoder, seed=1).fingerprint() != made.fingerprint()


def test_directness_is_a_function_of_the_features_and_even_where_it_was_not_fitted(encoder, tmp_path, bench, edits):
    plain = random_model(encoder)
    rng = np.random.default_rng(5)
    layers = {
        "hidden.weight": rng.standard_normal((4, len(FEATURES))).astype(np.float32),
        "hidden.bias": rng.standard_normal(4).astype(np.float32),
        "out.weight": rng.standard_normal(4).astype(np.float32),
        "out.bias": np.float32([0.3]),
    }
    fitted = replace(plain, direct=layers)
    fitted.save(tmp_path / "fitted")
    plain.save(tmp_path / "plain")
    loaded = load_model(tmp_path / "fitted", encoder.fingerprint)
    assert loaded.fingerprint() == fitted.fingerprint() != plain.fingerprint()
    assert loaded.head.keys() == plain.head.keys()
    query, found = bench.ask("Tell me the capital of Peru and who sings Blue Moon", edits)
    for folder, known in (("fitted", True), ("plain", False)):
        (decision,) = ClassifierScope(encoder, weights=tmp_path / folder).decide([query], [found], threshold=0.0)
        for hit in decision.considered:
            features = np.array([hit.reasons[name] for name in FEATURES], np.float32)
            standard = (features - plain.head["feature_mean"]) / plain.head["feature_scale"]
            hidden = np.tanh(layers["hidden.weight"] @ standard + layers["hidden.bias"])
            expected = 1 / (1 + np.exp(-(hidden @ layers["out.weight"] + 0.3))) if known else 0.5
            assert hit.direct == pytest.approx(expected, abs=1e-5)
    query, found = bench.ask("The capital of Peru is", edits)
    (decision,) = ClassifierScope(encoder, weights=tmp_path / "fitted").decide([query], [found])
    assert decision.fired[0].direct == 1.0, "an edit's own prompt asks for its target"


def test_the_relation_s_network_has_the_last_word_where_the_subject_stands_and_nowhere_else(
    encoder, tmp_path, bench, edits
):
    plain = random_model(encoder)
    rng = np.random.default_rng(6)
    layers = {
        "hidden.weight": rng.standard_normal((4, 1 + len(FEATURES))).astype(np.float32),
        "hidden.bias": rng.standard_normal(4).astype(np.float32),
        "out.weight": rng.standard_normal(4).astype(np.float32),
        "out.bias": np.float32([0.3]),
    }
    head = {**plain.head, **{f"relation.{name}": array for name, array in layers.items()}}
    for folder, weights in (("plain", plain.head), ("judged", head)):
        replace(plain, head=weights).save(tmp_path / folder)
    query, found = bench.ask("Tell me who sings Blue Moon", edits)
    decided = {}
    for folder in ("plain", "judged"):
        (decision,) = ClassifierScope(encoder, weights=tmp_path / folder).decide([query], [found], threshold=0.0)
        decided[folder] = {hit.edit.id: hit.reasons for hit in decision.considered}
    standing = {item.edit.id for item in found if item.subject_span is not None and not item.edit.paraphrases}
    assert len(decided["plain"]) == len(decided["judged"]) == len(edits)
    for item in found:
        before, after = decided["plain"][item.edit.id], decided["judged"][item.edit.id]
        if item.subject_span is None:
            assert after["logit"] == before["logit"]
        elif item.edit.id in standing:
            features = np.array([before[name] for name in FEATURES], np.float32)
            standard = np.clip((features - plain.head["feature_mean"]) / plain.head["feature_scale"], -4, 4)
            read = np.concatenate([[before["logit"] / 4], standard])
            hidden = np.tanh(layers["hidden.weight"] @ read + layers["hidden.bias"])
            assert after["logit"] == pytest.approx(float(hidden @ layers["out.weight"] + 0.3), abs=1e-4)
        else:
            assert after["logit"] != before["logit"]
    query, found = bench.ask("Tell me who sings Blue Moon " + "and of much else " * 10, edits)
    decided = {}
    for folder in ("plain", "judged"):
        (decision,) = ClassifierScope(encoder, weights=tmp_path / folder).decide([query], [found], threshold=0.0)
        decided[folder] = {hit.edit.id: hit.reasons["logit"] for hit in decision.considered}
    assert decided["plain"] == decided["judged"], "running text is the head's to judge"


def test_a_logit_that_cannot_tell_has_the_threshold_for_its_probability(encoder):
    model = replace(random_model(encoder), threshold=0.71)
    assert model.probability(model.undecided, absent=False) == pytest.approx(0.71)


def test_another_encoder_is_refused_with_the_reason(weights, encoder):
    other = HashedWords()
    other.fingerprint = "of another model"
    with pytest.raises(FingerprintMismatchError, match="memedit train scope"):
        ClassifierScope(other, weights=weights)
    assert not ships_for("of another model")


def test_unreadable_weights_are_refused(tmp_path, weights, encoder):
    with pytest.raises(InputError, match="cannot be read"):
        ClassifierScope(encoder, weights=tmp_path / "nowhere")
    described = json.loads((weights / "classifier.json").read_text())
    (weights / "classifier.json").write_text(json.dumps(described | {"features": ["one"]}))
    with pytest.raises(InputError, match="another version"):
        ClassifierScope(encoder, weights=weights)
    (weights / "classifier.safetensors").write_bytes(b"\1\2\3")
    with pytest.raises(InputError):
        ClassifierScope(encoder, weights=weights)
