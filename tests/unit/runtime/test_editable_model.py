"""The promises of the runtime, on tiny random models in float32."""

import copy
import threading
from typing import Any

import pytest
import torch
from transformers import StoppingCriteria, TextStreamer, pipeline

from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.runtime.rows import prompt_row
from support.facts import CAPITAL, MAYOR
from support.hashing_encoder import HashingEncoder
from support.tiny import FAMILIES, tiny_model

PLAIN = ["hello there", "what a lovely long day it was, and then", "one"]
MIXED = [PLAIN[0], CAPITAL, PLAIN[1], f"Tell me. {MAYOR}", PLAIN[2]]
GREEDY: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}


def tensors(tokenizer: Any, prompts: list[str]) -> Any:
    return tokenizer(prompts, return_tensors="pt", padding=True)


@pytest.mark.parametrize(
    "options",
    [
        GREEDY,
        {"max_length": 60, "do_sample": False},
        {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2},
        {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3, "temperature": 0.8},
    ],
)
def test_batch_without_an_edit_is_bit_identical_to_the_bare_model(editable, tokenizer, options):
    batch = tensors(tokenizer, PLAIN)
    detailed = {**batch, **options, "return_dict_in_generate": True, "output_logits": True}
    torch.manual_seed(5)
    bare = editable.base.generate(**detailed)
    torch.manual_seed(5)
    ours = editable.generate(**detailed)
    assert torch.equal(bare.sequences, ours.sequences)
    assert all(torch.equal(a, b) for a, b in zip(bare.logits, ours.logits, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_mixed_batch_equals_itself_alone(family, tokenizer, facts):
    model = tiny_model(family)
    editable = EditableModel.wrap(model, tokenizer, facts, scope="subject", adapter="in_context")
    detail = {**GREEDY, "return_dict_in_generate": True, "output_logits": True}
    batch = tensors(tokenizer, MIXED)
    width = batch["input_ids"].shape[1]
    together = editable.generate(**batch, **detail)
    bare = model.generate(**batch, **detail)
    assert torch.equal(together.sequences[:, :width], batch["input_ids"])
    assert not torch.equal(together.sequences[[1, 3]], bare.sequences[[1, 3]]), "the edits must have an effect"
    for row in (0, 2, 4):  # rows without an edit are the bare model's, bit for bit
        assert torch.equal(together.sequences[row, width:], bare.sequences[row, width:])
        assert torch.equal(together.logits[0][row], bare.logits[0][row])
    for row, prompt in enumerate(MIXED):
        single = tensors(tokenizer, [prompt])
        alone = editable.generate(**single, **detail)
        start = single["input_ids"].shape[1]
        length = alone.sequences.shape[1] - start
        assert torch.equal(alone.sequences[0, start:], together.sequences[row, width : width + length])
        torch.testing.assert_close(alone.logits[0][0], together.logits[0][row], atol=1e-5, rtol=1e-5)


def test_row_order_is_irrelevant(editable):
    forward = [answer.token_ids for answer in editable.answer(MIXED, **GREEDY)]
    backward = [answer.token_ids for answer in editable.answer(MIXED[::-1], **GREEDY)]
    assert forward == backward[::-1]


def test_sampled_rows_without_an_edit_keep_their_samples(editable, tokenizer):
    batch = tensors(tokenizer, MIXED)
    options = {"max_new_tokens": 8, "do_sample": True, "num_return_sequences": 2}
    torch.manual_seed(11)
    bare = editable.base.generate(**batch, **options)
    torch.manual_seed(11)
    first = editable.generate(**batch, **options)
    torch.manual_seed(11)
    second = editable.generate(**batch, **options)
    assert torch.equal(first, second)
    plain = [0, 1, 4, 5, 8, 9]
    assert torch.equal(first[plain, : bare.shape[1]], bare[plain])


def test_beams_and_return_sequences_in_a_mixed_batch(editable):
    options = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2}
    together = editable.answer(MIXED, **options)
    assert len(together) == 10
    for row, prompt in enumerate(MIXED):
        alone = editable.answer(prompt, **options)
        assert [a.token_ids for a in alone] == [a.token_ids for a in together[2 * row : 2 * row + 2]]


def test_answer_carries_provenance(editable):
    plain, edited = editable.answer([PLAIN[0], CAPITAL], **GREEDY)
    assert plain.route.adapter is None
    assert plain.edits == ()
    assert edited.route.adapter == "in_context"
    assert [hit.edit.target for hit in edited.edits] == ["Sylvania City"]
    assert edited.edits[0].score >= edited.route.decision.threshold
    dry = editable.explain(CAPITAL)
    assert [hit.edit.id for hit in dry.decision.fired] == [hit.edit.id for hit in edited.edits]
    assert editable.plan(MIXED).edited_rows == (1, 3)


def test_the_newest_memory_counts_in_the_next_answer(llama, tokenizer):
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        editable = EditableModel.wrap(llama, tokenizer, memory, scope="subject", adapter="in_context")
        before = editable.answer(CAPITAL, **GREEDY)[0]
        edit = memory.add(CAPITAL, "Sylvania City", subject="Freedonia")
        during = editable.answer(CAPITAL, **GREEDY)[0]
        memory.delete(edit.id)
        after = editable.answer(CAPITAL, **GREEDY)[0]
    assert before.edits == after.edits == ()
    assert len(during.edits) == 1
    assert before.token_ids == after.token_ids != during.token_ids


def test_empty_memory_never_touches_the_encoder(llama, tokenizer):
    class Untouchable(HashingEncoder):
        def encode_tokens(self, texts, *, batch_size=64):
            raise AssertionError("encoded a query with nothing stored")

    with EditMemory(encoder=Untouchable()) as memory:
        editable = EditableModel.wrap(llama, tokenizer, memory)
        assert editable.answer(PLAIN, **GREEDY)[0].route.decision.considered == ()


def test_max_length_counts_the_callers_prompt(editable, tokenizer):
    batch = tensors(tokenizer, [CAPITAL])
    width = batch["input_ids"].shape[1]
    out = editable.generate(**batch, max_length=width + 5, min_length=width + 5, do_sample=False)
    assert out.shape == (1, width + 5)
    config = copy.deepcopy(editable.generation_config)
    config.max_length, config.do_sample = width + 3, False
    assert editable.generate(**batch, generation_config=config).shape[1] <= width + 3
    with pytest.raises(InputError, match="leaves no room"):
        editable.generate(**batch, max_length=width)


def test_criteria_processors_and_streamers_see_the_callers_prompt(editable, tokenizer, capsys):
    batch = tensors(tokenizer, [CAPITAL])
    prompt = batch["input_ids"]
    seen: list[torch.Tensor] = []

    class Watch(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            seen.append(input_ids)
            return torch.full((len(input_ids),), input_ids.shape[1] >= prompt.shape[1] + 3)

    streamer = TextStreamer(tokenizer)
    out = editable.generate(**batch, stopping_criteria=[Watch()], streamer=streamer, **GREEDY)
    assert out.shape[1] == prompt.shape[1] + 3
    assert all(torch.equal(ids[:, : prompt.shape[1]], prompt) for ids in seen)
    printed = capsys.readouterr().out
    assert printed.startswith(CAPITAL)
    assert "Sylvania" not in printed.split(CAPITAL)[0]


def test_penalties_do_not_count_the_edits_own_words(editable, tokenizer):
    batch = tensors(tokenizer, [CAPITAL])
    fed: list[dict[str, Any]] = []
    real = editable.base.generate
    editable.base.generate = lambda *args, **kwargs: fed.append(kwargs) or real(*args, **kwargs)
    try:
        editable.generate(**batch, repetition_penalty=1.3, no_repeat_ngram_size=3, **GREEDY)
    finally:
        del editable.base.generate
    assert fed[0]["repetition_penalty"] == 1.0
    assert fed[0]["no_repeat_ngram_size"] == 0
    ids = torch.cat([fed[0]["input_ids"], torch.tensor([[7]])], dim=1)
    scores = torch.ones(1, 259)
    for processor in fed[0]["logits_processor"]:
        scores = processor(ids, scores)
    in_edit_only = tokenizer("Y", add_special_tokens=False)["input_ids"][0]  # of "Sylvania City"? not in the prompt
    spoken = tokenizer("S", add_special_tokens=False)["input_ids"][0]
    assert scores[0, spoken] == scores[0, in_edit_only] == 1.0
    assert scores[0, 7] < 1.0
    assert scores[0, batch["input_ids"][0, 0]] < 1.0


def test_streaming_gives_the_answer_and_its_route(editable):
    stream = editable.stream(CAPITAL, **GREEDY)
    assert "".join(stream) == editable.answer(CAPITAL, **GREEDY)[0].text
    assert stream.route.adapter == "in_context"


def test_streaming_raises_what_generation_raised(editable):
    with pytest.raises(ValueError, match="beam"):
        list(editable.stream(CAPITAL, num_beams=3, max_new_tokens=4))


def test_closing_a_stream_ends_generation(editable):
    steps: list[int] = []

    def count(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        steps.append(ids.shape[1])
        return scores

    with editable.stream(PLAIN[0], max_new_tokens=1500, min_new_tokens=1500, logits_processor=[count]) as stream:
        pass
    assert not stream._thread.is_alive()
    assert len(steps) < 1500


def test_chats_are_looked_up_by_their_last_user_turn(editable, tokenizer):
    chat = [
        {"role": "user", "content": "Good day"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": CAPITAL},
    ]
    answer = editable.chat(chat, **GREEDY)
    assert answer.route.decision.query == CAPITAL
    rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    out = editable.generate(**rendered, **GREEDY)
    new = out[0, rendered["input_ids"].shape[1] :].tolist()
    assert tuple(new[: len(answer.token_ids)]) == answer.token_ids
    moved_on = [*chat, {"role": "assistant", "content": "Sylvania City"}, {"role": "user", "content": "Thank you!"}]
    assert editable.explain(moved_on).adapter is None


def test_pipeline_takes_it_for_the_model(editable, tokenizer, caplog):
    generator = pipeline("text-generation", model=editable, tokenizer=tokenizer)
    assert "not supported" not in caplog.text
    texts = [out[0]["generated_text"] for out in generator(MIXED, batch_size=2, return_full_text=False, **GREEDY)]
    assert texts == [answer.text for answer in editable.answer(MIXED, **GREEDY)]
    assert isinstance(editable, EditableModel)


def test_score_agrees_with_generation(editable):
    for answer, prompt in zip(editable.answer(MIXED, **GREEDY), MIXED, strict=True):
        row, plan = prompt_row(editable.tokenizer, prompt), editable.plan(prompt)
        scores = editable.generator.scores([row], [answer.token_ids], plan)
        assert scores[0].predicted == answer.token_ids
        assert scores[0].accuracy == 1.0
        assert scores[0].total < 0


def test_scores_of_a_mixed_batch_equal_those_alone(editable):
    targets = [" one", " a much longer target", " x", "y", " zz"]
    together = editable.score(MIXED, targets, batch_size=4)
    for prompt, target, score in zip(MIXED, targets, together, strict=True):
        assert score.logprobs == pytest.approx(editable.score(prompt, [target])[0].logprobs, abs=1e-4)
    bare = EditableModel.wrap(editable.base, editable.tokenizer).score(MIXED, targets)
    assert [a.total == pytest.approx(b.total, abs=1e-4) for a, b in zip(together, bare, strict=True)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    with pytest.raises(InputError, match="2 targets"):
        editable.score(MIXED, ["a", "b"])
    with pytest.raises(InputError, match="no token"):
        editable.score("x", [""])


def test_long_prompts_are_looked_up_in_every_part(editable):
    filler = "Nothing of interest was said about the weather in those days. " * 12
    assert editable.explain(f"{filler}{CAPITAL}").adapter == "in_context"
    assert editable.explain(f"{CAPITAL} {filler}").adapter == "in_context"
    assert editable.explain(filler).adapter is None


def test_several_threads_get_their_own_answers(editable):
    expected = {prompt: editable.answer(prompt, **GREEDY)[0].token_ids for prompt in MIXED}
    wrong: list[str] = []

    def ask(prompt: str) -> None:
        for _ in range(3):
            if editable.answer(prompt, **GREEDY)[0].token_ids != expected[prompt]:
                wrong.append(prompt)

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in MIXED]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("prompt", ["", "\ud800 broken", "x" * 100_000, [], 7, [{"role": "user"}]])
def test_unusable_prompts_are_refused_by_name(editable, prompt):
    if prompt == []:
        assert editable.answer(prompt) == []
        return
    with pytest.raises(InputError):
        editable.answer(prompt, **GREEDY)


def test_odd_text_is_answered(editable):
    odd = ["a\0b", "<|im_end|><|im_start|>system", "日本の首都は", "\u202eעברית", " "]
    assert len(editable.answer(odd, **GREEDY)) == len(odd)


def test_tensors_that_do_not_fit_are_refused(editable):
    with pytest.raises(InputError, match="2048"):
        editable.generate(torch.ones((1, 2048), dtype=torch.long), max_new_tokens=1)
    with pytest.raises(InputError, match="at least one"):
        editable.generate(torch.ones((1, 0), dtype=torch.long), max_new_tokens=1)


def test_it_stands_in_for_the_model(editable, tokenizer):
    assert editable.config is editable.base.config
    assert editable.device == editable.base.device
    assert editable.to("cpu") is editable.eval() is editable
    config = copy.deepcopy(editable.generation_config)
    config.max_new_tokens = 3
    before, editable.generation_config = editable.generation_config, config
    try:
        assert editable.base.generation_config is config
        assert len(editable.answer(CAPITAL)[0].token_ids) == 3
    finally:
        editable.generation_config = before
    batch = tensors(tokenizer, MIXED)
    assert torch.equal(editable(**batch).logits, editable.base(**batch).logits)
    assert torch.equal(editable.generate(batch["input_ids"], config), editable.generate(**batch, max_new_tokens=3))
    with pytest.raises(AttributeError):
        _ = editable.no_such_thing
    with pytest.raises(AttributeError):
        editable.memory = None
