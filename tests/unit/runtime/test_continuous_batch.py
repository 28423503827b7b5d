"""The running batch: rows come and go, and each is answered as if it were alone."""

from collections import Counter
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.adapters import create_adapter
from memedit.adapters.base import Row
from memedit.errors import InputError, UnsupportedModelError
from memedit.memory import EditMemory
from memedit.models.weights import WeightOverlay
from memedit.runtime import EditableModel
from memedit.runtime.continuous import ContinuousBatch, Job, TextAssembler, TokenChoice, check_model
from memedit.runtime.continuous.sampling import TokenChooser
from memedit.runtime.rows import prompt_row
from support.hashing_encoder import HashingEncoder
from support.tiny import FAMILIES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PAD = 0
TEXTS = ("hello world", "a", "The capital of the long long country is", "x" * 90, "once upon a time")


def job(text: str, limit: int = 12, **options: Any) -> Job:
    ids = tuple(TOKENIZER(text)["input_ids"])
    return Job(text, Row(ids, text), ids, limit=limit, **options)


def alone(model: Any, one: Job) -> list[int]:
    """What the model's own generate says to the same prompt."""
    found = model.generate(
        torch.tensor([one.prompt]), max_new_tokens=one.limit, do_sample=False, eos_token_id=None, pad_token_id=PAD
    )
    return list(found[0, len(one.prompt) :].tolist())


def run_out(batch: ContinuousBatch) -> None:
    while len(batch):
        batch.step()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_join_and_leave_get_their_own_answers(family: str) -> None:
    model = tiny_model(family)
    check_model(model, PAD, len(TOKENIZER))
    jobs = [job(text, limit=6 + 3 * i) for i, text in enumerate(TEXTS)]
    batch = ContinuousBatch(model, PAD, None)
    batch.join([[jobs[0]], [jobs[2]]])
    batch.step()
    batch.join([[jobs[3]]])
    batch.step()
    batch.join([[jobs[1]], [jobs[4]]])
    run_out(batch)
    assert [one.tokens for one in jobs] == [alone(model, one) for one in jobs]


def test_rows_on_several_weights_share_a_batch_and_leave_the_model_as_it_was() -> None:
    model = tiny_model("llama")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    name = "model.layers.1.mlp.down_proj.weight"
    overlays = [None, *(WeightOverlay({name: torch.randn_like(before[name])}) for _ in range(2))]
    jobs = [job(text, limit=6 + 3 * i, weights=overlays[i % 3]) for i, text in enumerate(TEXTS * 2)]
    batch = ContinuousBatch(model, PAD, None, max_rows=8)
    for one in jobs:  # some join while others are under way, on whatever weights
        while not batch.room([[one]]):
            batch.step()
        batch.join([[one]])
        batch.step()
    run_out(batch)
    for overlay in overlays:
        with nullcontext() if overlay is None else overlay.on(model):
            mine = [one for one in jobs if one.weights is overlay]
            assert [one.tokens for one in mine] == [alone(model, one) for one in mine]
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert not any(module._forward_hooks for module in model.modules()), "weights that answer nobody are let go"


def test_weights_are_the_models_own_again_after_an_error() -> None:
    model = tiny_model("llama")
    parameter = model.get_parameter("model.layers.1.mlp.down_proj.weight")
    before, place = parameter.detach().clone(), parameter.data_ptr()
    overlay = WeightOverlay({"model.layers.1.mlp.down_proj.weight": torch.zeros_like(before)})
    with suppress(RuntimeError), overlay.on(model):
        assert not parameter.any()
        raise RuntimeError
    assert torch.equal(parameter, before)
    assert parameter.data_ptr() == place, "put back, not copied back"
    for wrong in ({"model.none": before}, {"model.layers.1.mlp.down_proj.weight": before.T}):
        with pytest.raises(UnsupportedModelError), WeightOverlay(wrong).on(model):
            pass


