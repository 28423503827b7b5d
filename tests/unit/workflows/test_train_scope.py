"""Training the scope classifier, in small: data files in, the same weights out, killed or not."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.errors import InputError
from memedit.evaluation.datasets.splits import is_training_row
from memedit.scope.classifier import ClassifierScope, load_model
from memedit.scope.classifier.features import FEATURES
from memedit.scope.classifier.networks import network_logits, relation_inputs
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.workflows.scope_training.attributes import MADE, families, held_back, made_rows
from memedit.workflows.scope_training.directness import HOP, AskedQuestion, directness_auc, fit_directness
from memedit.workflows.scope_training.examples import (
    RIGHT,
    UNKNOWN,
    WRONG,
    Found,
    SimulatedMemory,
    judged_queries,
    label,
    masked_texts,
    surely_other,
)
from memedit.workflows.scope_training.fitting import FitSettings, group_weights
from memedit.workflows.scope_training.judging import (
    BALANCED,
    Best,
    Outcome,
    auc,
    balance,
    calibrate_outcomes,
    choose_threshold,
    platt,
    score,
)
from memedit.workflows.scope_training.network import Head, HeadSize
from memedit.workflows.scope_training.queries import QueryMaker, TrainingQuery
from memedit.workflows.scope_training.relations import Relations, template_of
from memedit.workflows.scope_training.rows import read_rows
from memedit.workflows.scope_training.same_relation import RelationPair, fit_relation, relation_pairs
from memedit.workflows.scope_training.texts import EncodedTexts, principal_directions
from memedit.workflows.scope_training.wording import join, mistype, near_name, negate, one_hop_more, other_name, suppose
from memedit.workflows.train_scope import ScopeTraining, train_scope

sys.path.append(str(Path(__file__).parents[1] / "scope"))
from scope_bench import HashedWords

TOWNS = [f"{a}{b}" for a in ("Bel", "Kor", "Mar", "Tol", "Ver", "Zan") for b in ("ava", "ino", "ossa", "uria", "ex")]
RELATIONS = [
    ("The mayor of {} is", "Who is the mayor of {}?"),
    ("{} lies on the river", "Which river does {} lie on?"),
    ("The patron of {} is", "Who is the patron of {}?"),
]
SMALL = ScopeTraining(
    negatives=2,
    made_rows=10,
    vocabulary=200,
    head=HeadSize(projection=16, width=8, hidden=12),
    fit=FitSettings(epochs=3, batch_size=32, checkpoint_every=5),
)


@pytest.fixture
def data_file(tmp_path):
    rng, lines = random.Random(0), []
    for number, town in enumerate(TOWNS):
        prompt, question = RELATIONS[number % len(RELATIONS)]
        other = rng.choice([name for name in TOWNS if name != town])
        lines.append(
            {
                "prompt": prompt.format(town),
                "target_new": f"Name{number}",
                "subject": town,
                "ground_truth": "Old",
                "rephrase_prompt": ("It rained all day. " if number % 2 else "") + question.format(town),
                "locality_prompt": prompt.format(f"Far {other}x"),
                "locality_ground_truth": "Same",
            }
        )
    path = tmp_path / "towns.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return path


@pytest.fixture
def rows(data_file):
    return read_rows([data_file], max_rows=1000)


def test_rows_carry_their_probes(rows):
    assert len(rows) == len(TOWNS)
    assert rows[0].inside == (("paraphrase", "Who is the mayor of Belava?"),)
    assert [kind for kind, _ in rows[0].outside] == ["locality"]
    assert (rows[0].source, rows[0].named) == ("towns", True)


def test_template_is_the_sentence_around_the_subject():
    assert template_of("Noise. The mayor of Belava is", "Belava") == "The mayor of {} is"
    assert template_of("nothing", "Belava") is None
    assert template_of("nothing", None) is None


def test_relations_know_which_wordings_go_together(rows):
    relations = Relations(rows)
    group = relations.group(rows[0])
    assert relations.may_ask("Who is the mayor of {}?", group)
    assert not relations.may_ask("Which river does {} lie on?", group)
    assert relations.may_ask("a wording never seen {}", group)
    assert relations.wordings(group) == ["The mayor of {} is"]


def test_labels_keep_silent_where_the_data_cannot_tell(rows):
    relations = Relations(rows)
    query = TrainingQuery("Who is the mayor of Belava?", 0, None, "x", "Who is the mayor of {}?")
    assert label(query, Found(0, 0.9, None), rows, relations) == RIGHT
    assert label(query, Found(1, 0.9, None), rows, relations) == WRONG
    unrelated = TrainingQuery("The mayor of Kordoba is", None, None, "x")
    assert label(unrelated, Found(1, 0.9, (0, 3)), rows, relations) == UNKNOWN
    assert label(unrelated, Found(1, 0.9, None), rows, relations) == WRONG
    hard = TrainingQuery("The gender of Belava is", None, 0, "x")
    assert label(hard, Found(0, 0.9, (14, 20)), rows, relations) == WRONG


def test_both_rows_of_a_question_about_two_facts_are_right(rows):
    relations = Relations(rows)
    query = TrainingQuery("Who is the mayor of Belava? And who rules Belino?", 0, None, "two facts", also=1)
    assert [label(query, Found(number, 0.5, None), rows, relations) for number in range(3)] == [RIGHT, RIGHT, WRONG]


def test_wordings_too_near_the_edits_own_are_not_called_another_relation(rows):
    near, far, plain = (
        TrainingQuery(text, None, 0, group, template)
        for text, group, template in (
            ("The mayor for Belava is", "towns/other relation", "The mayor for {} is"),
            ("Belava lies on", "towns/other relation", "{} lies on"),
            ("The mayor of Tol is", "towns/locality", None),
        )
    )
    assert masked_texts(plain, rows) == ()
    assert masked_texts(near, rows) == ("The mayor for it is", "The mayor of it is")
    encoder = HashedWords()
    kept = surely_other([near, far, plain], rows, lambda text: encoder.encode([text])[0], limit=0.6)
    assert kept == [far, plain]


def test_queries_are_deterministic_and_cover_the_hard_cases(rows):
    relations = Relations(rows)
    made = QueryMaker(rows, relations, 3).all()
    assert made == QueryMaker(rows, relations, 3).all()
    assert made != QueryMaker(rows, relations, 4).all()
    groups = {query.group for query in made}
    assert {"towns/paraphrase", "towns/locality", "towns/other relation", "other subject", "varied"} <= groups
    for query in made:
        if query.group.endswith("/other relation"):
            assert rows[query.wrong].subject in query.text
            assert query.text != rows[query.wrong].prompt


def test_made_edits_ask_for_relations_of_one_family(rows):
    made = made_rows(random.Random(0), rows, 50)
    assert len(made) == 50
    subjects = {row.subject for row in rows}
    assert 10 < sum(row.subject in subjects for row in made) < 40
    for row in made:
        assert all(row.subject in text for _, text in row.inside)
        assert all((row.subject in text) == (kind == "specificity") for kind, text in row.outside)
        assert row.prompt not in {text for _, text in row.inside}
    assert made_rows(random.Random(0), [], 5) == []


def test_reported_relations_are_never_fitted(rows):
    def wordings(reported):
        made = made_rows(random.Random(1), rows, 300, reported=reported)
        return {text.replace(row.subject, "") for row in made for text in (row.prompt, *(t for _, t in row.inside))}

    fitted, reported = wordings(False), wordings(True)
    assert len(fitted) > 300
    assert len(reported) > 30
    assert not fitted & reported


def test_every_relation_has_wordings_with_one_slot():
    for relations in families().values():
        assert sum(held_back(name) for name in relations) >= 4
        for name, wordings in relations.items():
            assert len(wordings) >= 3, name
            assert all(wording.count("{}") == 1 for wording in wordings), name


def test_wordings():
    rng = random.Random(0)
    assert negate("The mayor of Belava is") == "The mayor of Belava is not"
    assert negate("Belava plays in") == "Belava does not play in"
    assert negate("Belava") is None
    assert one_hop_more(rng, "The name of the father of Ana is").endswith(" of the father of Ana is")
    assert one_hop_more(rng, "Who is it?") is None
    assert other_name(rng, "Ana") is None
    assert {other_name(rng, "Ana Lee Mora") for _ in range(40)} >= {"A. Lee Mora", "Ana Mora"}
    assert near_name(rng, "Ana Mora", ["Belava Tol"]) in {"Belava Mora", "Ana Belava", "Tol Mora", "Ana Tol"}
    assert near_name(rng, "Ana", ["Belava"]) is None
    assert {near_name(rng, "Flight 7", ["x"]) for _ in range(40)} > {None, "Flight 8"}
    assert suppose(rng, "Ana is").endswith("Ana is")
    assert join(rng, "Who is Ana?", "Who is Tol?").count("Who is") == 2
    assert mistype(rng, "abc") == "abc"
    assert mistype(rng, "Belava") != "Belava"


def test_split_depends_on_the_text_alone_and_halves_the_rows():
    share = np.mean([is_training_row(f"prompt {number}") for number in range(4000)])
    assert 0.46 < share < 0.54
    assert is_training_row("prompt 7") == is_training_row("prompt 7")


def test_small_groups_weigh_more_for_each_row():
    weights = group_weights(["large"] * 9 + ["small"])
    assert weights[9] == pytest.approx(3 * weights[0])
    assert weights.mean() == pytest.approx(1.0)


def test_platt_recovers_the_logistic_that_made_the_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20000)
    labels = (rng.random(20000) < 1 / (1 + np.exp(-(0.7 * logits - 0.5)))).astype(float)
    np.testing.assert_allclose(platt(logits, labels), [0.7, -0.5], atol=0.06)


@pytest.mark.parametrize("spread", [1.0, 40.0, 400.0])
def test_platt_stays_finite_where_logits_lie_far_apart(spread):
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.5).astype(np.float64)
    logits = spread * (np.where(labels > 0, 1.0, -1.0) + 0.7 * rng.standard_normal(2000))
    slope, offset = platt(logits, labels)
    assert 0.5 / spread < slope < 10 / spread
    assert abs(offset) < 1


def test_auc_counts_ties_half():
    assert auc([1.0, 2.0], [0.0, 1.0]) == pytest.approx(0.875)
    assert np.isnan(auc([], [1.0]))


def outcome(kind, standing, absent=float("-inf"), *, inside=False, right=False):
    return Outcome("s", kind, inside, Best(standing, right), Best(absent, right), False, 0.0, 0.0)


def test_threshold_keeps_the_wanted_share_silent():
    calibration = np.array([1.0, 0.0, 0.0], np.float32)
    outcomes = [outcome("locality", float(x)) for x in np.linspace(-6, 1.5, 1000)]
    threshold = choose_threshold(outcomes, calibration)
    assert 0.0 < np.mean([score(o, calibration) >= threshold for o in outcomes]) <= 0.003


def test_each_kind_of_error_sets_its_own_room():
    nowhere = float("-inf")
    relations = [outcome("specificity", float(x), nowhere) for x in np.linspace(-6, 0, 1000)]
    names = [outcome("locality", nowhere, float(x)) for x in np.linspace(-6, 3, 1000)]
    gain, loss = balance([*relations, *names], undecided=1.0, loss=3.0)
    assert 1.0 < gain < 1.2
    assert np.mean([o.standing.logit + gain >= 1.0 for o in relations]) == pytest.approx(1 - BALANCED["specificity"])
    assert 1.9 < loss < 2.0
    assert np.mean([o.absent.logit - loss >= 1.0 for o in names]) == pytest.approx(1 - BALANCED["locality"])
    assert balance(names, undecided=1.0, loss=3.0) == (0.0, loss)
    assert balance(relations, undecided=1.0, loss=3.0) == (gain, 3.0)
    made = [replace(o, source=MADE) for o in relations]
    nearer = [replace(o, standing=Best(o.standing.logit + 0.9, False)) for o in made]
    assert balance([*relations, *made, *names], undecided=1.0, loss=3.0) == (gain, loss), "they have more room"
    tight, _ = balance([*relations, *nearer], undecided=1.0, loss=3.0)
    assert np.mean([o.standing.logit + tight >= 1.0 for o in nearer]) == pytest.approx(1 - BALANCED[MADE])
    far = outcome("specificity", -50.0, nowhere)
    assert balance([far], undecided=1.0, loss=3.0)[0] == 4.0, "a handful of easy questions opens no gates"


def test_absent_subjects_cost_more_where_neighbours_score_high():
    neighbours = [outcome("locality", float("-inf"), x) for x in np.linspace(-4, 3, 400)]
    hits = [outcome("paraphrase", x, inside=True, right=True) for x in np.linspace(1, 4, 400)]
    calibration, threshold = calibrate_outcomes([*neighbours, *hits])
    assert calibration[2] > 0.0
    assert all(score(o, calibration) >= threshold for o in hits)
    aliases = [outcome("alias", float("-inf"), x, inside=True, right=True) for x in np.linspace(1, 4, 400)]
    easy = [outcome("locality", float("-inf"), x) for x in np.linspace(-9, -5, 400)]
    calibration, threshold = calibrate_outcomes([*easy, *aliases])
    assert calibration[2] == 0.0


class Killed(Exception):
    pass


def test_training_is_deterministic_and_survives_a_kill(data_file, tmp_path):
    encoder = HashedWords()
    whole = train_scope([data_file], tmp_path / "a", encoder=encoder, settings=SMALL, seed=1)

    def die(stage, done, total):
        if stage == "fit" and done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        train_scope([data_file], tmp_path / "b", encoder=encoder, settings=SMALL, seed=1, progress=die)
    steps = []
    resumed = train_scope(
        [data_file],
        tmp_path / "b",
        encoder=encoder,
        settings=SMALL,
        seed=1,
        progress=lambda stage, done, total: steps.append((stage, done)),
    )
    assert resumed == whole
    assert not any(stage == "compare" for stage, _ in steps)
    assert min(done for stage, done in steps if stage == "fit") > 1
    first, second = (load_model(tmp_path / name) for name in "ab")
    assert first.fingerprint() == second.fingerprint()
    other = train_scope([data_file], tmp_path / "c", encoder=encoder, settings=SMALL, seed=2)
    assert load_model(tmp_path / "c").fingerprint() != first.fingerprint()
    assert set(other["rates"]) == set(whole["rates"])
    assert ClassifierScope(encoder, weights=tmp_path / "a").threshold == first.threshold


def test_files_without_training_rows_are_refused(data_file, tmp_path):
    line = next(r for r in data_file.read_text().splitlines() if not is_training_row(json.loads(r)["prompt"]))
    data_file.write_text(line)
    with pytest.raises(InputError, match="training half"):
        train_scope([data_file], tmp_path / "out", encoder=HashedWords(), settings=SMALL)


def test_networks_are_kept_of_a_trained_head_alone(data_file, tmp_path):
    with pytest.raises(InputError, match="--head"):
        train_scope([data_file], tmp_path / "out", encoder=HashedWords(), settings=SMALL, networks=False)


def test_rewordings_are_told_from_questions_one_step_further():
    rng = np.random.default_rng(0)
    head = {"feature_mean": np.zeros(len(FEATURES), np.float32), "feature_scale": np.ones(len(FEATURES), np.float32)}

    def asked(kind, count, shift):
        features = rng.normal(size=(count, len(FEATURES))).astype(np.float32)
        features[:, 3] += shift
        return [AskedQuestion("towns", kind, row) for row in features]

    questions = [*asked("paraphrase", 200, 2.0), *asked(HOP, 40, -2.0)]
    direct = fit_directness(head, questions, seed=0)
    assert direct["hidden.weight"].shape == (len(direct["out.weight"]), len(FEATURES))
    again = fit_directness(head, questions, seed=0)
    assert all(np.array_equal(direct[name], again[name]) for name in direct)
    fresh = [*asked("paraphrase", 100, 2.0), *asked(HOP, 100, -2.0)]
    assert directness_auc(direct, head, fresh) > 0.95
    assert fit_directness(head, asked("paraphrase", 20, 0.0), seed=0) is None, "nothing to tell apart"


def asked_pairs(group, right, count, shift, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, len(FEATURES))).astype(np.float32)
    features[:, 3] += shift
    return [
        RelationPair(group, float(logit), row, right, ("", ""))
        for logit, row in zip(rng.normal(size=count), features, strict=True)
    ]


def test_the_relation_s_network_tells_pairs_apart_on_the_head_s_scale():
    plain = {"feature_mean": np.zeros(len(FEATURES), np.float32), "feature_scale": np.ones(len(FEATURES), np.float32)}
    pairs = [*asked_pairs("made/paraphrase", True, 200, 2, 0), *asked_pairs("made/specificity", False, 300, -2, 1)]
    head = fit_relation({**plain, "relation.of": np.ones(1)}, pairs, undecided=1.5, slope=2.0, seed=0)
    assert "relation.of" not in head, "what was fitted before is gone"
    fresh = [*asked_pairs("a", True, 100, 2, 2), *asked_pairs("b", False, 100, -2, 3)]
    layers = {name.removeprefix("relation."): array for name, array in head.items() if name.startswith("relation.")}
    inputs = relation_inputs(np.float32([pair.logit for pair in fresh]), np.stack([pair.features for pair in fresh]))
    found = network_logits(layers, inputs) > 1.5
    assert np.mean(found == [pair.right for pair in fresh]) > 0.95
    doubled = fit_relation(plain, pairs, undecided=1.5, slope=1.0, seed=0)
    assert doubled["relation.out.weight"] == pytest.approx(2 * head["relation.out.weight"])
    assert fit_relation(plain, pairs[:10], undecided=0.0, slope=1.0, seed=0) is None, "nothing to tell apart"


def test_pairs_are_of_edits_whose_subject_stands_in_the_query(data_file):
    """And never verbatim prompts; of strangers' prompts only those that the head leaves alone are known to be wrong."""
    rows = read_rows([data_file], max_rows=100)
    texts = EncodedTexts(WordRarity({"the": 9}, 10))
    encoder = HashedWords()
    directions = principal_directions(encoder, [row.prompt for row in rows], 16, seed=0)
    town, other = rows[0], rows[1]
    queries = [
        TrainingQuery(f"Tell me: {town.prompt}", 0, None, "g/paraphrase"),
        TrainingQuery(town.prompt, 0, None, "verbatim"),
        TrainingQuery(f"How large is {town.subject}?", None, 0, "g/specificity"),
        TrainingQuery(f"How large is {other.subject}?", None, None, "g/locality"),
    ]
    texts.add(encoder, directions, [*(row.prompt for row in rows), *(q.text for q in queries)], data_file.parent / "t")
    memory = SimulatedMemory(rows, texts, WordRarity({"the": 9}, 10))
    torch.manual_seed(0)
    head = Head(HeadSize(projection=16, width=8, hidden=12)).eval().arrays()
    found = {}
    for undecided in (-1e3, 1e3):
        judged = judged_queries(memory, rows, Relations(rows), queries, negatives=4, seed=1)
        pairs = list(relation_pairs(head, judged, rows, queries, undecided=undecided))
        found[undecided] = [(pair.group, pair.right) for pair in pairs]
        assert all(pair.features[FEATURES.index("subject_stands")] == 1 for pair in pairs)
        assert pairs[1].texts == ("How large is X?", town.prompt.replace(town.subject, "X"))
    told = [("g/paraphrase", True), ("g/specificity", False)]
    assert found[-1e3] == told
    assert found[1e3] == [*told, ("g/locality", False)]


