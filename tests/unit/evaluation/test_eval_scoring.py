"""Each metric counts what its name says."""

from dataclasses import replace

import pytest

from memedit.evaluation.answering import Firing, Generation, Scoring
from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.requests import GenerateRequest, plan_generate, plan_score
from memedit.evaluation.scoring import Answered, Forced, failures, observe_age, observe_forced, observe_generated, worst
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import AskedProbe, EditedState, sample_queries
from support.evaluation_cases import ScriptedAnswerer

K = ProbeKind


def asked(
    kind: ProbeKind, index: int = 0, *, touched: bool = False, long_form: bool = False, case: int = 0
) -> AskedProbe:
    probe = Probe(kind, f"prompt {index}", ("Vessin", "the Salt Port"), "old")
    return AskedProbe(index, case, probe, frozenset({7}), touched, long_form, 0.0)


def said(text: str, *fired: int) -> Generation:
    return Generation(text, tuple(map(ord, text)), tuple(Firing(edit, 0.9) for edit in fired))


def percent(items: list[Answered], routed: bool = True) -> dict[str, tuple[float, int]]:
    found = observe_generated(items, routed=routed).estimates(0)
    return {name: (estimate.value, estimate.n) for name, estimate in found.items()}


def test_matches_are_counted_three_ways() -> None:
    texts = [" Vessin.\nand more", "\n\nthe salt port", " Vessin, of course", " I say Vessin", " Holm"]
    found = percent([Answered(asked(K.EDIT, i), said(t), said("")) for i, t in enumerate(texts)], routed=False)
    assert found == {
        "reliability": (40, 5),
        "reliability.contains": (80, 5),
        "reliability.prefix": (60, 5),
    }


def test_locality_is_token_identity_and_touched_prompts_stand_apart() -> None:
    items = [
        Answered(asked(K.LOCALITY, 0), said("same"), said("same")),
        Answered(asked(K.LOCALITY, 1), said("same "), said("same")),
        Answered(asked(K.LOCALITY, 2, touched=True), said("new", 3), said("old")),
        Answered(asked(K.SPECIFICITY, 3), said("same", 7), said("same")),
        Answered(asked(K.FORGETFULNESS, 4), said("x", 7), said("y")),
    ]
    found = percent(items)
    assert found["locality"] == (50, 2)
    assert found["locality_touched"] == (0, 1)
    assert found["specificity"] == (100, 1)
    assert found["specificity.silent"] == (0, 1)
    assert found["forgetfulness"] == (0, 1)


def test_the_first_and_the_last_fifth_of_a_stream_stand_apart() -> None:
    places = (0.0, 0.19, 0.2, 0.79, 0.8, 1.0)
    probes = [replace(asked(K.EDIT, i), position=place) for i, place in enumerate(places)]
    texts = ("Vessin", "Holm", "Holm", "Holm", "Vessin", "Vessin")
    answered = [Answered(probe, said(text), said("")) for probe, text in zip(probes, texts, strict=True)]
    seen = observe_generated(answered, routed=False)
    observe_age(seen, probes)
    found = {name: (estimate.value, estimate.n) for name, estimate in seen.estimates(0).items()}
    assert (found["reliability.early"], found["reliability.late"]) == ((50, 2), (100, 2))
    assert "generality.early" not in found


def test_routing_counts_the_right_edit() -> None:
    items = [
        Answered(asked(K.EDIT, 0), said("x", 7), said("")),
        Answered(asked(K.PARAPHRASE, 1), said("x", 3), said("")),
        Answered(asked(K.PARAPHRASE, 2), said("x"), said("")),
        Answered(asked(K.LOCALITY, 3), said("x", 7), said("x")),
        Answered(asked(K.LOCALITY, 4, touched=True), said("x", 5), said("x")),
        Answered(asked(K.ALIAS, 5), said("Vessin", 3, 7), said("x")),
    ]
    found = percent(items)
    assert found["routing_recall"] == (pytest.approx(100 / 3), 3)
    # fired: right on edit and alias, wrong on one paraphrase and on the stranger; the touched prompt does not count
    assert found["routing_precision"] == (50, 4)
    assert found["locality.silent"] == (0, 1)
    assert found["portability.alias.routed"] == (100, 1)
    assert "routing_recall" not in percent(items, routed=False)


def test_long_answers_are_scored_by_overlap_in_percent() -> None:
    items = [
        Answered(asked(K.EDIT, 0, long_form=True), said(" Vessin"), said("")),
        Answered(asked(K.PARAPHRASE, 1, long_form=True), said(" Vessin Vessin Vessin"), said("")),
    ]
    found = percent(items, routed=False)
    assert found["rouge_l"] == (100, 1)
    assert found["rouge_l_paraphrase"] == (pytest.approx(50), 1)
    assert found["rouge_l_paraphrase.recall"] == (100, 1)
    assert "reliability" not in found


