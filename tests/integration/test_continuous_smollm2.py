"""The running batch on the real small model: rows that the reader acts on beside rows of the bare model."""

import pytest

from memedit.adapters.base import DecodesInSteps
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.runtime.continuous import ContinuousBatch, Job, check_model
from memedit.runtime.rows import prompt_row

pytestmark = pytest.mark.integration

PROMPTS = [
    [{"role": "user", "content": "What is the capital of Freedonia?"}],
    "Water boils at a temperature of",
    "The mayor of Gotham is",
    [{"role": "user", "content": "Name a colour."}],
]


def test_rows_that_come_and_go_are_answered_as_by_the_runtime() -> None:
    with EditMemory(":memory:") as memory:
        memory.add("The capital of Freedonia is", "Sylvania City")
        memory.add("The mayor of Gotham is", "Ada Quill")
        model = EditableModel.from_pretrained("smollm2", memory=memory)
        assert isinstance(model.adapter, DecodesInSteps)
        check_model(model.base, model.pad_token_id, model.base.config.vocab_size)
        plan = model.plan(PROMPTS)
        expected = model.answer(PROMPTS, plan=plan, max_new_tokens=12, do_sample=False)
        jobs = []
        for prompt, route in zip(PROMPTS, plan.routes, strict=True):
            row = prompt_row(model.tokenizer, prompt)
            edits = tuple(hit.edit for hit in route.decision.fired)
            fed = model.adapter.rewrite(row, edits, {}) if edits else row
            ends = frozenset({model.tokenizer.eos_token_id})
            jobs.append(Job(len(jobs), fed, row.ids, limit=12, edits=edits, ends=ends))
        assert [bool(job.edits) for job in jobs] == [True, False, True, False]
        batch = ContinuousBatch(model.base, model.pad_token_id, model.adapter)
        batch.join([[jobs[1]], [jobs[0]]])
        batch.step()
        batch.join([[jobs[2]], [jobs[3]]])
        while len(batch):
            batch.step()
    assert [tuple(job.tokens) for job in jobs] == [answer.token_ids for answer in expected]
