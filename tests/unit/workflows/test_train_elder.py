"""Training ELDER from a memory on a tiny model: it learns, round-trips, resumes, forgets what is withdrawn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.elder_bench import BY_EDIT, BY_ROUTER, NAMES, SETTINGS, TARGETS
from memory.hashing_encoder import HashingEncoder
from tiny import tiny_model, tiny_tokenizer

from memedit.adapters.elder.adapter import ElderAdapter
from memedit.errors import FingerprintMismatchError, InputError
from memedit.memory import EditMemory
from memedit.models import LoadedModel, model_fingerprint
from memedit.runtime import EditableModel
from memedit.workflows.train_elder import adapter_options, current_mixture, train_elder, waiting_edits


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> LoadedModel:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder(64)) as found:
        for name, target in list(zip(NAMES, TARGETS, strict=True))[:4]:
            found.add(f"the mill of {name} is", target, subject=name)
        yield found


def served(base: LoadedModel, memory: Any, **options: Any) -> EditableModel:
    adapter = ElderAdapter(base.model, base.tokenizer, **adapter_options(memory), **options)
    return EditableModel.wrap(base.model, base.tokenizer, memory, scope="subject", adapter=adapter)


def answers(model: EditableModel, **options: Any) -> list[str]:
    prompts = [f"the mill of {name} is" for name in NAMES[:5]]
    return [a.text for a in model.answer(prompts, max_new_tokens=8, do_sample=False, **options)]


def test_edits_are_learned_and_the_state_round_trips(base: LoadedModel, memory: Any, tmp_path: Path) -> None:
    before = model_fingerprint(base.model, base.tokenizer)
    report = train_elder(base, memory, out=tmp_path / "out", config=BY_EDIT, settings=SETTINGS)
    assert (report.edits, report.trained, report.failing) == (4, 4, ())
    assert model_fingerprint(base.model, base.tokenizer) == before
    found = answers(served(base, memory))
    assert [text.strip() for text in found[:4]] == list(TARGETS[:4])
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder(64)) as again:
        fresh = tiny_model("llama") if base.model.config.model_type == "llama" else tiny_model("gpt2")
        reopened = LoadedModel(fresh, tiny_tokenizer(), "tiny", base.fingerprint)
        assert answers(served(reopened, again)) == found
    assert answers(served(base, memory), num_beams=2)[:4] == found[:4]
    assert [answers(served(base, memory), batch_size=1)] == [found]