def test_any_hop_counts_cases() -> None:
    items = [
        Answered(asked(K.MULTI_HOP, 0, case=1), said("no"), said("")),
        Answered(asked(K.MULTI_HOP, 1, case=1), said("Vessin"), said("")),
        Answered(asked(K.MULTI_HOP, 2, case=2), said("oh Vessin"), said("")),
    ]
    found = percent(items, routed=False)
    assert found["portability.multi_hop"] == (pytest.approx(100 / 3), 3)
    assert found["portability.multi_hop.any"] == (50, 2)
    assert found["portability.multi_hop.any_contains"] == (100, 2)


def test_teacher_forcing_counts_tokens_and_compares_likelihoods() -> None:
    good, half = Scoring((-1.0, -1.0), (True, True), (5, 6)), Scoring((-1.0, -3.0), (True, False), (5, 9))
    bad = Scoring((-4.0,), (False,), (1,))
    items = [
        Forced(asked(K.EDIT, 0), good, bad, bad),
        Forced(asked(K.EDIT, 1), half, Scoring((-1.0,), (True,), (1,)), bad),
        Forced(asked(K.LOCALITY, 2), good, half, half),
        Forced(asked(K.LOCALITY, 3, touched=True), good, bad, good),
        Forced(asked(K.SPECIFICITY, 4), None, None, None),
    ]
    found = {name: (e.value, e.n) for name, e in observe_forced(items, routed=False).estimates(0).items()}
    assert found == {
        "reliability": (75, 2),
        "reliability.exact": (50, 2),
        "efficacy": (50, 2),
        "locality": (50, 1),
        "locality.exact": (0, 1),
        "locality_touched": (100, 1),
        "locality_touched.exact": (100, 1),
        "specificity": (100, 1),
    }


def test_limits_follow_the_answer_and_not_the_method(cases: list[Case], scripted: ScriptedAnswerer) -> None:
    probes = sample_queries(cases, EditedState(tuple(range(6)))).probes
    settings = EvalSettings(slack_tokens=2, round_tokens=5, unchanged_tokens=12)
    plan = plan_generate(probes, scripted, settings)
    limits = {a.probe.prompt: plan.requests[i].max_new_tokens for a, i in zip(probes, plan.of_probe, strict=True)}
    assert limits["The capital of Orlanda is"] == 10  # " Vessin" is 7, 2 of slack, rounded up to 5s
    assert limits["The capital of Brelland is"] == 12
    assert all(request.stop_at_newline for request in plan.requests)


def test_the_same_prompt_is_asked_once(cases: list[Case], scripted: ScriptedAnswerer) -> None:
    doubled = [*cases, cases[0]]
    probes = sample_queries(doubled, EditedState((*range(6), 0))).probes
    plan = plan_generate(probes, scripted, EvalSettings())
    assert len(plan.of_probe) == 21
    assert len(plan.requests) == 18 == len(set(plan.requests))
    assert isinstance(plan.requests[0], GenerateRequest)
    scores = plan_score(probes)
    assert len(scores.requests) == 36  # answer and contrast of each
    assert scores.of_answer[0] == scores.of_answer[18]


def test_score_requests_put_one_space_before_the_answer(cases: list[Case]) -> None:
    tight = Case(1, cases[0].edits, (Probe(K.EDIT, "It is:\n", (" Vessin ",)), Probe(K.LOCALITY, "x", (), "y")))
    plan = plan_score(sample_queries([tight], EditedState((0,))).probes)
    assert [(r.prompt, r.target) for r in plan.requests] == [("It is:\n", "Vessin")]
    assert plan.of_answer == (0, None)
    assert plan.of_contrast == (None, None)


def test_failures_are_the_wrong_answers_worst_first() -> None:
    items = [
        Answered(asked(K.PARAPHRASE, 0), said("Holm"), said("b")),
        Answered(asked(K.EDIT, 1), said("Vessin town"), said("b")),
        Answered(asked(K.EDIT, 2), said("Holm", 3), said("b")),
        Answered(asked(K.EDIT, 3), said("Vessin"), said("b")),
        Answered(asked(K.LOCALITY, 4), said("changed", 3), said("b")),
        Answered(asked(K.LOCALITY, 5, touched=True), said("changed", 3), said("b")),
        Answered(asked(K.EDIT, 6, long_form=True), said("Vessin"), said("b")),
    ]
    found = worst(list(failures("d", "m", items)), 50)
    assert [(f.metric, f.answer) for f in found] == [
        ("reliability", "Holm"), ("reliability", "Vessin town"), ("locality", "changed"), ("generality", "Holm"),
    ]  # fmt: skip
    assert found[0].fired == (Firing(3, 0.9),)
    assert found[2].wanted == "b"
    assert len(worst(list(failures("d", "m", items)), 2)) == 2
