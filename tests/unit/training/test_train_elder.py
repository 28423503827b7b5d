"""Training ELDER from a memory on a tiny model: it learns, round-trips, resumes, forgets what is withdrawn."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memedit.adapters.elder.adapter import ElderAdapter
from memedit.adapters.elder.codes import EditCode
from memedit.adapters.elder.export import export_loras
from memedit.adapters.elder.files import load_mixture
from memedit.config.schemas import ElderPolicy
from memedit.errors import FingerprintMismatchError, InputError
from memedit.memory import EditMemory
from memedit.models import LoadedModel, model_fingerprint
from memedit.runtime import EditableModel
from memedit.training.elder.passes import is_due
from memedit.training.elder.run import adapter_options, current_mixture, train_elder, waiting_edits
from support.elder_bench import BY_EDIT, BY_ROUTER, NAMES, SETTINGS, TARGETS
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

PROMPTS = [f"the mill of {name} is" for name in NAMES]


def open_memory(path: Path) -> EditMemory:
    return EditMemory(path, encoder=HashingEncoder(64))


def add(memory: EditMemory, numbers: range) -> None:
    for i in numbers:
        memory.add(PROMPTS[i], TARGETS[i], subject=NAMES[i])


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


@pytest.fixture(scope="module")
def trained(base: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a memory of four edits after one pass."""
    folder = tmp_path_factory.mktemp("trained")
    with open_memory(folder / "edits.db") as memory:
        add(memory, range(4))
        report = train_elder(base, memory, out=folder / "out", config=BY_EDIT, settings=SETTINGS)
    assert (report.edits, report.trained, report.failing, report.shared_trained) == (4, 4, (), True)
    assert report.seconds_per_edit > 0
    return folder


@pytest.fixture
def memory(trained: Path, tmp_path: Path) -> Any:
    for path in trained.glob("edits.db*"):
        shutil.copy(path, tmp_path / path.name)
    with open_memory(tmp_path / "edits.db") as found:
        yield found


def served(base: LoadedModel, memory: Any, **options: Any) -> EditableModel:
    adapter = ElderAdapter(base.model, base.tokenizer, **adapter_options(memory), **options)
    return EditableModel.wrap(base.model, base.tokenizer, memory, scope="subject", adapter=adapter)


def answers(model: EditableModel, prompts: list[str] = PROMPTS[:5], **options: Any) -> list[str]:
    return [answer.text for answer in model.answer(prompts, max_new_tokens=8, do_sample=False, **options)]


def test_edits_are_answered_and_other_rows_are_the_base_s(base: LoadedModel, memory: Any) -> None:
    model = served(base, memory)
    found = answers(model)
    assert [text.strip() for text in found[:4]] == list(TARGETS[:4])
    with EditMemory(encoder=HashingEncoder(64)) as empty:
        bare = EditableModel.wrap(base.model, base.tokenizer, empty, scope="subject", adapter="in_context")
        assert answers(bare)[4] == found[4]
    assert answers(model, batch_size=1) == found
    assert answers(model, num_beams=2)[:4] == found[:4]
    assert "".join(model.stream(PROMPTS[2], max_new_tokens=8, do_sample=False)) == found[2]
    assert model_fingerprint(base.model, base.tokenizer) == base.fingerprint


def test_scores_agree_with_free_generation(base: LoadedModel, memory: Any) -> None:
    scores = served(base, memory).score(PROMPTS[:4], [f" {target}" for target in TARGETS[:4]])
    assert all(all(score.argmax) for score in scores)


def test_the_state_round_trips(base: LoadedModel, memory: Any) -> None:
    found = answers(served(base, memory))
    again = LoadedModel(tiny_model("llama"), tiny_tokenizer(), "tiny", base.fingerprint)
    assert answers(served(again, memory)) == found


def test_another_base_is_refused_by_name(memory: Any) -> None:
    other = LoadedModel(tiny_model("llama", seed=1), tiny_tokenizer(), "other", "other")
    with pytest.raises(FingerprintMismatchError, match=r"'tiny'.*weights"):
        served(other, memory)
    with pytest.raises(FingerprintMismatchError, match="'tiny'"):
        train_elder(other, memory, out=Path("unused"), settings=SETTINGS)


def test_another_shape_needs_a_fresh_start(base: LoadedModel, memory: Any) -> None:
    with pytest.raises(InputError, match="another shape"):
        train_elder(base, memory, out=Path("unused"), config=replace(BY_EDIT, rank=1), settings=SETTINGS)


def test_a_withdrawn_edit_is_silent_at_once_and_left_out_of_the_next_pass(
    base: LoadedModel, memory: Any, tmp_path: Path
) -> None:
    model = served(base, memory)
    before = answers(model)
    memory.delete(memory.list()[1].id)
    after = answers(model)
    assert after[1] != before[1]
    assert [after[i] for i in (0, 2, 3)] == [before[i] for i in (0, 2, 3)]
    report = train_elder(base, memory, out=tmp_path / "out", settings=SETTINGS)
    assert (report.edits, report.trained) == (3, 0)


