"""Solvers against float64 closed forms written the papers' way, and the properties that make undo exact."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.consolidation import SOLVERS, ConsolidationSettings, EditArtefact, Statistics, solve
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.alphaedit import alphaedit
from memedit.consolidation.solvers.memit import memit
from memedit.consolidation.solvers.restraints import PRUNE_BASE, prune, rect
from memedit.consolidation.solvers.rome import rome
from memedit.errors import FingerprintMismatchError, InputError, UnknownNameError
from support.consolidation_bench import normal, random_moments, tiny_loaded

pytestmark = pytest.mark.slow

D_IN, D_OUT = 24, 10
DEFAULT = ConsolidationSettings(null_space_threshold=0.3, l2=0.5, mom2_weight=20.0)
sizes = st.integers(min_value=1, max_value=40)  # fewer and more edits than dimensions
seeds = st.integers(min_value=0, max_value=10_000)


def _problem(n: int, seed: int) -> tuple[LayerMoments, torch.Tensor, torch.Tensor]:
    return random_moments(D_IN, seed), normal(D_IN, n, seed=seed + 1), normal(D_OUT, n, seed=seed + 2)


def _product(factors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return factors[0] @ factors[1]


@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_alphaedit_is_the_papers_closed_form(n: int, seed: int) -> None:
    moments, keys, rest = _problem(n, seed)
    space = moments.null_space(DEFAULT.null_space_threshold)
    projection = space @ space.T
    penalty = DEFAULT.l2 * moments.scale * torch.eye(D_IN, dtype=torch.float64)
    expected = rest @ keys.T @ projection @ torch.linalg.inv(keys @ keys.T @ projection + penalty)
    torch.testing.assert_close(_product(alphaedit(moments, keys, rest, DEFAULT)), expected, rtol=1e-8, atol=1e-9)


@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_memit_is_the_papers_closed_form(n: int, seed: int) -> None:
    moments, keys, rest = _problem(n, seed)
    expected = rest @ keys.T @ torch.linalg.inv(DEFAULT.mom2_weight * moments.matrix() + keys @ keys.T)
    torch.testing.assert_close(_product(memit(moments, keys, rest, DEFAULT)), expected, rtol=1e-6, atol=1e-8)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_rome_on_one_edit_is_the_rank_one_update(seed: int) -> None:
    moments, keys, rest = _problem(1, seed)
    direction = torch.linalg.solve(moments.matrix(), keys)
    expected = rest @ direction.T / (keys.T @ direction)
    torch.testing.assert_close(_product(rome(moments, keys, rest, DEFAULT)), expected, rtol=1e-6, atol=1e-8)


@given(st.integers(min_value=1, max_value=D_IN - 4), seeds)
@settings(max_examples=25, deadline=None)
def test_rome_on_many_edits_meets_every_target(n: int, seed: int) -> None:
    moments, keys, rest = _problem(n, seed)
    torch.testing.assert_close(_product(rome(moments, keys, rest, DEFAULT)) @ keys, rest, rtol=1e-5, atol=1e-6)


@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_a_null_space_update_leaves_preserved_keys_unmoved(n: int, seed: int) -> None:
    moments, keys, rest = _problem(n, seed)
    preserved = moments.vectors[:, moments.values >= DEFAULT.null_space_threshold * moments.scale]
    update = _product(alphaedit(moments, keys, rest, DEFAULT))
    assert float((update @ preserved).abs().max()) < 1e-10 * float(1 + update.abs().max())
    unprotected = _product(memit(moments, keys, rest, DEFAULT))
    assert float((unprotected @ preserved).abs().max()) > 1e-6  # the property is not trivial


@given(sizes, seeds, st.sampled_from([alphaedit, memit, rome]))
@settings(max_examples=25, deadline=None)
def test_rank_is_at_most_the_number_of_edits(n: int, seed: int, solver: object) -> None:
    moments, keys, rest = _problem(n, seed)
    up, down = solver(moments, keys, rest, DEFAULT)  # type: ignore[operator]
    assert up.shape[1] == down.shape[0] <= n
    assert torch.linalg.matrix_rank(up @ down) <= min(n, D_OUT)


@given(st.integers(min_value=2, max_value=30), seeds)
@settings(max_examples=25, deadline=None)
def test_memit_minimises_its_objective(n: int, seed: int) -> None:
    moments, keys, rest = _problem(n, seed)
    best = _product(memit(moments, keys, rest, DEFAULT))

    def objective(update: torch.Tensor) -> float:
        preserved = torch.trace(update @ moments.matrix() @ update.T)
        return float(((update @ keys - rest) ** 2).sum() + DEFAULT.mom2_weight * preserved)

    for other in range(5):
        assert objective(best) <= objective(best + 0.01 * normal(D_OUT, D_IN, seed=seed + 10 + other)) + 1e-9


def test_a_stronger_penalty_gives_a_smaller_update() -> None:
    moments, keys, rest = _problem(12, 0)
    norms = [
        float(_product(alphaedit(moments, keys, rest, ConsolidationSettings(null_space_threshold=0.3, l2=l2))).norm())
        for l2 in (0.1, 1.0, 10.0)
    ]
    assert norms[0] > norms[1] > norms[2] > 0


def test_alphaedit_without_a_null_space_says_so() -> None:
    moments, keys, rest = _problem(3, 0)
    with pytest.raises(InputError, match="null-space threshold"):
        alphaedit(moments, keys, rest, ConsolidationSettings(null_space_threshold=1e-9))


def test_rect_keeps_the_largest_relative_changes() -> None:
    update, weight = normal(6, 8, seed=1), normal(6, 8, seed=2)
    kept = rect(update, weight, 0.25)
    relative = (update / weight).abs()
    chosen = kept != 0
    assert int(chosen.sum()) == 12
    assert float(relative[chosen].min()) >= float(relative[~chosen].max())
    assert torch.equal(kept[chosen], update[chosen])
    with pytest.raises(InputError, match="share"):
        rect(update, weight, 0.0)


def test_prune_restrains_large_singular_values_only() -> None:
    weight = normal(10, 24, seed=3)
    largest = float(torch.linalg.svdvals(weight)[0])
    left, _ = torch.linalg.qr(normal(10, 2, seed=4))
    right, _ = torch.linalg.qr(normal(24, 2, seed=5))
    values = torch.tensor([largest * 50, largest / 2], dtype=torch.float64)
    up, down = prune((left * values, right.T), weight)
    found = torch.linalg.svdvals(up @ down)[:2]
    assert float(found[0]) == pytest.approx(np.log(50) / np.log(PRUNE_BASE) + largest)
    assert float(found[1]) == pytest.approx(largest / 2)


def _artefact(seed: int, layers: tuple[int, ...] = (0, 1), ridges: Mapping[int, float] | None = None) -> EditArtefact:
    def draw(width: int, offset: int) -> np.ndarray:
        return normal(width, seed=seed * 10 + offset).float().numpy()

    return EditArtefact(
        {layer: draw(48, layer)[None] for layer in layers}, {layer: draw(32, 3 + layer)[None] for layer in layers},
        draw(32, 6), draw(32, 7), 3.0, 0.01, 5, ridges,
    )  # fmt: skip


def _statistics(base: str) -> Statistics:
    return Statistics(base, "key", "texts", {layer: random_moments(48, layer) for layer in (0, 1)})


SETTINGS = ConsolidationSettings(layers=(0, 1), null_space_threshold=0.3, l2=0.5, mom2_weight=20.0)


@pytest.mark.parametrize("method", sorted(set(SOLVERS) - {"o_edit"}))  # it exists batch after batch only
def test_order_is_irrelevant_and_withdrawing_is_never_having_had(method: str) -> None:
    loaded = tiny_loaded()
    statistics = _statistics(loaded.fingerprint)
    ridges = (
        {0: 0.5, 1: 0.7} if method in ("malmen", "rledit") else None
    )  # a network's edits say with which it was trained
    all_edits = {f"edit-{i}": _artefact(i, ridges=ridges) for i in range(6)}
    backwards = dict(reversed(list(all_edits.items())))
    one = solve(loaded, all_edits, statistics, SETTINGS, method)
    other = solve(loaded, backwards, statistics, SETTINGS, method)
    assert one.edits == other.edits == tuple(sorted(all_edits))
    assert all(np.array_equal(one.terms[n].matrix(), other.terms[n].matrix()) for n in one.terms)
    fewer = {name: a for name, a in all_edits.items() if name != "edit-3"}
    withdrawn = solve(loaded, fewer, statistics, SETTINGS, method)
    never = solve(loaded, {f"edit-{i}": all_edits[f"edit-{i}"] for i in (5, 4, 2, 1, 0)}, statistics, SETTINGS, method)
    assert all(np.array_equal(withdrawn.terms[n].matrix(), never.terms[n].matrix()) for n in never.terms)
    assert not np.allclose(withdrawn.terms[next(iter(never.terms))].matrix(), next(iter(one.terms.values())).matrix())


def test_many_edits_are_stored_dense_and_few_as_factors() -> None:
    loaded = tiny_loaded()
    statistics = _statistics(loaded.fingerprint)
    few = solve(loaded, {f"{i}": _artefact(i) for i in range(4)}, statistics, SETTINGS)
    many = solve(loaded, {f"{i:02}": _artefact(i) for i in range(40)}, statistics, SETTINGS, "memit")
    assert all(term.dense is None and term.factors[0].shape == (32, 4) for term in few.terms.values())
    assert all(term.dense is not None and term.shape == (32, 48) for term in many.terms.values())


def test_solve_refuses_what_does_not_fit() -> None:
    loaded = tiny_loaded()
    statistics = _statistics(loaded.fingerprint)
    with pytest.raises(InputError, match="no edits"):
        solve(loaded, {}, statistics, SETTINGS)
    with pytest.raises(UnknownNameError, match="alphaedit"):
        solve(loaded, {"a": _artefact(1)}, statistics, SETTINGS, "alphaedti")
    with pytest.raises(FingerprintMismatchError, match="statistics"):
        solve(loaded, {"a": _artefact(1)}, _statistics("other"), SETTINGS)
    with pytest.raises(InputError, match="other settings"):
        solve(loaded, {"a": _artefact(1, layers=(0,))}, statistics, SETTINGS)


def test_an_artefact_survives_being_stored() -> None:
    artefact = _artefact(1)
    again = EditArtefact.from_bytes(artefact.to_bytes())
    assert again.layers == artefact.layers
    assert (again.initial_loss, again.final_loss, again.steps) == (3.0, 0.01, 5)
    for layer in artefact.layers:
        assert np.array_equal(again.keys[layer], artefact.keys[layer])
        assert np.array_equal(again.residuals[layer], artefact.residuals[layer])
    assert np.array_equal(again.target, artefact.target)
    for damaged in (b"", artefact.to_bytes()[:-10], b"\0" * 100):
        with pytest.raises(InputError, match="compute them anew"):
            EditArtefact.from_bytes(damaged)