def test_sliding_windows_are_kept_row_by_row() -> None:
    model = tiny_model("gemma3")
    model.config.sliding_window = 8
    for layer in model.model.layers:
        if getattr(layer.self_attn, "sliding_window", None) is not None:
            layer.self_attn.sliding_window = 8
    jobs = [job("x" * 40), job("ab"), job("the quick brown fox")]
    batch = ContinuousBatch(model, PAD, None)
    batch.join([[jobs[0]]])
    batch.step()
    batch.join([[jobs[1]], [jobs[2]]])
    run_out(batch)
    assert [one.tokens for one in jobs] == [alone(model, one) for one in jobs]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7), st.integers(0, 4)), min_size=1, max_size=8))
def test_any_order_of_coming_and_going_changes_no_answer(shape: list[tuple[int, int, int]]) -> None:
    model = tiny_model("llama")
    batch = ContinuousBatch(model, PAD, None)
    jobs = [job(chr(97 + i) * length, limit=limit) for i, (length, limit, _) in enumerate(shape)]
    for one, (_, _, steps) in zip(jobs, shape, strict=True):
        batch.join([[one]])
        for _ in range(steps):
            batch.step()
    run_out(batch)
    assert [one.tokens for one in jobs] == [alone(model, one) for one in jobs]


def test_a_row_that_is_dropped_leaves_the_others_alone() -> None:
    model = tiny_model("llama")
    jobs = [job(text) for text in TEXTS]
    batch = ContinuousBatch(model, PAD, None)
    batch.join([[one] for one in jobs])
    batch.step()
    batch.leave([jobs[0], jobs[3]])
    assert len(batch) == 3
    run_out(batch)
    kept = [jobs[i] for i in (1, 2, 4)]
    assert [one.tokens for one in kept] == [alone(model, one) for one in kept]


def test_answers_to_one_prompt_read_it_once_and_differ_by_seed() -> None:
    model = tiny_model("llama")
    reads: list[torch.Size] = []
    handle = model.get_input_embeddings().register_forward_hook(lambda _m, args, _o: reads.append(args[0].shape))
    group = [job("hello world", choice=TokenChoice(temperature=1.0, seed=seed)) for seed in (1, 2, 1)]
    batch = ContinuousBatch(model, PAD, None)
    batch.join([group])
    run_out(batch)
    handle.remove()
    assert reads[0] == (1, 11)
    assert group[0].tokens == group[2].tokens != group[1].tokens


def test_a_seed_decides_whatever_the_company() -> None:
    model = tiny_model("llama")

    def sampled(company: int) -> list[int]:
        one = job("hello world", choice=TokenChoice(temperature=1.0, top_p=0.9, seed=5))
        batch = ContinuousBatch(model, PAD, None)
        batch.join([[one], *([job(text)] for text in TEXTS[:company])])
        run_out(batch)
        return one.tokens

    assert sampled(0) == sampled(1) == sampled(4)


QUICK = {"neurons": {"steps": 5, "neurons": 24, "dtype": "model"}, "grace": {"layer": 1, "steps": 20}}


@pytest.fixture(params=["in_context", "neurons", "grace"])
def edited(request: pytest.FixtureRequest) -> Any:
    model = tiny_model("llama")
    adapter = create_adapter(request.param, model, TOKENIZER, **QUICK.get(request.param, {}))
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add("The capital of Freedonia is", "Sylvania City", subject="Freedonia")
        memory.add("The mayor of Gotham is", "Ada Quill", subject="Gotham")
        yield EditableModel.wrap(model, TOKENIZER, memory, scope="subject", adapter=adapter)


def test_rows_with_edits_and_rows_without_share_passes(edited: EditableModel) -> None:
    prompts = ["The capital of Freedonia is", "Water boils at", "The mayor of Gotham is", "Once upon"]
    expected = edited.answer(prompts, max_new_tokens=10, do_sample=False, eos_token_id=-1)
    jobs = []
    for prompt, route in zip(prompts, edited.plan(prompts).routes, strict=True):
        row = prompt_row(TOKENIZER, prompt)
        edits = tuple(hit.edit for hit in route.decision.fired)
        fed = edited.adapter.rewrite(row, edits, {}) if edits else row
        prior = edited.generator.target_prior(row, route.decision.fired) if edits else None
        jobs.append(Job(prompt, fed, row.ids, limit=10, edits=edits, prior=prior))
    assert [bool(one.edits) for one in jobs] == [True, False, True, False]
    batch = ContinuousBatch(edited.base, PAD, edited.adapter)
    batch.join([[one] for one in jobs])
    run_out(batch)
    assert [tuple(one.tokens) for one in jobs] == [answer.token_ids for answer in expected]


