"""RECIPE's losses mean what they say, and prompts stand where they stand at inference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.models.token_rows import IGNORE, TokenRow, answer_row, pad_rows, query_ids, scored_logits
from memedit.training.recipe.objective import (
    answer_loss,
    locality_loss,
    neighbour_contrastive,
    out_of_scope_contrastive,
    sentinel_contrastive,
)
from memedit.training.sampling import EditExample, Sampler
from support.tiny import tiny_model, tiny_tokenizer


def test_the_contrastive_terms_want_own_knowledge_then_sentinel_then_the_rest() -> None:
    knowledge, sentinel = torch.eye(4)[:3], torch.eye(4)[3:]
    right = torch.tensor([[9.0, 0, 0, 5], [0, 9.0, 0, 5], [0, 0, 9.0, 5]])
    assert neighbour_contrastive(right, knowledge, sentinel, scale=1.0) < 0.05
    assert sentinel_contrastive(right, knowledge, sentinel, scale=1.0) < 0.05
    confused = right[[1, 2, 0]]
    assert neighbour_contrastive(confused, knowledge, sentinel, scale=1.0) > 5
    greedy = torch.tensor([[9.0, 7, 0, 1], [0, 9.0, 7, 1], [7, 0, 9.0, 1]])  # another edit lies above the sentinel
    assert sentinel_contrastive(greedy, knowledge, sentinel, scale=1.0) > 3
    assert out_of_scope_contrastive(torch.tensor([[0.0, 0, 0, 9]]), knowledge, sentinel, scale=1.0) < 0.01
    assert out_of_scope_contrastive(torch.tensor([[9.0, 0, 0, 0]]), knowledge, sentinel, scale=1.0) > 5


def test_answer_loss_ignores_what_is_not_scored() -> None:
    logits = torch.zeros(2, 3, 8)
    labels = torch.tensor([[IGNORE, 1, 2], [IGNORE, IGNORE, 3]])
    assert math.isclose(float(answer_loss(logits, labels)), math.log(8), rel_tol=1e-5)


def test_locality_loss_is_the_divergence_from_the_base() -> None:
    torch.manual_seed(0)
    base, edited = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert float(locality_loss(base, base, mask)) == pytest.approx(0, abs=1e-6)
    p, q = base.softmax(-1), edited.softmax(-1)
    expected = (p * (p / q).log()).sum(-1)[mask.bool()].mean()
    torch.testing.assert_close(locality_loss(edited, base, mask), expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_scored_logits_predict_the_answers_behind_the_prompts(family: str) -> None:
    model = tiny_model(family).requires_grad_(False)
    rows = [TokenRow((5, 6, 7, 8, 9), 2, 1), TokenRow((10, 11, 12), 1, 0)]
    prompts = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = scored_logits(model, pad_rows(rows, 2), prompts)
    assert found.shape[:2] == (2, 2)
    for i, row in enumerate(rows):
        embedded = model.get_input_embeddings()(torch.tensor([row.ids]))
        whole = model(inputs_embeds=torch.cat([prompts[row.source : row.source + 1], embedded], 1)).logits[0]
        expected = whole[-row.scored - 1 : -1]
        torch.testing.assert_close(found[i, 2 - row.scored :], expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert prompts.grad is not None
    assert bool((prompts.grad.abs().sum((1, 2)) > 0).all())


def test_rows_are_as_the_runtime_feeds_them() -> None:
    tokenizer = tiny_tokenizer()
    row = answer_row(tokenizer, "Who runs it?", "Ada", 4, chat=False, limit=99)
    assert row is not None
    assert tokenizer.decode(row.ids) == "Who runs it? Ada"
    assert (tokenizer.decode(row.ids[-row.scored :]), row.source) == (" Ada", 4)
    ended = answer_row(tokenizer, "Who runs it?", "Ada", 4, chat=False, limit=99, ends=True)
    assert ended is not None
    assert (ended.ids, ended.scored) == ((*row.ids, tokenizer.eos_token_id), row.scored + 1)
    chat = answer_row(tokenizer, "Who runs it?", "Ada", 0, chat=True, limit=99)
    assert chat is not None
    assert tokenizer.decode(chat.ids).endswith("<|im_start|>assistant\nAda")
    assert query_ids(tokenizer, "x", chat=True)[0] == tokenizer.bos_token_id
    assert answer_row(tokenizer, "long " * 30, "Ada", 0, chat=False, limit=20) is None


EXAMPLES = [EditExample(f"p{i}", f"t{i}", (f"a{i}",), (f"o{i}",), "big" if i < 90 else "small") for i in range(100)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.integers(0, 1000), st.integers(1, 30))
def test_a_draw_depends_on_seed_and_step_alone(seed: int, step: int, size: int) -> None:
    one, other = (Sampler(EXAMPLES, seed=seed, swap=0.5, paraphrased=0.5, chat=0.5) for _ in range(2))
    one.draw(step + 1, 5)
    draw = one.draw(step, size)
    assert draw == other.draw(step, size)
    assert len({example.prompt for example in draw.examples}) == len(draw.examples) <= size
    for example, query, off in zip(draw.examples, draw.queries, draw.off_topic, strict=True):
        assert query in (example.prompt, *example.asks)
        assert off in example.off_topic


def test_part_of_a_draw_keeps_what_belongs_together() -> None:
    draw = Sampler(EXAMPLES, seed=0, swap=0, paraphrased=0.5, chat=0.5).draw(3, 8)
    part = draw.part(range(1, 8, 3))
    assert len(part.examples) == 3
    for at, place in enumerate((1, 4, 7)):
        kept = (part.examples[at], part.queries[at], part.off_topic[at], part.chat[at])
        assert kept == (draw.examples[place], draw.queries[place], draw.off_topic[place], draw.chat[place])


def test_flatness_gives_small_sources_their_share() -> None:
    def share(flatness: float) -> float:
        sampler = Sampler(EXAMPLES, seed=0, swap=0, paraphrased=0, chat=0, flatness=flatness)
        drawn = [e for step in range(100) for e in sampler.draw(step, 4).examples]
        return sum(e.source == "small" for e in drawn) / len(drawn)

    assert share(1.0) == pytest.approx(0.1, abs=0.05)
    assert 0.35 < share(0.0) < 0.6


def test_a_share_of_the_batch_has_one_form() -> None:
    examples = [EditExample(f"{n} of the town {v} in", "x") for n in "abcdefgh" for v in ("lives", "works", "sings")]
    kinds = set()
    for step in range(20):
        sampler = Sampler(examples, seed=0, swap=0, paraphrased=0, chat=0, alike=1.0)
        prompts = [example.prompt.split() for example in sampler.draw(step, 3).examples]
        kinds.add((len({words[0] for words in prompts}), len({words[4] for words in prompts})))
    assert kinds == {(1, 3), (3, 1)}  # one subject asked in three ways, or three subjects asked in one


def test_some_targets_are_words_of_other_prompts() -> None:
    examples = [EditExample(f"the mill of Norvik{n} Sund is run by", f"t{n}") for n in range(20)]
    sampler = Sampler(examples, seed=0, swap=0.2, words=0.5, paraphrased=0, chat=0)
    targets = [e.target for step in range(60) for e in sampler.draw(step, 5).examples]
    named = [target for target in targets if target.startswith(("Norvik", "Sund"))]
    assert len(named) == pytest.approx(150, abs=30)
    assert all(1 <= len(target.split()) <= 3 for target in named)


@given(st.text(max_size=30))
def test_any_prompt_lends_its_words(prompt: str) -> None:
    examples = [EditExample(prompt, "kept")]
    (example,) = Sampler(examples, seed=0, swap=0, words=1.0, paraphrased=0, chat=0).draw(0, 1).examples
    assert example.target == "kept" or set(example.target.split()) <= {w.strip(".,:;?!\"'()") for w in prompt.split()}


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(InputError, match="no examples"):
        Sampler([], seed=0, swap=0, paraphrased=0, chat=0)
