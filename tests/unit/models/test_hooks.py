"""Hooks change what they say on the rows they say, and are gone afterwards."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.hooks import (
    EmbeddingOverride,
    LowRank,
    LowRankGroup,
    capture,
    contiguous_head,
    low_rank_rows,
    override_embeddings,
    shared_inputs,
    stack_low_rank,
)

VOCAB = 61


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=24,
        n_layer=2,
        n_head=4,
        n_inner=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
        initializer_range=0.3,
    )
    return GPT2LMHeadModel(config).eval()


MODELS = {"llama": llama, "gpt2": gpt2}
TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def setup(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[LowRankGroup, ...], dict[str, LowRank]]:
    model = MODELS[request.param]()
    names = [n for n, _ in model.named_modules() if n.split(".")[-1] in TARGETS[request.param]]
    with capture(model, names) as record, torch.no_grad():
        model(input_ids=torch.ones((1, 2), dtype=torch.long))
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: LowRank(
            down=torch.randn(3, record.inputs[name][0].shape[-1], generator=generator) * 0.3,
            up=torch.randn(record.outputs[name][0].shape[-1], 3, generator=generator) * 0.3,
        )
        for name in names
    }
    return model, stack_low_rank(weights, shared_inputs(model, names)), weights


def prompt_ids(batch: int, length: int = 5) -> Tensor:
    return torch.randint(1, VOCAB, (batch, length), generator=torch.Generator().manual_seed(batch))


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_modules_fed_the_same_tensor_are_grouped() -> None:
    model = llama()
    names = [n for n, _ in model.named_modules() if n.split(".")[-1] in TARGETS["llama"]]
    groups = shared_inputs(model, names)
    assert [tuple(n.split(".")[-1] for n in group) for group in groups] == [
        ("q_proj", "k_proj", "v_proj"),
        ("o_proj",),
        ("gate_proj", "up_proj"),
        ("down_proj",),
    ] * 2


def test_terms_equal_weights_merged_into_the_modules(setup) -> None:
    model, groups, weights = setup
    ids = prompt_ids(3)
    with low_rank_rows(model, groups, rows=range(3), batch=3):
        hooked = logits(model, ids)
    saved = {name: model.get_submodule(name).weight.detach().clone() for name in weights}
    try:
        for name, term in weights.items():
            module = model.get_submodule(name)
            delta = term.up @ term.down
            module.weight.data += delta if isinstance(module, nn.Linear) else delta.T
        merged = logits(model, ids)
    finally:
        for name, weight in saved.items():
            model.get_submodule(name).weight.data.copy_(weight)
    assert not torch.allclose(merged, logits(model, ids), atol=1e-2)
    torch.testing.assert_close(hooked, merged, atol=1e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 4), data=st.data())
def test_other_rows_are_bit_identical_and_chosen_rows_equal_their_own_run(setup, batch: int, data) -> None:
    model, groups, _ = setup
    rows = data.draw(st.sets(st.integers(0, batch - 1)))
    ids = prompt_ids(batch)
    bare = logits(model, ids)
    with low_rank_rows(model, groups, rows=sorted(rows), batch=batch):
        mixed = logits(model, ids)
    for row in range(batch):
        if row not in rows:
            assert torch.equal(mixed[row], bare[row])
            continue
        with low_rank_rows(model, groups, rows=[0], batch=1):
            alone = logits(model, ids[row : row + 1])
        torch.testing.assert_close(mixed[row], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": False},
        {"do_sample": False, "use_cache": False},
    ],
)
def test_generation_with_repeated_rows_equals_each_row_alone(setup, options) -> None:
    model, groups, _ = setup
    ids = prompt_ids(3)
    mask = torch.ones_like(ids)
    repeat = options.get("num_return_sequences", 1)
    with low_rank_rows(model, groups, rows=[1], batch=3):
        mixed = model.generate(ids, attention_mask=mask, max_new_tokens=6, **options)
    with low_rank_rows(model, groups, rows=[0], batch=1):
        alone = model.generate(ids[1:2], attention_mask=mask[1:2], max_new_tokens=6, **options)
    bare = model.generate(ids, attention_mask=mask, max_new_tokens=6, **options)
    assert torch.equal(mixed[repeat : 2 * repeat], alone)
    assert torch.equal(mixed[:repeat], bare[:repeat])
    assert torch.equal(mixed[2 * repeat :], bare[2 * repeat :])
    assert not torch.equal(alone, bare[repeat : 2 * repeat])


def test_gradients_reach_the_terms_and_only_them() -> None:
    model = llama().requires_grad_(False)
    names = [n for n, _ in model.named_modules() if n.split(".")[-1] in TARGETS["llama"]]
    with capture(model, names) as record, torch.no_grad():
        model(input_ids=prompt_ids(1))
    terms = {
        n: LowRank(
            (torch.randn(2, record.inputs[n][0].shape[-1]) * 0.1).requires_grad_(),
            (torch.randn(record.outputs[n][0].shape[-1], 2) * 0.1).requires_grad_(),
        )
        for n in names
    }
    with low_rank_rows(model, stack_low_rank(terms, shared_inputs(model, names)), rows=[0, 1], batch=2):
        model(input_ids=prompt_ids(2)).logits.square().mean().backward()
    assert all(t.down.grad is not None and t.down.grad.abs().sum() > 0 for t in terms.values())
    assert all(t.up.grad is not None and t.up.grad.abs().sum() > 0 for t in terms.values())
    assert all(p.grad is None for p in model.parameters())


def test_hooks_are_gone_after_an_exception(setup) -> None:
    model, groups, weights = setup
    ids = prompt_ids(2)
    bare, before = logits(model, ids), hook_count(model)
    vectors = torch.zeros(1, 24)
    with (
        pytest.raises(RuntimeError, match="stop"),
        low_rank_rows(model, groups, rows=[0], batch=2),
        override_embeddings(model, [EmbeddingOverride(0, 0, vectors)], batch=2, length=5),
        capture(model, list(weights)),
    ):
        raise RuntimeError("stop")
    assert hook_count(model) == before
    assert torch.equal(logits(model, ids), bare)


def test_hooks_are_gone_when_a_later_module_is_missing(setup) -> None:
    model, groups, _ = setup
    before = hook_count(model)
    wrong = LowRankGroup(("nowhere",), groups[0].down, groups[0].up, groups[0].bounds)
    with (
        pytest.raises(UnsupportedModelError, match="nowhere"),
        low_rank_rows(model, [*groups, wrong], rows=[0], batch=1),
    ):
        pass
    assert hook_count(model) == before


def test_rows_outside_the_batch_and_folded_batches_are_refused(setup) -> None:
    model, groups, _ = setup
    with pytest.raises(InputError, match="2"), low_rank_rows(model, groups, rows=[2], batch=2):
        pass
    with pytest.raises(UnsupportedModelError, match="3 rows"), low_rank_rows(model, groups, rows=[0], batch=2):
        logits(model, prompt_ids(3))
    with (
        pytest.raises(InputError, match="outside"),
        override_embeddings(model, [EmbeddingOverride(0, 4, torch.zeros(2, 24))], batch=1, length=5),
    ):
        pass


@pytest.mark.parametrize("use_cache", [True, False])
def test_overridden_embeddings_act_like_the_tokens_they_are_taken_from(setup, use_cache: bool) -> None:
    model = setup[0]
    ids = prompt_ids(2, 6)
    other = ids.clone()
    other[1, 2:4] = torch.tensor([7, 9])
    vectors = model.get_input_embeddings()(torch.tensor([7, 9])).detach()
    kwargs = {"max_new_tokens": 5, "do_sample": False, "use_cache": use_cache}
    wanted = model.generate(other, attention_mask=torch.ones_like(ids), **kwargs)[:, 6:]
    with override_embeddings(model, [EmbeddingOverride(1, 2, vectors)], batch=2, length=6):
        got = model.generate(ids, attention_mask=torch.ones_like(ids), **kwargs)[:, 6:]
        beams = model.generate(ids, attention_mask=torch.ones_like(ids), num_beams=2, **kwargs)[:, 6:]
    assert torch.equal(got, wanted)
    assert torch.equal(beams, model.generate(other, attention_mask=torch.ones_like(ids), num_beams=2, **kwargs)[:, 6:])


def test_a_prompt_fed_in_chunks_is_overridden_where_it_should_be(setup) -> None:
    model = setup[0]
    ids = prompt_ids(1, 6)
    other = ids.clone()
    other[0, 2:4] = torch.tensor([7, 9])
    vectors = model.get_input_embeddings()(torch.tensor([7, 9])).detach()
    with override_embeddings(model, [EmbeddingOverride(0, 2, vectors)], batch=1, length=6), torch.no_grad():
        first = model(input_ids=ids[:, :3], use_cache=True)
        second = model(input_ids=ids[:, 3:], past_key_values=first.past_key_values)
    torch.testing.assert_close(second.logits, logits(model, other)[:, 3:], atol=1e-5, rtol=1e-5)


def test_capture_sees_what_modules_saw(setup) -> None:
    model, _, weights = setup
    name = next(iter(weights))
    with capture(model, [name]) as record:
        logits(model, prompt_ids(2))
    with torch.no_grad():
        again = model.get_submodule(name)(record.inputs[name][0])
    torch.testing.assert_close(again, record.outputs[name][0])


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_head_reads_a_slice_in_one_piece(make: Callable[[], nn.Module]) -> None:
    model, ids = make(), torch.arange(2, 14).reshape(2, 6)
    pieces: list[bool] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _module, args, _output: pieces.append(args[0].is_contiguous()))
    expected = model(ids, logits_to_keep=3).logits
    with contiguous_head(model):
        found = model(ids, logits_to_keep=3).logits
    model(ids, logits_to_keep=3)
    assert pieces == [False, True, False]
    torch.testing.assert_close(found, expected)
