"""Batch after batch: the first batch is the joint solve; later ones build on edited weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.consolidation import applied, build_statistics, compute_artefacts, solve
from memedit.consolidation.sequential import solve_in_turn
from memedit.consolidation.solvers.restraints import keep_off
from memedit.errors import InputError
from support.consolidation_bench import REQUESTS, SETTINGS, TEXTS, tiny_loaded, weights_of

pytestmark = pytest.mark.slow

DENSE = replace(SETTINGS, null_space_threshold=1.0)


@pytest.mark.parametrize("method", ["alphaedit", "memit", "prune"])
def test_one_batch_is_the_joint_solve_and_more_are_not(method: str, tmp_path: Path) -> None:
    loaded = tiny_loaded()
    before = weights_of(loaded.model)
    statistics = build_statistics(loaded, DENSE, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, DENSE)
    joint = solve(loaded, artefacts, statistics, DENSE, method, requests=REQUESTS)
    (once,) = solve_in_turn(loaded, [REQUESTS], statistics, DENSE, method)
    half, twice = solve_in_turn(loaded, [REQUESTS[:2], REQUESTS[2:]], statistics, DENSE, method)
    for name, term in joint.terms.items():
        np.testing.assert_allclose(once.terms[name].matrix(), term.matrix(), atol=1e-6)
    assert half.edits == tuple(sorted(request.id for request in REQUESTS[:2]))
    assert twice.edits == joint.edits
    assert any(not np.allclose(twice.terms[n].matrix(), t.matrix(), atol=1e-4) for n, t in joint.terms.items())
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def test_alphaedit_keeps_the_keys_of_earlier_batches_still(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    settings = replace(DENSE, layers=(0,), l2=1e-6, null_space_threshold=1e6)
    statistics = build_statistics(loaded, settings, TEXTS, store=tmp_path)
    first = compute_artefacts(loaded, REQUESTS[:1], settings)["a"]
    name = "model.layers.0.mlp.down_proj"
    alone, after = (
        delta.terms[name].matrix() @ first.keys[0][0]
        for delta in solve_in_turn(loaded, [REQUESTS[:1], REQUESTS[1:]], statistics, settings)
    )
    np.testing.assert_allclose(after, alone, rtol=1e-3, atol=1e-3 * float(np.abs(alone).max()))


def test_a_later_batch_comes_to_its_target_on_the_weights_it_found(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    settings = replace(DENSE, layers=(0, 1), l2=1e-6, null_space_threshold=1e6, contexts=1, damping=None)
    statistics = build_statistics(loaded, settings, TEXTS, store=tmp_path)
    once, twice = solve_in_turn(loaded, [REQUESTS[:2], REQUESTS[2:]], statistics, settings)
    with applied(loaded, once):
        wanted = compute_artefacts(loaded, REQUESTS[2:], settings)
    with applied(loaded, twice):
        reached = compute_artefacts(loaded, REQUESTS[2:], settings)
    for edit, artefact in wanted.items():
        assert artefact.target is not None
        np.testing.assert_allclose(reached[edit].hidden, artefact.target, rtol=1e-2, atol=1e-2)


def test_o_edit_leaves_alone_what_earlier_batches_read(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    statistics = build_statistics(loaded, DENSE, TEXTS, store=tmp_path)
    batches = [REQUESTS[:2], REQUESTS[2:]]
    first, both = solve_in_turn(loaded, batches, statistics, DENSE, "o_edit")
    plain_first, plain_both = solve_in_turn(loaded, batches, statistics, DENSE, "memit")
    for name, term in first.terms.items():
        np.testing.assert_array_equal(term.matrix(), plain_first.terms[name].matrix())
        _, _, directions = np.linalg.svd(term.matrix())
        later, plain_later = (delta.terms[name].matrix() - term.matrix() for delta in (both, plain_both))
        assert np.abs(later @ directions[0]).max() < 1e-5 * np.abs(later).max() + 1e-9 < np.abs(later).max()
        assert np.abs(plain_later @ directions[0]).max() > 1e-3 * np.abs(plain_later).max()
    with pytest.raises(InputError, match="batch after batch"):
        solve(loaded, compute_artefacts(loaded, REQUESTS, DENSE), statistics, DENSE, "o_edit")


def test_keeping_off_takes_the_largest_directions_first() -> None:
    earlier = torch.diag(torch.tensor([10.0, 3.0, 0.1])).double()
    update = (torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    left = {share: torch.linalg.multi_dot(keep_off(update, earlier, share)) for share in (0.9, 0.99, 1.0)}
    kept = {share: matrix.diagonal().abs().round().tolist() for share, matrix in left.items()}
    assert kept == {0.9: [0, 1, 1], 0.99: [0, 0, 1], 1.0: [0, 0, 0]}
    with pytest.raises(InputError, match="share"):
        keep_off(update, earlier, 0.0)


def test_no_batches_yield_nothing(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    assert list(solve_in_turn(loaded, [], build_statistics(loaded, DENSE, TEXTS, store=tmp_path), DENSE)) == []
