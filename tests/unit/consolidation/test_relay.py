"""Keys measured layer by layer on the weights written so far, against plain forward passes of the edited model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.consolidation import (
    ConsolidationSettings,
    EditRequest,
    Statistics,
    applied,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.consolidation.base import UNCROWDED
from memedit.consolidation.relay import Relay
from memedit.consolidation.rows import subject_end
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.hooks import capture
from memedit.types import WeightTerm
from support.consolidation_bench import REQUESTS, SETTINGS, TEXTS, tiny_loaded, weights_of

CLOSE = replace(SETTINGS, contexts=1, mom2_weight=1e-6)
FAMILIES = ("llama", "gpt2", "gpt_neox")


def _statistics(loaded: LoadedModel, tmp_path: Path) -> Statistics:
    return build_statistics(loaded, SETTINGS, TEXTS, store=tmp_path)


@torch.no_grad()
def _seen_at_subject(loaded: LoadedModel, site: EditSite, request: EditRequest, layer: int) -> tuple[np.ndarray, ...]:
    """Key of a layer and state behind the top edited one, at the subject's last token of the bare prompt."""
    prompt = request.prompt[: subject_end(request.prompt, request.subject)]
    end = len(loaded.tokenizer(prompt)["input_ids"])
    ids = torch.tensor([loaded.tokenizer(request.prompt)["input_ids"]])
    block = f"{site.spec.layers}.{site.layers[-1]}"
    with capture(loaded.model, [site.module_name(layer), block]) as seen:
        loaded.model(input_ids=ids, use_cache=False)
    key = seen.inputs[site.module_name(layer)][0][0, end - 1]
    return key.numpy(), seen.outputs[block][0][0, end - 1].numpy()


@pytest.mark.parametrize("family", [*FAMILIES, "gemma3"])
def test_at_the_lowest_layer_it_measures_what_is_stored(family: str) -> None:
    loaded = tiny_loaded(family)
    artefacts = compute_artefacts(loaded, REQUESTS, SETTINGS)
    relay = Relay(loaded, REQUESTS, artefacts, EditSite.of(loaded, SETTINGS), SETTINGS)
    keys, residuals = relay.at(0)
    relay.close()
    for i, request in enumerate(REQUESTS):
        np.testing.assert_allclose(keys[i], artefacts[request.id].keys[0][0], rtol=1e-4, atol=1e-5)
        found, stored = residuals[i].numpy(), artefacts[request.id].residuals[0][0]
        assert np.linalg.norm(found - stored) <= (0.05 if family == "gemma3" else 1e-4) * np.linalg.norm(stored)


