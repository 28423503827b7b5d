"""Keys and targets: what is cached, batched and skipped must not change what comes out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memedit.consolidation import EditArtefact, EditRequest, artefact_fingerprint, compute_artefacts
from memedit.consolidation.batch import cache_contexts, prepare_batch
from memedit.consolidation.contexts import Context, build_contexts
from memedit.consolidation.rows import edit_rows, subject_end
from memedit.consolidation.site import EditSite
from memedit.errors import ConfigError, InputError, UnsupportedModelError
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments, output_raised
from support.consolidation_bench import REQUESTS, SETTINGS, tiny_loaded, weights_of
from support.tiny import FAMILIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_prefixes_and_partial_layers_equal_a_full_forward(family: str) -> None:
    loaded = tiny_loaded(family)
    site, segments = EditSite.of(loaded, SETTINGS), Segments(loaded.model)
    contexts = build_contexts(loaded, SETTINGS)
    # padding between context and prompt counts in a sliding window; with 64 bytes only short prompts stay inside it
    requests = REQUESTS[:3] if family == "gemma3" else REQUESTS
    rows = [edit_rows(loaded.tokenizer, request, contexts) for request in requests]
    batch = prepare_batch(segments, site, cache_contexts(segments, contexts, 0), rows)
    logits = segments.logits(batch.tail, batch.places, first=site.layers[-1] + 1, start=batch.top)
    at = 0
    block = f"{site.spec.layers}.{site.layers[-1]}"
    for number, row in enumerate(row for own in rows for row in own):
        ids = torch.tensor([[*contexts[row.context].ids, *row.prefix, *row.tail]])
        with capture(loaded.model, [block]) as seen, torch.no_grad():
            whole = loaded.model(input_ids=ids, use_cache=False).logits[0]
        place = ids.shape[1] - len(row.tail)
        torch.testing.assert_close(batch.top[number, 0], seen.outputs[block][0][0, place], rtol=2e-4, atol=2e-4)
        for j in range(len(row.targets)):
            torch.testing.assert_close(logits[at], whole[place + row.scored + j], rtol=2e-4, atol=2e-3)
            at += 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_edits_together_equal_edits_alone(family: str) -> None:
    loaded = tiny_loaded(family)
    together = compute_artefacts(loaded, REQUESTS, SETTINGS)
    for request in REQUESTS:
        alone = compute_artefacts(loaded, [request], SETTINGS)[request.id]
        found = together[request.id]
        assert found.steps == alone.steps
        assert found.final_loss == pytest.approx(alone.final_loss, abs=2e-3)
        assert float(np.abs(found.target - alone.target).max()) < 5e-3 * float(np.abs(alone.target).max())
        for layer in SETTINGS.layers or ():
            np.testing.assert_allclose(found.keys[layer], alone.keys[layer], atol=5e-3)


def test_small_batches_equal_large_ones() -> None:
    loaded = tiny_loaded()
    large = compute_artefacts(loaded, REQUESTS, SETTINGS)
    small = compute_artefacts(loaded, REQUESTS, replace(SETTINGS, batch_tokens=16))
    for edit, found in large.items():
        assert float(np.abs(found.target - small[edit].target).max()) < 5e-3 * float(np.abs(found.target).max())
    assert replace(SETTINGS, batch_tokens=16).fingerprint == SETTINGS.fingerprint


def test_optimising_lowers_the_loss_and_moves_no_weight() -> None:
    loaded = tiny_loaded()
    before = weights_of(loaded.model)
    found = compute_artefacts(loaded, REQUESTS, replace(SETTINGS, steps=25, clamp=20.0))
    assert all(a.final_loss < a.initial_loss for a in found.values())
    after = loaded.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all("forward" not in module.__dict__ for module in loaded.model.modules())
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_finished_edits_stop_early() -> None:
    found = compute_artefacts(tiny_loaded(), REQUESTS, replace(SETTINGS, stop_loss=1e6))
    assert all(a.steps == 0 and np.array_equal(a.hidden, a.target) for a in found.values())
    mixed = compute_artefacts(tiny_loaded(), REQUESTS, replace(SETTINGS, stop_loss=6.0, steps=8, clamp=20.0))
    assert len({a.steps for a in mixed.values()}) > 1


def test_a_warm_start_is_one_longer_first_step() -> None:
    loaded = tiny_loaded()
    one = compute_artefacts(loaded, REQUESTS, replace(SETTINGS, steps=2, contexts=1, warm_start=0.9))
    plain = compute_artefacts(loaded, REQUESTS, replace(SETTINGS, steps=2, contexts=1))
    for request in REQUESTS:
        long, short = (found[request.id].target - found[request.id].hidden for found in (one, plain))
        np.testing.assert_allclose(long, short * (0.9 / SETTINGS.learning_rate), rtol=1e-3, atol=1e-4)
    assert artefact_fingerprint("base", SETTINGS) != artefact_fingerprint("base", replace(SETTINGS, warm_start=0.9))


def test_delta_stays_within_its_clamp() -> None:
    found = compute_artefacts(tiny_loaded(), REQUESTS, replace(SETTINGS, clamp=0.2, contexts=1))
    for artefact in found.values():
        moved = np.linalg.norm(artefact.target - artefact.hidden)
        assert 0 < moved <= 0.2 * np.linalg.norm(artefact.hidden) * 1.001


def test_residuals_lead_to_the_target() -> None:
    """The layers' parts put into the hidden state one after the other end at the target."""
    loaded = tiny_loaded()
    settings = replace(SETTINGS, contexts=1)
    request = REQUESTS[0]
    artefact = compute_artefacts(loaded, [request], settings)[request.id]
    site, segments = EditSite.of(loaded, settings), Segments(loaded.model)
    row = edit_rows(loaded.tokenizer, request, build_contexts(loaded, settings))[0]
    ids = torch.tensor([[*row.prefix, row.tail[0]]])
    inputs = Inputs(ids, torch.arange(ids.shape[1])[None], torch.ones_like(ids))
    with torch.no_grad():
        state, _ = segments.hidden(inputs, last=0)
        state[0, -1] += torch.from_numpy(artefact.residuals[0][0])
        with capture(loaded.model, [site.module_name(1)]) as seen:
            state, _ = segments.hidden(inputs, first=1, last=1, start=state)
    np.testing.assert_allclose(seen.inputs[site.module_name(1)][0][0, -1].numpy(), artefact.keys[1][0], atol=1e-4)
    np.testing.assert_allclose(state[0, -1].numpy() + artefact.residuals[1][0], artefact.target, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3"])
def test_residuals_are_what_the_map_has_to_put_out(family: str) -> None:
    """Raising the map's output by the residual leads to the target, or nearer to it where a norm is in the way."""
    loaded = tiny_loaded(family)
    settings = replace(SETTINGS, layers=(1,), contexts=1)
    site, segments = EditSite.of(loaded, settings), Segments(loaded.model)
    request = REQUESTS[0]
    artefact = compute_artefacts(loaded, [request], settings)[request.id]
    row = edit_rows(loaded.tokenizer, request, build_contexts(loaded, settings))[0]
    ids = torch.tensor([[*row.prefix, row.tail[0]]])
    change = torch.zeros(1, ids.shape[1], 32)
    change[0, -1] = torch.from_numpy(artefact.residuals[1][0])
    inputs = Inputs(ids, torch.arange(ids.shape[1])[None], torch.ones_like(ids))
    module = loaded.model.get_submodule(site.module_name(1))
    with torch.no_grad(), output_raised(module, change):
        behind, _ = segments.hidden(inputs, last=1)
    missed = np.linalg.norm(behind[0, -1].numpy() - artefact.target)
    wanted = np.linalg.norm(artefact.target - artefact.hidden)
    assert missed < (0.9 if family == "gemma3" else 1e-3) * wanted


def test_what_is_known_is_not_computed_again_and_what_is_computed_is_offered() -> None:
    loaded = tiny_loaded()
    kept: dict[str, bytes] = {}
    seen: list[tuple[int, int]] = []
    small = replace(SETTINGS, batch_tokens=16)

    def save(batch: "dict[str, EditArtefact]") -> None:
        kept.update({edit: artefact.to_bytes() for edit, artefact in batch.items()})

    first = compute_artefacts(loaded, REQUESTS[:2], small, save=save, progress=lambda *at: seen.append(at))  # type: ignore[arg-type]
    assert set(kept) == {"a", "b"}
    assert seen[-1] == (2, 2)
    forged = {**kept, "a": kept["b"]}  # what is known is taken as it is
    again = compute_artefacts(loaded, REQUESTS[:3], small, known=forged)
    assert np.array_equal(again["a"].target, first["b"].target)
    assert list(again) == ["a", "b", "c"]


def test_the_key_of_artefacts_holds_what_they_depend_on() -> None:
    key = artefact_fingerprint("base", SETTINGS)
    assert artefact_fingerprint("other", SETTINGS) != key
    assert artefact_fingerprint("base", replace(SETTINGS, steps=7)) != key
    assert artefact_fingerprint("base", replace(SETTINGS, l2=3.0)) == key  # the solve's setting, not the targets'
    assert replace(SETTINGS, l2=3.0).fingerprint != SETTINGS.fingerprint


@pytest.mark.parametrize(
    ("prompt", "subject", "end"),
    [
        ("Rome is in", "Rome", 4),
        ("In Rome, old Rome is", "Rome", 17),
        ("who is ann bee?", "Ann Bee", 14),
        ("nothing here", "Rome", None),
        ("nothing here", None, None),
        ("nothing here", " ", None),
    ],
)
def test_subjects_are_found_at_their_last_place(prompt: str, subject: str | None, end: int | None) -> None:
    assert subject_end(prompt, subject) == end


def test_rows_begin_at_the_subjects_last_token() -> None:
    tokenizer = tiny_loaded().tokenizer
    bare, behind = edit_rows(
        tokenizer, EditRequest("x", "The Foo is", "Bar", "Foo"), [Context("", (), False), Context("A.", (5, 6), True)]
    )
    assert tokenizer.decode(list(bare.prefix)) == "The Fo"
    assert tokenizer.decode(list(bare.tail)) == "o is Ba"
    assert tokenizer.decode(list(bare.targets)) == " Bar"
    assert bare.scored == 3
    assert tokenizer.decode(list(behind.prefix)) == " The Fo"


def test_a_first_token_is_not_edited_where_a_context_can_stand_in_front() -> None:
    tokenizer = tiny_loaded().tokenizer
    request = EditRequest("x", "F is", "B", "F")
    contexts = [Context("", (), False), Context("A.", (5, 6), True)]
    assert [row.context for row in edit_rows(tokenizer, request, contexts)] == [1]
    assert [row.context for row in edit_rows(tokenizer, request, contexts[:1])] == [0]


def test_bad_requests_and_settings_are_refused() -> None:
    loaded = tiny_loaded()
    with pytest.raises(InputError, match="empty target"):
        EditRequest("a", "p", "  ")
    with pytest.raises(InputError, match="twice"):
        compute_artefacts(loaded, [REQUESTS[0], REQUESTS[0]], SETTINGS)
    with pytest.raises(ConfigError, match=r"learning_rate.*\n.*clamp"):
        replace(SETTINGS, learning_rate=0.0, clamp=-1.0)
    with pytest.raises(InputError, match="last"):
        compute_artefacts(loaded, REQUESTS, replace(SETTINGS, layers=(1, 2)))
    with pytest.raises(InputError, match="does not exist"):
        compute_artefacts(loaded, REQUESTS, replace(SETTINGS, layers=(1, 9)))


def test_quantised_weights_are_refused_with_the_way_out() -> None:
    loaded = tiny_loaded()
    linear = loaded.model.model.layers[1].mlp.down_proj
    linear.weight = torch.nn.Parameter(linear.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedModelError, match=r"quantised.*unquantised checkpoint"):
        compute_artefacts(loaded, REQUESTS, SETTINGS)
