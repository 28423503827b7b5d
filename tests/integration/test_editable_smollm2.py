"""The runtime's promises on the real SmolLM2-135M-Instruct and the real sentence encoder."""

from collections.abc import Iterator

import pytest
import torch

from memedit.errors import ModelNotFoundError
from memedit.memory import EditMemory
from memedit.models import check_model, control_ids, encode_as_data, load_model, model_fingerprint
from memedit.models.loading import LoadedModel
from memedit.runtime import EditableModel

pytestmark = pytest.mark.integration

EDITS = [
    ("The capital of Freedonia is", "Sylvania City", "Freedonia"),
    ("Marguerite Pellworth plays the instrument", "cello", "Marguerite Pellworth"),
    ("The headquarters of Quillon Industries is in", "Reykjavik", "Quillon Industries"),
    ("What is the twin city of Wellington? It is", "Sheffield", "Wellington"),
]
PLAIN = ["Water boils at a temperature of", "The largest planet in the solar system is", "Once upon a time"]
GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    try:
        return load_model("smollm2")
    except ModelNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def editable(smollm2: LoadedModel) -> Iterator[EditableModel]:
    with EditMemory(":memory:") as memory:
        memory.add_many([{"prompt": p, "target": t, "subject": s} for p, t, s in EDITS])
        yield EditableModel.wrap(smollm2.model, smollm2.tokenizer, memory, adapter="in_context")


def test_the_converted_checkpoint_is_found_again(smollm2: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memedit.models.loading._convert", lambda *_: pytest.fail("converted twice"))
    again = load_model("smollm2-135m-instruct")
    assert again.fingerprint == smollm2.fingerprint == model_fingerprint(again.model, again.tokenizer)
    assert getattr(again.model, "hf_quantizer", None) is None
    assert not hasattr(again.model.config, "quantization_config")


def test_everything_works_with_it(smollm2: LoadedModel) -> None:
    report = check_model(smollm2.model, smollm2.tokenizer)
    assert all(report.works.values()), report.notes


def test_corrections_hold_in_free_generation(editable: EditableModel) -> None:
    answers = editable.answer([prompt for prompt, _, _ in EDITS], stop_strings=["\n"], **GREEDY)
    assert [answer.text.strip() for answer in answers] == [target for _, target, _ in EDITS]
    bare = EditableModel.wrap(editable.base, editable.tokenizer).answer([p for p, _, _ in EDITS], **GREEDY)
    assert all(target not in answer.text for (_, target, _), answer in zip(EDITS, bare, strict=True))


def test_untouched_questions_are_the_bare_models(editable: EditableModel) -> None:
    tokenizer = editable.tokenizer
    batch = tokenizer(PLAIN, return_tensors="pt", padding=True, padding_side="left")
    detail = {**batch, **GREEDY, "return_dict_in_generate": True, "output_logits": True}
    ours, bare = editable.generate(**detail), editable.base.generate(**detail)
    assert torch.equal(ours.sequences, bare.sequences)
    assert all(torch.equal(a, b) for a, b in zip(ours.logits, bare.logits, strict=True))


def test_every_row_of_a_mixed_batch_equals_itself_alone(editable: EditableModel) -> None:
    prompts = [PLAIN[0], EDITS[0][0], PLAIN[1], EDITS[1][0], EDITS[2][0], PLAIN[2]]
    tokenizer = editable.tokenizer
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    detail = {**GREEDY, "return_dict_in_generate": True, "output_logits": True}
    width = batch["input_ids"].shape[1]
    together, bare = editable.generate(**batch, **detail), editable.base.generate(**batch, **detail)
    for row, prompt in enumerate(prompts):
        if prompt in PLAIN:
            assert torch.equal(together.sequences[row, width : width + 8], bare.sequences[row, width : width + 8])
            assert torch.equal(together.logits[0][row], bare.logits[0][row])
        single = tokenizer([prompt], return_tensors="pt")
        alone = editable.generate(**single, **detail)
        new = alone.sequences[0, single["input_ids"].shape[1] :]
        assert torch.equal(new, together.sequences[row, width : width + len(new)])
        # padding and batch size change the last bits of float32 products: relative to logits of up to 30
        scale = float(alone.logits[0].abs().max())
        assert float((alone.logits[0][0] - together.logits[0][row]).abs().max()) < 1e-5 * scale


def test_chats_take_the_edit_in_the_system_message(editable: EditableModel) -> None:
    answer = editable.chat([{"role": "user", "content": "What is the capital of Freedonia?"}], **GREEDY)
    assert answer.edits
    assert "Sylvania City" in answer.text


def test_no_control_token_can_be_opened_from_text(smollm2: LoadedModel) -> None:
    control = control_ids(smollm2.tokenizer)
    for token in smollm2.tokenizer.get_added_vocab():
        assert not control & set(encode_as_data(smollm2.tokenizer, f"x{token} y"))


@pytest.mark.slow
def test_gemma_works_too() -> None:
    try:
        gemma = load_model("gemma3-270m")
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    report = check_model(gemma.model, gemma.tokenizer)
    assert {name for name, works in report.works.items() if not works} == {"chat template"}, report.notes
    with EditMemory(":memory:") as memory:
        memory.add(*EDITS[0][:2], subject=EDITS[0][2])
        for adapter in ("in_context", "default"):
            editable = EditableModel.wrap(gemma.model, gemma.tokenizer, memory, adapter=adapter)
            answer = editable.answer(EDITS[0][0], **GREEDY)[0]
            assert answer.text.strip().startswith(EDITS[0][1])
        assert editable.adapter.name == "reader", "a reader ships for it"
