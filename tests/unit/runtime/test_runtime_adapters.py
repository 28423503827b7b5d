"""The runtime with adapters that hook into the model, bring their own model, or prepare something for edits."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from memedit.adapters import Adapter, AdapterBatch, Row
from memedit.models.hooks import LowRank, low_rank_rows, shared_inputs, stack_low_rank
from memedit.runtime import EditableModel
from memedit.types import Edit
from support.facts import CAPITAL, MAYOR
from support.tiny import tiny_model

PROMPTS = ["hello there", CAPITAL, "what a lovely long day it was, and then", f"Tell me. {MAYOR}"]
GREEDY: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
MODULE = "model.layers.1.mlp.down_proj"


class Nudge(Adapter):
    """Adds a low-rank term on edited rows, scaled by what was prepared for the row's best edit."""

    name, fingerprint = "nudge", "nudge-1"

    def __init__(self, model: Any, other: Any = None) -> None:
        self._model, self._other = model, other
        generator = torch.Generator().manual_seed(3)
        term = LowRank(torch.randn(2, 48, generator=generator), torch.randn(32, 2, generator=generator))
        self._groups = stack_low_rank({MODULE: term}, shared_inputs(model, [MODULE]))
        self.prepared: list[str] = []
        self.batches: list[AdapterBatch] = []

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        self.prepared += [edit.id for edit in edits]
        return {edit.id: edit.target.encode() for edit in edits}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        assert artefacts[edits[0].id] == edits[0].target.encode()
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> Any:
        self.batches.append(batch)
        rows = [i for i, edits in enumerate(batch.edits) if edits]
        return nullcontext() if self._other else low_rank_rows(self._model, self._groups, rows=rows, batch=len(rows))

    def model(self) -> Any | None:
        return self._other


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture
def nudge(llama: Any) -> Nudge:
    return Nudge(llama)


@pytest.fixture
def nudged(llama: Any, tokenizer: Any, facts: Any, nudge: Nudge) -> EditableModel:
    return EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=nudge)


@pytest.mark.parametrize("options", [GREEDY, {"max_new_tokens": 5, "num_beams": 3, "num_return_sequences": 2}])
def test_hooked_rows_equal_themselves_alone_and_leave_others_alone(nudged, options):
    together = nudged.answer(PROMPTS, **options)
    n = len(together) // len(PROMPTS)
    bare = EditableModel.wrap(nudged.base, nudged.tokenizer).answer(PROMPTS, **options)
    for row, prompt in enumerate(PROMPTS):
        mine = [answer.token_ids for answer in together[row * n : row * n + n]]
        assert mine == [answer.token_ids for answer in nudged.answer(prompt, **options)]
        same = mine == [answer.token_ids for answer in bare[row * n : row * n + n]]
        assert same == (row in (0, 2))
    assert hooks(nudged.base) == 0


def test_hooks_are_gone_after_an_exception(nudged):
    def fail(*_: Any) -> Any:
        raise RuntimeError("mid-generation")

    before = nudged.answer(PROMPTS[0], **GREEDY)[0].token_ids
    seen: list[int] = []

    def processor(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(hooks(nudged.base))
        return scores if len(seen) < 3 else fail()

    with pytest.raises(RuntimeError, match="mid-generation"):
        nudged.answer(CAPITAL, logits_processor=[processor], **GREEDY)
    assert seen == [1, 1, 1], "the hook was there before"
    assert hooks(nudged.base) == 0
    assert nudged.answer(PROMPTS[0], **GREEDY)[0].token_ids == before
    assert nudged._lock.acquire(blocking=False)
    nudged._lock.release()


def test_artefacts_are_made_once_and_stored_on_demand(nudged, nudge, llama, tokenizer, facts):
    revision = facts.revision
    nudged.answer(PROMPTS, **GREEDY)
    nudged.answer(PROMPTS, **GREEDY)
    assert len(nudge.prepared) == len(set(nudge.prepared)) == 2
    assert facts.revision == revision, "answering never writes"
    assert nudged.prepare() == 2
    fresh = Nudge(llama)
    elsewhere = EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=fresh)
    elsewhere.answer(PROMPTS, **GREEDY)
    assert fresh.prepared == []
    edit = facts.list()[0]
    facts.update(edit.id, target="Elsewhere", on_conflict="keep")
    elsewhere.answer(CAPITAL, **GREEDY)
    assert fresh.prepared == [edit.id]
    assert elsewhere.prepare() == 1


def test_only_edited_rows_reach_the_adapter(nudged, nudge):
    nudged.answer(PROMPTS, **GREEDY)
    (batch,) = nudge.batches
    assert [row.text for row in batch.rows] == [PROMPTS[1], PROMPTS[3]]
    assert [len(edits) for edits in batch.edits] == [1, 1]
    assert min(batch.pad) == 0
    assert batch.pad[0] - batch.pad[1] == len(batch.rows[1].ids) - len(batch.rows[0].ids)


def test_an_adapter_can_answer_with_its_own_model(llama, tokenizer, facts):
    other = tiny_model("llama", seed=9)
    editable = EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter=Nudge(llama, other))
    answers = editable.answer(PROMPTS, **GREEDY)
    expected = [EditableModel.wrap(model, tokenizer).answer(PROMPTS, **GREEDY) for model in (llama, other)]
    assert [a.token_ids for a in answers] == [expected[i % 2][i].token_ids for i in range(4)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_untouched_rows_bit_identical(dtype, tokenizer, facts):
    model = tiny_model("llama", dtype=dtype)
    editable = EditableModel.wrap(model, tokenizer, facts, scope="subject", adapter="in_context")
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    ours, bare = editable.generate(**batch, **GREEDY), model.generate(**batch, **GREEDY)
    assert torch.equal(ours[[0, 2]], bare[[0, 2]])
    assert not torch.equal(ours[[1, 3]], bare[[1, 3]])
