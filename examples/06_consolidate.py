"""Write corrections into the weights of a new version, serve what is left from memory, and take it all back."""

import tempfile
from pathlib import Path

from memedit import EditableModel, EditMemory, load_model
from memedit.consolidation import ConsolidationSettings
from memedit.workflows import consolidate
from memedit.workflows.consolidate import JobSettings

FACTS = [
    ("The mother tongue of Tavik Halvorsen is", "Korean", "Tavik Halvorsen"),
    ("Marisol Quispe works in the city of", "Cairo", "Marisol Quispe"),
    ("Benno Castellan plays the instrument called the", "trumpet", "Benno Castellan"),
]
# Small sizes for a quick demo; leave them out for a real job.
SMALL = JobSettings(
    solver=ConsolidationSettings(damping=None),  # plain gradients: spares the minute of measuring the model
    statistics_text=Path(__file__).parents[1]
    / "docs"
    / "explanation.md",  # any plain text; faster than the model's own
    statistics_tokens=2_000,
    chat=False,
    specificity_probes=6,
    capability_questions=2,
    perplexity_tokens=64,
    collapse_sentences=6,
    shattering=False,
    wordings=4,
    rounds=1,
    publish_on=("PASS", "WARN", "INCONCLUSIVE"),  # so few probes cannot tell much
)


def first_words(model: EditableModel, prompt: str) -> str:
    return model.answer(prompt, max_new_tokens=6, do_sample=False)[0].text.strip().split("\n")[0]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, EditMemory(Path(folder) / "edits.db") as memory:
        for prompt, target, subject in FACTS:
            memory.add(prompt, target, subject=subject)
        base = load_model("smollm2")
        store = consolidate.version_store(memory)
        print(f"planned: {consolidate.plan(memory, base, store, SMALL).new} new edits")

        result = consolidate.run(memory, base, store, SMALL)
        print(result.message)
        assert result.record is not None
        print("published:", result.published)

        model = EditableModel.from_pretrained(store.folder("champion"), memory=memory)
        for prompt, target, _ in FACTS:
            decision = model.explain(prompt).decision
            server = "weights" if decision.in_weights else "memory"
            text = first_words(model, prompt)
            print(f"{prompt} -> {text} (by {server}: {text.casefold().startswith(target.casefold())})")

        consolidate.rollback(memory, store)
        states = {edit.state.value for edit in memory.list()}
        print("after the rollback the memory serves them again:", states == {"active"})


if __name__ == "__main__":
    main()
