"""Solving in the coordinates of few neurons (after NSE)."""

import pytest
import torch

from memedit.consolidation import ConsolidationSettings
from memedit.consolidation.solvers.memit import memit
from memedit.consolidation.solvers.neurons import chosen_neurons, on_neurons
from memedit.errors import ConfigError
from support.consolidation_bench import normal, random_moments

KEYS, REST = normal(24, 7, seed=1), normal(10, 7, seed=2)


def test_a_share_of_one_is_the_solver_itself_bit_for_bit() -> None:
    settings = ConsolidationSettings()
    found = on_neurons(memit, random_moments(24, 0), KEYS, REST, settings)
    for mine, plain in zip(found, memit(random_moments(24, 0), KEYS, REST, settings), strict=True):
        assert torch.equal(mine, plain)


def test_columns_outside_are_exactly_zero_and_the_rest_is_the_closed_form() -> None:
    settings, moments = ConsolidationSettings(neuron_share=0.5), random_moments(24, 0)
    up, down = on_neurons(memit, moments, KEYS, REST, settings)
    inside = chosen_neurons(KEYS, 0.5)
    outside = [i for i in range(24) if i not in inside.tolist()]
    assert 0 < len(inside) < 24
    assert torch.equal(down[:, outside], torch.zeros(len(down), len(outside), dtype=down.dtype))
    own, covariance = KEYS[inside], moments.matrix()[inside][:, inside]
    expected = REST @ own.T @ torch.linalg.inv(settings.mom2_weight * covariance + own @ own.T)
    torch.testing.assert_close((up @ down)[:, inside], expected, rtol=1e-6, atol=1e-8)


def test_the_set_grows_with_the_share_and_holds_the_largest() -> None:
    sizes = KEYS.abs().sum(1)
    before: set[int] = set()
    for share in (0.1, 0.4, 0.7, 1.0):
        chosen = set(chosen_neurons(KEYS, share).tolist())
        assert before <= chosen
        assert float(sizes[list(chosen)].sum()) >= share * float(sizes.sum()) - 1e-9
        before = chosen
    assert len(before) == 24
    with pytest.raises(ConfigError, match="neuron_share"):
        ConsolidationSettings(neuron_share=0.0)