def test_refining_keeps_the_head_and_fits_how_direct_a_question_is(data_file, tmp_path):
    towns = [json.loads(line) for line in data_file.read_text("utf-8").splitlines()]
    hops = tmp_path / "knowedit_towns.jsonl"
    hops.write_text("\n".join(json.dumps(with_a_hop(town)) for town in towns), "utf-8")
    encoder = HashedWords()
    train_scope([data_file], tmp_path / "head", encoder=encoder, settings=SMALL)
    before = load_model(tmp_path / "head")
    report = train_scope(
        [data_file, hops], tmp_path / "refined", encoder=encoder, settings=SMALL, head=tmp_path / "head"
    )
    after = load_model(tmp_path / "refined")
    assert after.direct["hidden.weight"].shape[1] == len(FEATURES)
    assert any(not np.array_equal(before.direct[name], after.direct[name]) for name in after.direct)
    assert before.threshold == after.threshold
    assert np.array_equal(before.calibration[:2], after.calibration[:2])
    assert set(after.notes["balanced"]) == {"gain", "loss", "probes"}
    fitted = {name for name in before.head if name.startswith("relation.")}
    assert fitted
    assert before.head.keys() == after.head.keys()
    assert all(np.array_equal(before.head[name], after.head[name]) == (name not in fitted) for name in before.head)
    assert report["direct"]["files"]["rewordings"] > 0
    assert report["direct"]["files"]["hops"] > 0
    assert set(report["direct"]["unseen relations"]) == {"auc", "rewordings", "hops"}
    assert before.fingerprint() != after.fingerprint()
    kept = tmp_path / "balanced"
    train_scope([data_file, hops], kept, encoder=encoder, settings=SMALL, head=tmp_path / "refined", networks=False)
    again = load_model(kept)
    assert again.head.keys() == after.head.keys()
    moved = {name for name in after.head if not np.array_equal(after.head[name], again.head[name])}
    assert moved <= {"relation.out.bias"}
    assert all(np.array_equal(after.direct[name], again.direct[name]) for name in after.direct)


def with_a_hop(town):
    """Return a KnowEdit row about a town with a question that needs its edit as one step."""
    return {
        "prompt": town["prompt"],
        "subject": town["subject"],
        "target_new": town["target_new"],
        "ground_truth": "Old",
        "portability": {
            "Reasoning": [{"prompt": f"The birthplace of the one who runs {town['subject']} is", "ground_truth": "X"}],
            "Subject_Aliasing": [{"prompt": town["rephrase_prompt"], "ground_truth": "X"}],
        },
        "locality": {},
    }
