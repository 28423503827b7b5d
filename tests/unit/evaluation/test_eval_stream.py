"""Only edits in force are asked about, and prompts that other edits touch are set apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.stream import EditedState, StreamOrder, edits_of, sample_queries
from memedit.types import EditDraft
from support.evaluation_cases import written_cases


def everything(cases: list[Case]) -> EditedState:
    return EditedState(tuple(range(len(edits_of(cases)))))


@pytest.mark.parametrize(("text", "sizes"), [("batch", [6]), ("sequential:4", [4, 2]), ("sequential:1", [1] * 6)])
def test_edits_arrive_in_order_in_chunks(cases: list[Case], text: str, sizes: list[int]) -> None:
    order = StreamOrder.parse(text)
    chunks = list(order.chunks(edits_of(cases)))
    assert [len(chunk) for chunk in chunks] == sizes
    assert [edit for chunk in chunks for edit in chunk] == edits_of(cases)
    assert str(order) == text


@pytest.mark.parametrize("text", ["", "sequential", "sequential:0", "sequential:-3", "sequential:x", "Batch"])
def test_an_unknown_stream_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="sequential:SIZE"):
        StreamOrder.parse(text)


def test_superseded_edits_are_counted_and_not_asked_about(cases: list[Case]) -> None:
    state = EditedState((None, 1, 2, 3, None, 5))
    found = sample_queries(cases, state)
    assert state.superseded == 2
    assert found.cases == (1, 2, 3, 5)
    assert found.in_force == 4
    assert {asked.case for asked in found.probes} == {1, 2, 3, 5}


def test_a_case_needs_all_its_edits_in_force() -> None:
    edits = (EditDraft("a is", "b", subject="a"), EditDraft("c is", "d", subject="c"))
    case = Case(1, edits, (Probe(ProbeKind.MULTI_HOP, "a c", ("b",)),))
    with pytest.raises(InputError, match="nothing to ask"):
        sample_queries([case], EditedState((0, None)))
    assert sample_queries([case], EditedState((0, 1))).probes[0].own == {0, 1}


def test_a_repeated_edit_counts_at_its_first_place(cases: list[Case]) -> None:
    twice = [*cases, cases[2]]
    state = EditedState((0, 1, 2, 3, 4, 5, 2))
    last = [asked for asked in sample_queries(twice, state).probes if asked.case == 6]
    assert {place for asked in last for place in asked.own} == {2}
    assert state.superseded == 0


def test_locality_prompts_that_name_an_edited_subject_are_touched(cases: list[Case]) -> None:
    found = sample_queries(cases, everything(cases))
    touched = {asked.probe.prompt for asked in found.probes if asked.probe.kind is ProbeKind.LOCALITY and asked.touched}
    assert touched == {"Orlanda exports"}
    # with both edits of Orlanda gone nothing touches it any more
    rest = sample_queries(cases, EditedState((None, None, 2, 3, 4, 5)))
    assert not any(asked.touched for asked in rest.probes if asked.probe.kind is ProbeKind.LOCALITY)


def test_a_locality_prompt_that_is_an_edits_prompt_is_touched() -> None:
    cases = written_cases()
    extra = Case(
        9,
        (EditDraft("Snow is", "black"),),
        (Probe(ProbeKind.EDIT, "Snow is", ("black",)), Probe(ProbeKind.LOCALITY, "snow is ", ())),
    )
    found = sample_queries([*cases, extra], EditedState(tuple(range(7))))
    assert found.probes[-1].touched


@pytest.mark.parametrize(
    ("prompt", "touched"),
    [
        ("The currency of Orlanda is", True),  # its other edit may bear on it
        ("The capital of Orlanda is", True),  # an edit's own prompt
        ("Mount Kerre is covered by", False),
    ],
)
def test_specificity_prompts_may_name_their_own_subject_only(cases: list[Case], prompt: str, touched: bool) -> None:
    i = 0 if "Orlanda" in prompt else 2
    case = Case(1, cases[i].edits, (Probe(ProbeKind.SPECIFICITY, prompt, ()),))
    stream = [*cases[:i], case, *cases[i + 1 :]]
    asked = next(a for a in sample_queries(stream, everything(stream)).probes if a.probe.kind is ProbeKind.SPECIFICITY)
    assert asked.touched is touched


def test_the_draw_depends_on_the_seed_alone(cases: list[Case]) -> None:
    draws = {seed: sample_queries(cases, everything(cases), count=3, seed=seed).cases for seed in range(20)}
    assert draws[3] == sample_queries(cases, everything(cases), count=3, seed=3).cases
    assert len(set(draws.values())) > 3
    assert all(len(draw) == 3 and list(draw) == sorted(draw) for draw in draws.values())
    assert sample_queries(cases, everything(cases), count=99).cases == tuple(range(6))


def test_probes_of_a_kind_can_be_limited_and_cases_filtered(cases: list[Case]) -> None:
    many = Case(1, cases[0].edits, cases[0].probes * 3)
    assert len(sample_queries([many], EditedState((0,)), probes_per_kind=2).probes) == 6
    held = sample_queries(cases, everything(cases), keep=lambda case: case.line > 4)
    assert held.cases == (4, 5)
    with pytest.raises(InputError, match="nothing to ask"):
        sample_queries(cases, everything(cases), keep=lambda case: False)


@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any))
def test_every_asked_probe_belongs_to_an_edit_in_force(in_force: list[bool]) -> None:
    cases = written_cases()
    found = sample_queries(cases, EditedState(tuple(i if kept else None for i, kept in enumerate(in_force))))
    assert {asked.case for asked in found.probes} == {i for i, kept in enumerate(in_force) if kept}
    assert [asked.index for asked in found.probes] == list(range(len(found.probes)))
    assert all(0 <= asked.position <= 1 for asked in found.probes)
