"""The parts of ELDER: codes, deferral, routers, wordings, shapes."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.adapters.elder.codes import EditCode, assigned_code, hamming, top_k_code
from memedit.adapters.elder.config import PUBLISHED, ElderConfig
from memedit.adapters.elder.deferral import in_reach
from memedit.adapters.elder.mixture import ElderMixture, initialise
from memedit.errors import InputError
from memedit.models.spec import ModelSpec
from memedit.training.elder.variants import exercises, wordings
from support.elder_bench import BY_EDIT, BY_ROUTER, made_edits
from support.tiny import tiny_model, tiny_tokenizer

BITS = st.lists(st.lists(st.integers(0, 1), min_size=8, max_size=8), min_size=1, max_size=5)


@given(BITS, BITS)
@settings(max_examples=50, deadline=None)
def test_hamming_distances_count_differing_bits(left: list[list[int]], right: list[list[int]]) -> None:
    found = hamming(torch.tensor(left), torch.tensor(right))
    assert found.tolist() == [[sum(a != b for a, b in zip(x, y, strict=True)) for y in right] for x in left]


def test_deferral_is_strictly_below_the_threshold() -> None:
    stored = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    asked = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]])
    assert in_reach(asked, stored, 2).tolist() == [True, False]
    assert in_reach(asked, stored, 3).tolist() == [True, True]
    assert not in_reach(asked, torch.zeros(0, 4), 99).any()


def test_assigned_codes_follow_the_content_and_name_top_k_experts() -> None:
    code = assigned_code("a", BY_ROUTER)
    assert torch.equal(code, assigned_code("a", BY_ROUTER))
    assert code.view(2, 3).sum(1).tolist() == [2, 2]
    assert len({tuple(assigned_code(str(i), PUBLISHED_ON_TINY).tolist()) for i in range(50)}) > 5


PUBLISHED_ON_TINY = ElderConfig(layers=(0, 1, 2), experts=4, rank=2, top_k=2, allocation="router", span="all")


def test_routers_weigh_the_top_experts_by_softmax() -> None:
    mixture = ElderMixture(BY_ROUTER, ModelSpec.of(tiny_model("llama")))
    initialise(mixture, tiny_model("llama"), tiny_tokenizer(), [], seed=0)
    states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    weights, scores = mixture.route(states), mixture.scores(states)
    for layer, mine in enumerate(weights):
        assert mine is not None
        assert (mine > 0).sum(1).tolist() == [BY_ROUTER.top_k * BY_ROUTER.rank] * 5
        best = scores[:, layer].softmax(-1).topk(BY_ROUTER.top_k).values.sum(1)
        torch.testing.assert_close(mine.sum(1), best * BY_ROUTER.rank)
    codes = mixture.codes(states)
    assert torch.equal(codes, top_k_code(scores, BY_ROUTER.top_k))
    own, other = codes, 1 - codes
    assert (mixture.guided_loss(states, own) < mixture.guided_loss(states, other) * 3).all()


def test_a_feature_is_on_wherever_the_model_reads() -> None:
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer()
    mixture = ElderMixture(BY_EDIT, ModelSpec.of(model))
    texts = [f"the lake of {name} is" for name in ("ada", "bo")]
    initialise(mixture, model, tokenizer, texts, seed=0)
    from memedit.models.hooks import capture

    with capture(model, mixture.code_names) as record, torch.no_grad():
        model(input_ids=torch.tensor([tokenizer(texts[0])["input_ids"]]))
    for number, name in enumerate(mixture.code_names):
        read = record.inputs[name][0][0, 1:] @ mixture.feature[number]
        assert 0.5 < float(read.mean()) < 1.5


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None])
def test_a_damaged_code_is_named(damage: bytes | None) -> None:
    code = EditCode(torch.zeros(BY_EDIT.code_bits, dtype=torch.uint8), torch.ones(2, 32))
    blob = code.to_bytes()
    again = EditCode.parse(blob, BY_EDIT, 32, "e1")
    assert torch.equal(again.vectors, code.vectors)
    wrong, width = (damage, 32) if damage is not None else (blob, 31)
    with pytest.raises(InputError, match="edit e1"):
        EditCode.parse(wrong, BY_EDIT, width, "e1")


def test_wordings_are_distinct_and_begin_with_the_prompt() -> None:
    edits = made_edits(5)
    found = wordings(edits[0], edits, count=5, rng=random.Random(0))
    assert found[0] == (edits[0].prompt, False)
    assert len(set(found)) == len(found) == 5
    assert all("ada" in text for text, _ in found)
    alone = exercises(tiny_tokenizer(), edits[:1], (), count=4, limit=200, seed=0)
    assert alone[0].number == 0
    assert all(row.answer == alone[0].answer for row in alone if row.query)
    short = exercises(tiny_tokenizer(), edits[:1], edits, count=4, limit=5, seed=0)
    assert [row.number for row in short] == [0], "the prompt itself is always learned"


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 5}, {"rank": 0}, {"allocation": "x"}, {"span": "x"}, {"layers": (2, 1)},
        {"layers": (1,)}, {"layers": (1,), "code_layers": (1,)},
        {"layers": (1,), "code_layers": (0,), "allocation": "router"},
    ],
)  # fmt: skip
def test_shapes_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="ELDER config"):
        ElderConfig(**wrong)  # type: ignore[arg-type]


def test_layers_are_proposed_and_round_trip() -> None:
    spec = ModelSpec.of(tiny_model("llama"))
    for config in (ElderConfig(), PUBLISHED):
        proposed = config.for_model(spec)
        assert proposed.layers
        assert max(proposed.layers + proposed.code_layers) < spec.n_layers
        assert ElderConfig.parse(proposed.to_json()) == proposed
    with pytest.raises(InputError, match="layers 0 to 2"):
        ElderConfig(layers=(7,), code_layers=(1,)).for_model(spec)
