"""Edits that ask by their gradient: rows of keys, a set's normaliser, and the joint solve over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.consolidation import (
    ConsolidationSettings,
    EditArtefact,
    applied,
    artefact_fingerprint,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.consolidation.makers.gradient import asked, gathered, joined
from memedit.consolidation.rows import prompt_ids, target_ids
from memedit.consolidation.sequential import solve_in_turn
from memedit.consolidation.site import EditSite
from memedit.errors import ConfigError, InputError
from memedit.models.running import RunningMoments
from support.consolidation_bench import REQUESTS, SETTINGS, TEXTS, normal, tiny_loaded, weights_of

GRADIENT = replace(
    SETTINGS, maker="gradient", layers=(1, 2), contexts=1, null_space_threshold=1e6, l2=0.1, gradient_rounds=1
)


def test_keys_and_gradients_are_autograds_own_at_every_position_that_predicts_a_target() -> None:
    loaded = tiny_loaded()
    found = compute_artefacts(loaded, REQUESTS, GRADIENT)
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    for request in REQUESTS:
        prompt, _ = prompt_ids(loaded.tokenizer, request, spaced=False)
        target = target_ids(loaded.tokenizer, request)
        artefact = found[request.id]
        assert (artefact.rows, artefact.target, artefact.layers) == (len(target), None, (1, 2))
        logits = loaded.model(input_ids=torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, loaded.model.get_submodule("model.layers.2.mlp.down_proj").weight)
        # behind the last layer nothing mixes positions, so the scored ones are all there is
        np.testing.assert_allclose(artefact.residuals[2].T @ artefact.keys[2], gradient.numpy(), rtol=1e-3, atol=1e-5)
        assert artefact.initial_loss == pytest.approx(float(loss.detach()) / len(target), rel=1e-4)


def test_an_edits_rows_do_not_depend_on_the_others_and_survive_being_stored() -> None:
    loaded = tiny_loaded()
    together = compute_artefacts(loaded, REQUESTS, replace(GRADIENT, contexts=2))
    for request in REQUESTS:
        alone = compute_artefacts(loaded, [request], replace(GRADIENT, contexts=2))[request.id]
        kept = EditArtefact.from_bytes(together[request.id].to_bytes())
        assert kept.target is None
        for layer in (1, 2):
            np.testing.assert_allclose(alone.residuals[layer], kept.residuals[layer], rtol=1e-3, atol=1e-5)
            assert np.array_equal(kept.keys[layer], together[request.id].keys[layer])


def test_a_small_step_lowers_the_loss_and_a_joint_solve_is_a_function_of_the_set(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    before = weights_of(loaded.model)
    small = replace(GRADIENT, gradient_step=0.3)
    statistics = build_statistics(loaded, small, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, small)
    for method in ("ultraedit", "alphaedit", "memit", "rome"):
        delta = solve(loaded, artefacts, statistics, small, method, requests=REQUESTS)
        turned = solve(loaded, dict(reversed(list(artefacts.items()))), statistics, small, method)
        assert all(np.array_equal(delta.terms[n].matrix(), turned.terms[n].matrix()) for n in delta.terms)
        if method != "rome":
            with applied(loaded, delta):
                after = compute_artefacts(loaded, REQUESTS, small)
            losses = [(after[r.id].initial_loss, artefacts[r.id].initial_loss) for r in REQUESTS]
            assert sum(a for a, _ in losses) < sum(b for _, b in losses), method
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), step=st.floats(0.01, 5.0))
def test_what_is_asked_goes_against_the_normalised_gradient(seed: int, step: float) -> None:
    stored = {layer: (normal(6, 5, seed=seed + layer), normal(6, 3, seed=seed + layer + 50)) for layer in (0, 1)}
    weights = {layer: normal(3, 5, seed=seed + layer + 70) for layer in (0, 1)}
    found = asked(stored, weights, step)
    rows = joined(stored)
    z = (rows - rows.mean(0)) / rows.std(0)
    for number, (layer, (keys, _)) in enumerate(stored.items()):
        own = z[6 * number : 6 * number + 6]
        scale = step * (keys @ weights[layer].T).pow(2).mean().sqrt() * own[:, :5].pow(2).sum(1, keepdim=True) / 5
        torch.testing.assert_close(found[layer], -scale * own[:, 5:], rtol=1e-5, atol=1e-5)
    twice = asked(stored, weights, 2 * step)
    torch.testing.assert_close(twice[0], 2 * found[0])


def test_a_row_without_gradient_asks_for_nothing_and_a_given_normaliser_is_used() -> None:
    stored = {0: (normal(4, 5, seed=1), normal(4, 3, seed=2))}
    stored[0][1][2] = 0.0
    weights = {0: normal(3, 5, seed=3)}
    assert not asked(stored, weights, 1.0)[0][2].any()
    other = RunningMoments.of(joined(stored)).with_rows(normal(9, 8, seed=4))
    assert not torch.allclose(asked(stored, weights, 1.0)[0], asked(stored, weights, 1.0, other)[0])


def test_in_turn_the_normaliser_runs_along_so_that_order_matters(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    statistics = build_statistics(loaded, GRADIENT, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, GRADIENT)
    joint = solve(loaded, artefacts, statistics, GRADIENT, "ultraedit")
    (once,) = solve_in_turn(loaded, [REQUESTS], statistics, GRADIENT, "ultraedit")
    *_, forth = solve_in_turn(loaded, [REQUESTS[:2], REQUESTS[2:]], statistics, GRADIENT, "ultraedit")
    *_, back = solve_in_turn(loaded, [REQUESTS[2:], REQUESTS[:2]], statistics, GRADIENT, "ultraedit")
    for name, term in joint.terms.items():
        np.testing.assert_allclose(once.terms[name].matrix(), term.matrix(), rtol=1e-4, atol=1e-6)
        assert not np.allclose(forth.terms[name].matrix(), back.terms[name].matrix(), rtol=1e-2, atol=1e-4)


def test_a_methods_maker_its_layers_and_its_fingerprints() -> None:
    loaded, plain = tiny_loaded(), ConsolidationSettings()
    settings = plain.for_method("ultraedit")
    assert (settings.maker, plain.for_method("alphaedit").maker) == ("gradient", "target")
    assert settings.for_method("memit").maker == "gradient", "what was asked for stays"
    assert EditSite.of(loaded, replace(settings, layers=(2,))).layers == (2,), (
        "the last layer, which no target may have"
    )
    assert EditSite.of(loaded, settings).layers == (0, 1)
    assert plain.fingerprint != settings.fingerprint
    keys = {artefact_fingerprint("base", s) for s in (plain, settings, replace(settings, gradient_step=2.0))}
    assert len(keys) == 2, "how far a gradient asks to go is the solve's affair"
    with pytest.raises(ConfigError, match="maker"):
        ConsolidationSettings(maker="magic")


def test_rounds_are_solves_on_the_weights_so_far_with_one_normaliser(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    twice = replace(GRADIENT, gradient_step=0.2, gradient_rounds=2)
    once = replace(twice, gradient_rounds=1)
    statistics = build_statistics(loaded, twice, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, twice)
    found = solve(loaded, artefacts, statistics, twice, "ultraedit", requests=REQUESTS)
    first = solve(loaded, artefacts, statistics, once, "ultraedit")
    normaliser = RunningMoments.of(gathered(artefacts[edit] for edit in sorted(artefacts)))
    with applied(loaded, first):
        again = compute_artefacts(loaded, REQUESTS, once)
        second = solve(loaded, again, statistics, once, "ultraedit", normaliser=normaliser)
    for name, term in found.terms.items():
        wanted = first.terms[name].matrix() + second.terms[name].matrix()
        np.testing.assert_allclose(term.matrix(), wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="words of every edit"):
        solve(loaded, artefacts, statistics, twice, "ultraedit", requests=REQUESTS[1:])


def test_targets_and_gradients_do_not_mix(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    aimed = replace(GRADIENT, maker="target", layers=(1,))
    statistics = build_statistics(loaded, aimed, TEXTS, store=tmp_path)
    mixed = compute_artefacts(loaded, REQUESTS[:1], aimed)
    mixed |= compute_artefacts(loaded, REQUESTS[1:], replace(GRADIENT, layers=(1,)))
    with pytest.raises(InputError, match="same maker"):
        solve(loaded, mixed, statistics, aimed)