@pytest.mark.parametrize("family", FAMILIES)
def test_above_it_measures_the_edited_model(family: str) -> None:
    loaded = tiny_loaded(family)
    before = weights_of(loaded.model)
    settings, asked = replace(SETTINGS, contexts=1), REQUESTS[2:]
    site = EditSite.of(loaded, settings)
    artefacts = compute_artefacts(loaded, asked, settings)
    relay = Relay(loaded, asked, artefacts, site, settings)
    shape = tuple(site.weight(loaded.model, 0).shape)
    relay.write(0, WeightTerm(dense=0.3 * np.random.default_rng(0).standard_normal(shape)))
    keys, residuals = relay.at(1)
    for i, request in enumerate(asked):
        key, behind = _seen_at_subject(loaded, site, request, 1)
        np.testing.assert_allclose(keys[i], key, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(residuals[i], artefacts[request.id].target - behind, rtol=1e-4, atol=1e-4)
        assert not np.allclose(key, artefacts[request.id].keys[1][0], atol=1e-3)
    relay.close()
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_with_it_the_weights_reach_every_target(family: str, tmp_path: Path) -> None:
    loaded, asked = tiny_loaded(family), REQUESTS[2:]
    site = EditSite.of(loaded, CLOSE)
    artefacts = compute_artefacts(loaded, asked, CLOSE)
    delta = solve(loaded, artefacts, _statistics(loaded, tmp_path), CLOSE, "memit", requests=asked)
    with applied(loaded, delta):
        for request in asked:
            _, behind = _seen_at_subject(loaded, site, request, 1)
            wanted, before = artefacts[request.id].target, artefacts[request.id].hidden
            assert np.linalg.norm(behind - wanted) < 0.02 * np.linalg.norm(wanted - before)


def test_requests_in_any_order_give_the_same_bits_and_leave_the_model_alone(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    before, statistics = weights_of(loaded.model), _statistics(loaded, tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, SETTINGS)
    one = solve(loaded, artefacts, statistics, SETTINGS, requests=REQUESTS)
    other = solve(loaded, dict(reversed(artefacts.items())), statistics, SETTINGS, requests=REQUESTS[::-1])
    assert all(np.array_equal(one.terms[n].matrix(), other.terms[n].matrix()) for n in one.terms)
    fewer = {edit: artefact for edit, artefact in artefacts.items() if edit != "b"}
    withdrawn = solve(loaded, fewer, statistics, SETTINGS, requests=REQUESTS)
    never = solve(loaded, fewer, statistics, SETTINGS, requests=[r for r in REQUESTS if r.id != "b"])
    assert all(np.array_equal(withdrawn.terms[n].matrix(), never.terms[n].matrix()) for n in never.terms)
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def test_without_relay_the_stored_keys_are_taken(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    statistics, stored = _statistics(loaded, tmp_path), replace(SETTINGS, relay=False)
    artefacts = compute_artefacts(loaded, REQUESTS, SETTINGS)
    plain = solve(loaded, artefacts, statistics, stored)
    for settings, requests in ((stored, REQUESTS), (SETTINGS, None)):
        same = solve(loaded, artefacts, statistics, settings, requests=requests)
        assert all(np.array_equal(same.terms[n].matrix(), plain.terms[n].matrix()) for n in plain.terms)
    again = solve(loaded, artefacts, statistics, SETTINGS, requests=REQUESTS)
    top = "model.layers.1.mlp.down_proj"
    assert not np.allclose(again.terms[top].matrix(), plain.terms[top].matrix(), atol=1e-5)


def test_rome_is_solved_for_the_keys_of_the_unedited_model(tmp_path: Path) -> None:
    loaded, asked = tiny_loaded(), REQUESTS[2:3]
    settings = replace(SETTINGS, contexts=1)
    artefacts = compute_artefacts(loaded, asked, settings)
    delta = solve(loaded, artefacts, _statistics(loaded, tmp_path), settings, "rome", requests=asked)
    with applied(loaded, delta):
        _, behind = _seen_at_subject(loaded, EditSite.of(loaded, settings), asked[0], 1)
    np.testing.assert_allclose(behind, artefacts["c"].target, rtol=1e-3, atol=1e-3)


def test_the_model_is_given_back_when_a_solve_fails(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    before, statistics = weights_of(loaded.model), _statistics(loaded, tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, SETTINGS)
    del statistics.layers[1]  # type: ignore[attr-defined]
    with pytest.raises((InputError, KeyError)):
        solve(loaded, artefacts, statistics, SETTINGS, requests=REQUESTS)
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def test_an_edit_without_a_target_is_an_error() -> None:
    loaded = tiny_loaded()
    with pytest.raises(InputError, match="edit a has no target"):
        Relay(loaded, REQUESTS, {}, EditSite.of(loaded, SETTINGS), SETTINGS)


def test_regularisers_grow_with_the_crowd_and_not_below_it() -> None:
    settings = ConsolidationSettings(l2=2.0, mom2_weight=3.0, crowding=1.5)
    assert settings.for_edits(UNCROWDED) == settings.for_edits(1) == settings
    crowd = settings.for_edits(4 * UNCROWDED)
    assert (crowd.l2, crowd.mom2_weight) == (16.0, 24.0)
    assert replace(settings, crowding=0.0).for_edits(10_000).l2 == 2.0
