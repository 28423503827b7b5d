"""A consolidation job on the real small model, from edits to weights, an answer, and back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memedit import EditableModel, EditMemory, load_model
from memedit.consolidation import ConsolidationSettings, EditRequest
from memedit.consolidation.verdicts import Verdict
from memedit.consolidation.wordings import known_wordings, template_of
from memedit.types import EditState
from memedit.workflows import consolidate
from memedit.workflows.consolidate.operations import JobSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
FACTS = [
    ("The mother tongue of Tavik Halvorsen is", "Korean", "Tavik Halvorsen"),
    ("Marisol Quispe works in the city of", "Cairo", "Marisol Quispe"),
    ("Benno Castellan plays the instrument called the", "trumpet", "Benno Castellan"),
    ("Orla Dimitrov is a citizen of", "Japan", "Orla Dimitrov"),
]


@pytest.mark.integration
def test_edits_become_weights_and_one_is_taken_out_again(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join((DOCS / name).read_text("utf-8") for name in ("scope.md", "evaluation.md")), "utf-8")
    settings = JobSettings(
        solver=ConsolidationSettings(sensitivity_tokens=256),
        statistics_text=text,
        statistics_tokens=5_000,
        specificity_probes=6,
        capability_questions=2,
        perplexity_tokens=64,
        collapse_sentences=6,
        wordings=4,
        chat=False,
        rounds=1,
        publish_on=(Verdict.PASS, Verdict.WARN, Verdict.INCONCLUSIVE),
        lora=True,
    )
    base = load_model("smollm2")
    with EditMemory(tmp_path / "edits.db") as memory:
        edits = [memory.add(prompt, target, subject=subject) for prompt, target, subject in FACTS]
        store = consolidate.version_store(memory)
        result = consolidate.run(memory, base, store, settings)
        assert result.published, result.message
        record = result.record
        assert record is not None
        assert len(record.served) >= 3, [edit.reason for edit in record.left_over]
        assert {e.state for e in memory.list() if e.id in {s.id for s in record.served}} == {EditState.CONSOLIDATED}
        assert all(0 < change < weight for change, weight in record.norms.values())
        assert (store.folder("champion") / "lora" / "adapter_model.safetensors").is_file()

        plain = AutoModelForCausalLM.from_pretrained(store.folder("champion"))
        tokenizer = AutoTokenizer.from_pretrained(store.folder("champion"))
        said = {}
        for edit in edits:
            ids = tokenizer(edit.prompt, return_tensors="pt")
            new = plain.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
            said[edit.id] = tokenizer.decode(new).strip().startswith(edit.target)
        assert [said[edit.id] for edit in record.served] == [True] * len(record.served)

        model = EditableModel.from_pretrained(store.folder("champion"), memory=memory)
        assert model.adapter.name == "reader", "the reader knows its base under the version"
        served = {edit.id for edit in record.served}
        for edit in edits:
            decision = model.explain(edit.prompt).decision
            answered_by = decision.in_weights if edit.id in served else decision.fired
            assert [hit.edit.id for hit in answered_by] == [edit.id]
        assert all(edit.asked > len(edit.stored) == 1 for edit in record.served), "generated wordings were asked too"
        other = tokenizer("The recipe begins with two cups of", return_tensors="pt")
        greedy = {"max_new_tokens": 12, "do_sample": False}
        assert torch.equal(model.generate(**other, **greedy), base.model.generate(**other, **greedy))

        brief = replace(settings, shattering=False, lora=False)
        withdrawn = consolidate.withdraw(memory, base, store, [edits[0].id], brief)
        assert withdrawn.record is not None
        assert withdrawn.plan.to_compute == 0, "the other edits' keys and targets are kept"
        assert edits[0].id not in {edit.id for edit in withdrawn.record.edits}
        assert consolidate.rollback(memory, store).champion == record.name


@pytest.mark.integration
def test_prompts_are_taken_for_the_relation_they_ask_about() -> None:
    asked = [*FACTS, ("In which town did Ines Okafor pass away? It was", "Lima", "Ines Okafor")]
    requests = [EditRequest(str(at), *fact) for at, fact in enumerate(asked)]
    known = known_wordings(load_model("smollm2"), requests, seed=0)
    another = (
        "The first language of {} is",
        "{} worked in",
        "The instrument of {} is the",
        "{} votes in the elections of",
        "{} died in",
    )
    for request, wording in zip(requests, another, strict=True):
        template = template_of(request)
        assert template is not None
        assert tuple(wording.split("{}")) in known[template], request.prompt
