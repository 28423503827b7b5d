"""Captured inputs and output gradients are autograd's own weight gradients, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.gradients import CapturedGradients, ScoredRows, capture_gradients
from memedit.models.running import RunningMoments
from memedit.models.segments import Segments
from memedit.models.spec import ModelSpec
from support.tiny import tiny_model

Pairs = list[tuple[list[int], list[int]]]

tokens = st.integers(3, 250)
pairs = st.lists(
    st.tuples(st.lists(tokens, min_size=1, max_size=5), st.lists(tokens, min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)
LLAMA = Segments(tiny_model("llama"))
LLAMA_NAMES = [f"model.layers.{layer}.mlp.{part}_proj" for layer in (1, 2) for part in ("gate", "up", "down")]


def captured(segments: Segments, names: list[str], rows: Pairs, **options: object) -> CapturedGradients:
    batch = ScoredRows.of(rows, torch.device("cpu"))
    return capture_gradients(segments, names, batch, **options)  # type: ignore[arg-type]


def reference(segments: Segments, names: list[str], rows: Pairs, *, mean: bool) -> dict[str, torch.Tensor]:
    """Autograd's gradient of the same loss, one whole pass a row, without padding."""
    model = segments.model
    weights = [model.get_submodule(name).weight for name in names]
    sums = [torch.zeros_like(weight) for weight in weights]
    for prompt, target in rows:
        logits = model(input_ids=torch.tensor([[*prompt, *target]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="mean" if mean else "sum")
        sums = [total + part for total, part in zip(sums, torch.autograd.grad(loss, weights), strict=True)]
    return dict(zip(names, sums, strict=True))


@settings(max_examples=15, deadline=None)
@given(rows=pairs, mean=st.booleans())
def test_the_outer_products_add_up_to_the_weights_gradient(rows: Pairs, mean: bool) -> None:
    found = captured(LLAMA, LLAMA_NAMES, rows, reduction="mean" if mean else "sum", kept="all")
    for name, wanted in reference(LLAMA, LLAMA_NAMES, rows, mean=mean).items():
        torch.testing.assert_close(found.modules[name].weight(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "gpt_neox", "qwen2"])
def test_other_families_too(family: str) -> None:
    segments = Segments(tiny_model(family))
    spec = ModelSpec.of(segments.model)
    assert spec.mlp_down is not None
    names = [f"{spec.layers}.{layer}.{linear.path}" for layer in (0, 2) for linear in (spec.mlp[0], spec.mlp_down)]
    rows: Pairs = [([5, 6, 7], [8, 9]), ([10], [11, 12, 13])]
    found = captured(segments, names, rows, kept="all")
    transposed = spec.mlp_down.transposed
    for name, wanted in reference(segments, names, rows, mean=True).items():
        gradient = found.modules[name].weight()
        torch.testing.assert_close(gradient.T if transposed else gradient, wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(rows=pairs)
def test_a_batch_is_its_rows_one_by_one(rows: Pairs) -> None:
    together = captured(LLAMA, LLAMA_NAMES, rows)
    for number, row in enumerate(rows):
        alone = captured(LLAMA, LLAMA_NAMES, [row])
        torch.testing.assert_close(together.losses[number], alone.losses[0], rtol=1e-5, atol=1e-5)
        for name in LLAMA_NAMES:
            inputs, gradients = together.modules[name].of_row(number)
            assert inputs.shape[0] == len(row[1])
            torch.testing.assert_close(inputs, alone.modules[name].inputs, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(gradients, alone.modules[name].gradients, rtol=1e-4, atol=1e-6)


def test_scored_positions_are_those_of_all_that_predict_a_target() -> None:
    rows: Pairs = [([5, 6, 7], [8, 9]), ([10], [11])]
    scored = captured(LLAMA, LLAMA_NAMES, rows).modules[LLAMA_NAMES[0]]
    whole = captured(LLAMA, LLAMA_NAMES, rows, kept="all").modules[LLAMA_NAMES[0]]
    assert [(int(r), int(p)) for r, p in zip(scored.rows, scored.positions, strict=True)] == [(0, 2), (0, 3), (1, 0)]
    assert len(whole.rows) == 5, "padding contributes nothing"
    where = [2, 3, 4]
    assert torch.equal(scored.gradients, whole.gradients[where])
    assert torch.equal(scored.inputs, whole.inputs[where])


def test_a_start_behind_lower_layers_changes_nothing_and_nothing_is_left_behind() -> None:
    batch = ScoredRows.of([([5, 6, 7], [8, 9])], torch.device("cpu"))
    with torch.no_grad():
        start, _ = LLAMA.hidden(batch.inputs, last=1)
    names = LLAMA_NAMES[3:]
    ours = capture_gradients(LLAMA, names, batch, start=start).modules[names[2]]
    assert torch.equal(ours.gradients, capture_gradients(LLAMA, names, batch).modules[names[2]].gradients)
    assert all(parameter.requires_grad for parameter in LLAMA.model.parameters())
    assert not any(module._forward_hooks for module in LLAMA.model.modules())


def test_what_cannot_be_captured_is_said() -> None:
    with pytest.raises(InputError, match="at least one token"):
        ScoredRows.of([([], [1])], torch.device("cpu"))
    for name, said in (("lm_head", "none of the model's layers"), ("model.layers.1.mlp.side", "no module")):
        with pytest.raises(UnsupportedModelError, match=said):
            captured(LLAMA, [name], [([5], [6])])
    with pytest.raises(InputError, match="name at least one"):
        captured(LLAMA, [], [([5], [6])])


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_moments_in_parts_are_those_of_the_whole(sizes: list[int], seed: int) -> None:
    rows = 100 + 3 * torch.randn(sum(sizes), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    running = RunningMoments.empty(4)
    for part in rows.split(sizes):
        running = running.with_rows(part)
    assert running.count == len(rows)
    if len(rows) > 1:
        torch.testing.assert_close(running.mean, rows.mean(0))
        torch.testing.assert_close(running.deviation, rows.std(0))
        ones = torch.ones(4, dtype=torch.float64)
        torch.testing.assert_close(running.normalised(rows).std(0), ones, rtol=0, atol=1e-4)
    else:
        assert float(running.deviation.abs().max()) == 0.0