def test_there_is_room_until_rows_or_columns_run_out() -> None:
    batch = ContinuousBatch(tiny_model("llama"), PAD, None, max_rows=4, max_tokens=200)
    waiting = [[job("x" * 20, limit=20)] for _ in range(6)]
    assert batch.room(waiting) == 4
    assert batch.room([[job("x" * 90, limit=20)], *waiting]) == 1
    assert batch.room([[job("x" * 900, limit=20)]]) == 1, "one always fits where nothing runs"
    batch.join(waiting[:1])
    assert batch.room([[job("x" * 900, limit=20)]]) == 0
    assert batch.room(waiting[1:]) == 3


def test_space_grows_and_is_given_back() -> None:
    model = tiny_model("llama")
    batch = ContinuousBatch(model, PAD, None)
    jobs = [job("ab", limit=150), job("abc", limit=3)]
    batch.join([[one] for one in jobs])
    run_out(batch)
    assert jobs[0].tokens == alone(model, jobs[0])
    assert batch._base._cache.layers == []


def test_models_that_cannot_be_decoded_so_are_found_out() -> None:
    model = tiny_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedModelError, match="flash_attention_2"):
        check_model(model, PAD, len(TOKENIZER))
    model = tiny_model("llama")
    forward = model.forward
    model.forward = lambda input_ids, attention_mask=None, position_ids=None, past_key_values=None, **rest: forward(
        input_ids,
        past_key_values=past_key_values,
        position_ids=None if position_ids is None else position_ids + 1,
        **rest,
    )
    with pytest.raises(UnsupportedModelError, match="answers otherwise"):
        check_model(model, PAD, len(TOKENIZER))


def test_adapters_that_need_more_than_the_cache_are_refused() -> None:
    class Unready:
        name = "unready"

    with pytest.raises(InputError, match="unready"):
        ContinuousBatch(tiny_model("llama"), PAD, Unready())  # type: ignore[arg-type]
    assert create_adapter("in_context", tiny_model("llama"), TOKENIZER) is not None


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    chooser = TokenChooser(TokenChoice(temperature=0.8, seed=0), ())
    counts = Counter(chooser.choose(logits) for _ in range(4_000))
    expected = (logits / 0.8).softmax(-1)
    for token, share in enumerate(expected.tolist()):
        assert abs(counts[token] / 4_000 - share) < 0.03


@pytest.mark.parametrize(
    ("choice", "possible"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.8}, {0, 1}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
        ({"logit_bias": {3: 100.0}}, {3}),
    ],
)
def test_truncation_leaves_only_the_likeliest(choice: dict[str, Any], possible: set[int]) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, 0.0])  # probabilities .61 .22 .08 .08
    chooser = TokenChooser(TokenChoice(temperature=1.0, seed=0, **choice), ())
    assert {chooser.choose(logits) for _ in range(300)} == possible


def test_penalties_count_what_was_said() -> None:
    logits = torch.tensor([1.0, 0.9, -1.0])
    chooser = TokenChooser(TokenChoice(frequency_penalty=0.3), ())
    said = []
    for _ in range(4):
        said.append(chooser.choose(logits))
        chooser.took(said[-1])
    assert said == [0, 1, 0, 1]
    assert TokenChooser(TokenChoice(repetition_penalty=2.0), (0,)).choose(logits) == 1, "the prompt counts"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_pieces_joined_are_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assembler = TextAssembler(TOKENIZER, stops)
    pieces = []
    for token in ids:
        pieces.append(assembler.add(token))
        if assembler.stopped:
            break
    pieces.append(assembler.end())
    whole = TOKENIZER.decode(ids, skip_special_tokens=True)
    found = [whole.find(stop) for stop in stops if stop in whole]
    assert "".join(pieces) == (whole[: min(found)] if found else whole)
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in whole
