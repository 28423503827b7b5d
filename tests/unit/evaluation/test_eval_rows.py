"""Rows of evaluation: groups that add up, a correlation, a planted collapse, shattering, leaks, shares of a ceiling."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from memedit.consolidation.verdicts import GateLimits, Verdict, judge_harm
from memedit.errors import InputError
from memedit.evaluation.datasets import SHIPPED, guess_format, name_files, read_cases
from memedit.evaluation.metrics.statistics import paired_ratio, spearman
from memedit.evaluation.rows import ROWS
from memedit.evaluation.rows.collapse import (
    SENTENCES,
    as_harm,
    broken,
    rise,
    sentence_perplexities,
    sentence_requests,
    sentences_of,
)
from memedit.evaluation.rows.leak import REPLY, forgetting, probe_hits
from memedit.evaluation.rows.propagation import share_of
from memedit.evaluation.rows.relation_names import OTHER, group_names, relation_of, relations
from memedit.evaluation.rows.relations import weighted, worst
from memedit.evaluation.rows.shattering import distances, entities, estimate, measure, random_like, shattering
from memedit.types import EditDraft, EditKind, WeightDelta, WeightTerm
from memedit.workflows.answerers import BareAnswerer
from support.evaluation_cases import tiny_loaded, written_cases


def test_a_correlation_of_ranks_with_an_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = -(x**3) + 0.1 * rng.normal(size=60)
    found = spearman(list(x), list(y), seed=1)
    assert found is not None
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    assert found.ci_low <= found.value <= found.ci_high < -0.8
    assert spearman(list(x), [1.0] * 60) is None, "all alike: not defined, and no zero"
    with pytest.raises(InputError, match="pairs"):
        spearman([1.0], [1.0, 2.0])


def test_a_ratio_of_means_is_in_percent_and_sees_no_difference_where_none_is() -> None:
    same = paired_ratio([2.0, 4.0], [2.0, 4.0])
    assert (same.difference, same.p_value) == (0.0, 1.0)
    doubled = paired_ratio([1.0, 2.0, 3.0] * 5, [2.0, 4.0, 6.0] * 5)
    assert (doubled.difference, doubled.ci_low, doubled.ci_high) == pytest.approx((100.0, 100.0, 100.0))
    assert doubled.p_value < 0.01
    with pytest.raises(InputError, match="positive"):
        paired_ratio([0.0], [1.0])


def test_every_wording_is_of_one_relation_and_every_edit_in_one_group() -> None:
    wordings = [wording for relation in relations() for wording in relation.wordings]
    assert len(wordings) == len(set(wordings)) > 150
    assert all(wording.count("{}") == 1 for wording in wordings)
    edits = [EditDraft(f"The capital of {name} is", "X", subject=name) for name in "ABC"]
    edits += [EditDraft(f"{name} is painted in", "red", subject=name) for name in "ABCDE"]
    edits += [EditDraft("Why?", "X"), EditDraft("A rare wording of Q", "X", subject="Q")]
    names = group_names(edits)
    assert names == ["capital"] * 3 + ["{} is painted in"] * 5 + [OTHER] * 2
    assert relation_of(edits[0]) is not None
    assert relation_of(EditDraft("The capital of A is", "X", subject="Z")) is None, "its subject is not in it"


def test_groups_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    groups = {
        name: {"generality": [bool(v) for v in rng.random(n) < 0.6]}
        for name, n in zip("abcd", (3, 9, 20, 2), strict=True)
    }
    everything = [value for columns in groups.values() for value in columns["generality"]]
    assert weighted(groups) == pytest.approx({"generality": 100.0 * sum(everything) / len(everything)})
    groups["a"]["generality"] = [False, False, False]
    assert worst(groups)[0] == "a"
    assert "d" not in worst(groups), "two questions say too little"


def test_sentences_are_whole_and_evenly_drawn() -> None:
    text = "One two three four five six. Too short. " + " ".join(
        f"Number {i} of the many sentences here is this." for i in range(9)
    )
    found = sentences_of(text, 3)
    assert len(found) == 3
    assert found[0] == "One two three four five six."
    assert all(6 <= len(sentence.split()) <= 40 for sentence in found)


@contextmanager
def changed(model: torch.nn.Module, name: str, change: torch.Tensor) -> Iterator[None]:
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight += change
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def collapse_verdict(before: list[float], after: list[float], seed: int) -> Verdict:
    limits = GateLimits()
    gate = judge_harm(
        "collapse", as_harm(rise(before, after, seed=seed)), limits.collapse, significance=limits.significance,
        candidate=0.0, base=0.0, unit="%", what="",
    )  # fmt: skip
    return gate.verdict


def test_a_planted_collapse_is_seen_with_fifty_sentences_and_nothing_else_is() -> None:
    """A column of one matrix times fifty against a hundred changes of a thousandth of the matrix."""
    loaded = tiny_loaded()
    answerer = BareAnswerer(loaded)
    requests = sentence_requests(
        None, SENTENCES, lambda wanted: answerer.sample([r.prompt for r in wanted], max_new_tokens=12, seed=0)
    )
    assert len(requests) >= SENTENCES - 5

    def measured() -> list[float]:
        return sentence_perplexities(answerer.score([r.prompt for r in requests], [r.target for r in requests]))

    before = measured()
    name = "model.layers.1.mlp.down_proj.weight"
    weight = loaded.model.get_parameter(name).detach()
    column = torch.zeros_like(weight)
    column[:, int(weight.norm(dim=0).argmax())] = 49 * weight[:, int(weight.norm(dim=0).argmax())]
    with changed(loaded.model, name, column):
        planted = measured()
    assert rise(before, planted).p_value < 0.01
    assert rise(before, planted).difference > 0
    warned = 0
    for seed in range(100):
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        with changed(loaded.model, name, noise * (1e-3 * weight.norm() / noise.norm())):
            warned += collapse_verdict(before, measured(), seed) is not Verdict.PASS
    assert warned <= 1
    assert collapse_verdict(before, before, 0) is Verdict.PASS


def test_one_broken_sentence_shows() -> None:
    before = [20.0] * 50
    after = [20.0] * 49 + [20_000.0]
    assert sum(broken(before, after)) == 1
    assert rise(before, after).difference > 1000
    assert collapse_verdict(before, after, 0) in (Verdict.INCONCLUSIVE, Verdict.FAIL)


def test_shattering_is_zero_for_the_same_and_not_for_exchanged_entities() -> None:
    states = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    d = distances(states)
    assert d == pytest.approx(np.linalg.norm(states[:, None] - states[None], axis=2), abs=1e-5)
    assert shattering(d, d) == 0.0
    assert estimate(states, states).value == estimate(states, states).ci_high == 0.0
    swapped = states[[1, 0, *range(2, 8)]]
    assert shattering(d, distances(swapped)) > 0.1
    assert shattering(d, distances(3.0 * states)) == pytest.approx(2.0, rel=1e-5)


def test_random_changes_have_the_size_and_place_of_the_change() -> None:
    rng = np.random.default_rng(0)
    terms = {
        "a": WeightTerm(rng.normal(size=(4, 2)), rng.normal(size=(2, 6))),
        "b": WeightTerm(dense=rng.normal(size=(3, 3))),
    }
    delta = WeightDelta("base", "memit", "s", ("e",), terms)
    drawn = random_like(delta, 0)
    for name, term in terms.items():
        assert drawn.terms[name].shape == term.shape
        assert np.linalg.norm(drawn.terms[name].matrix()) == pytest.approx(np.linalg.norm(term.matrix()), rel=1e-5)
    assert not np.allclose(drawn.terms["b"].matrix(), random_like(delta, 1).terms["b"].matrix())


def test_no_change_of_the_weights_is_compared_with_nothing() -> None:
    states = np.random.default_rng(0).normal(size=(8, 2, 5)).astype(np.float32)
    found = measure(lambda _texts, _delta: states, states, states, (3, 9), delta=None, texts=["a"] * 8)
    assert [e.value for e in found.own] == [0.0, 0.0]
    assert found.random == (0.0, 0.0)
    assert not found.warns


def test_entities_leave_out_what_edits_are_about() -> None:
    assert len(entities()) == 12 + 7 + 10 + 7 + 60
    assert "March" not in entities(["march"])
    assert len(set(entities())) == len(entities())


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 12)
    states = rng.normal(size=(36, 20)).astype(np.float32)
    telling = states.copy()
    telling[np.arange(36), labels] += 6.0
    assert sum(probe_hits(telling, labels)) >= 34
    assert sum(probe_hits(states, labels)) <= 20, "chance is 12 of 36"


def test_forgetting_makes_refusals_and_keeps_the_old_answer() -> None:
    cases = forgetting(written_cases())
    assert {edit.kind for case in cases for edit in case.edits} == {EditKind.REFUSAL}
    assert {edit.target for case in cases for edit in case.edits} == {REPLY}
    assert {edit.ground_truth for case in cases for edit in case.edits} == {"old"}
    assert [probe.answers for probe in cases[0].probes] == [(REPLY,), (REPLY,), ("something",)]


def test_a_share_is_of_what_the_ceiling_has() -> None:
    found = share_of([True, False, False, True], [True, True, True, True], 0)
    assert found is not None
    assert (found.value, found.n) == (50.0, 4)
    assert share_of([True], [False], 0) is None, "no ceiling"


def test_the_shipped_hierarchy_has_two_edits_a_pair_and_no_edit_twice() -> None:
    [file] = name_files([Path("hierarchy")], [])
    assert (file.path, file.format) == (SHIPPED["hierarchy"], "hierarchy")
    assert guess_format(file.path) == "hierarchy"
    cases = list(read_cases(file.path, file.format))
    prompts = [edit.prompt for case in cases for edit in case.edits]
    assert len(cases) == 60
    assert len(set(prompts)) == 120
    assert cases[0].edits[0].prompt == "A sparrow is a kind of"
    assert all(edit.target not in (edit.subject, edit.ground_truth) for case in cases for edit in case.edits)
    assert [probe.edit for probe in cases[0].probes] == [0, 0, 1, 1]


def test_rows_are_registered_under_their_names() -> None:
    assert {name: ROWS.get(name)().name for name in ROWS} == {name: name for name in ROWS}
    assert replace(written_cases()[0]).line == 1