def test_later_edits_leave_earlier_ones_as_they_were(base: LoadedModel, memory: Any, tmp_path: Path) -> None:
    before = answers(served(base, memory))
    kept = current_mixture(memory)
    memory.add(PROMPTS[4], TARGETS[4], subject=NAMES[4])
    assert [edit.prompt for edit in waiting_edits(memory)] == [PROMPTS[4]]
    waiting = served(base, memory).explain(PROMPTS[4])
    assert waiting.adapter == "elder", "until the next pass the edit is stated in the prompt"
    report = train_elder(base, memory, out=tmp_path / "out", settings=SETTINGS)
    assert (report.trained, report.shared_trained, current_mixture(memory)) == (1, False, kept)
    assert answers(served(base, memory))[:4] == before[:4]
    assert not waiting_edits(memory)


class KilledError(Exception):
    pass


def test_a_killed_pass_resumes_to_the_same_mixture(base: LoadedModel, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shared_steps=6, steps=2)
    prints = []
    for name, kill in (("whole", 0), ("cut", 5)):
        with open_memory(tmp_path / f"{name}.db") as memory:
            add(memory, range(3))

            def stop(state: Any, kill: int = kill) -> None:
                if state.stage == "shared" and state.step == kill:
                    raise KilledError

            options = {"out": tmp_path / name, "config": BY_EDIT, "settings": settings, "checkpoint_every": 2}
            if kill:
                with pytest.raises(KilledError):
                    train_elder(base, memory, **options, progress=stop)
                assert current_mixture(memory) is None, "a pass that was cut off changes nothing"
            prints.append(train_elder(base, memory, **options).fingerprint)
    assert prints[0] == prints[1]


def test_a_pass_is_due_by_number_and_by_age(memory: Any) -> None:
    policy = ElderPolicy(waiting=2, hours=1)
    assert not is_due(memory, policy)
    memory.add(PROMPTS[4], TARGETS[4], subject=NAMES[4])
    assert not is_due(memory, policy)
    assert is_due(memory, policy, now=datetime.now(UTC) + timedelta(hours=2))
    memory.add(PROMPTS[5], TARGETS[5], subject=NAMES[5])
    assert is_due(memory, policy)


def test_an_exported_lora_is_the_edit_s_mixture_in_peft(base: LoadedModel, memory: Any, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    pointer = current_mixture(memory)
    assert pointer is not None
    mixture, record = load_mixture(Path(pointer["folder"]), base.model, base.tokenizer)
    edit = memory.list()[0]
    blob = memory.get_artefacts("elder", record.fingerprint, [edit.id])[edit.id]
    codes = {edit.id: EditCode.parse(blob, mixture.config, mixture.width, edit.id)}
    exported = export_loras(mixture, codes, tmp_path / "loras", model=base.model, base_name="tiny")
    assert (exported.rank, exported.vllm_flags) == (16, "--enable-lora --max-lora-rank 16")
    assert json.loads((exported.folders[0] / "edits.json").read_text())["edits"] == [edit.id]
    ids = torch.tensor([base.tokenizer(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        peft = PeftModel.from_pretrained(tiny_model("llama"), exported.folders[0])
        found = peft(input_ids=ids).logits[0, -1]
        from memedit.models.mixture_hooks import Placement, mixture_rows

        weights = mixture.own_weights(codes[edit.id].vectors.unsqueeze(0))
        place = Placement((0,), (0,), 1, ids.shape[1])
        with mixture_rows(base.model, mixture.terms(), place, weights=weights):
            wanted = base.model(input_ids=ids).logits[0, -1]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_routers_allocate_as_published(base: LoadedModel, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shared_steps=6, wordings=1, per_step=1)
    with open_memory(tmp_path / "edits.db") as memory:
        add(memory, range(3))
        first = train_elder(base, memory, out=tmp_path / "out", config=BY_ROUTER, settings=settings)
        add(memory, range(3, 4))
        second = train_elder(base, memory, out=tmp_path / "out", settings=settings)
        assert (first.trained, second.trained) == (3, 1)
        assert first.fingerprint != second.fingerprint, "experts and routers go on learning"
        assert not waiting_edits(memory), "codes of all edits are kept under the new mixture"
        found = answers(served(base, memory, gate="both", threshold=99))
        assert found == answers(served(base, memory))
        with EditMemory(encoder=HashingEncoder(64)) as empty:
            bare = EditableModel.wrap(base.model, base.tokenizer, empty, scope="subject", adapter="in_context")
            assert answers(served(base, memory, gate="both", threshold=0)) == answers(bare), "all are deferred"


def test_nothing_to_train_is_an_error(base: LoadedModel, tmp_path: Path) -> None:
    with open_memory(tmp_path / "none.db") as memory:
        with pytest.raises(InputError, match="no edit in force"):
            train_elder(base, memory, out=tmp_path / "out")
        with pytest.raises(InputError, match="no ELDER mixture yet"):
            adapter_options(memory)
