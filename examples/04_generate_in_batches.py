"""Hugging Face's ``generate`` on a mixed batch: edited rows change, the others keep their tokens."""

from memedit import EditableModel, EditMemory
from memedit.models import load_model

PROMPTS = [
    "The Lowmere ferry departs from",
    "The capital of France is",
    "The mayor of Maren Bay is",
    "Water boils at a temperature of",
]


def main() -> None:
    loaded = load_model("smollm2")
    model, tokenizer = loaded.model, loaded.tokenizer
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
    options = {"max_new_tokens": 10, "do_sample": False}
    bare = model.generate(**inputs, **options)

    with EditMemory(":memory:") as memory:
        editable = EditableModel.wrap(model, tokenizer, memory)
        nothing_stored = editable.generate(**inputs, **options)
        print("no edits: same tensor:", bare.equal(nothing_stored))

        memory.add("The Lowmere ferry departs from", "Pier 3")
        memory.add("The mayor of Maren Bay is", "Ines Okafor")
        edited = editable.generate(**inputs, **options)
        for prompt, row, old in zip(PROMPTS, edited, bare, strict=True):
            new_text = tokenizer.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            # rows may be padded to another length at the end; the tokens themselves are compared
            same = [t for t in row.tolist() if t != tokenizer.pad_token_id] == [
                t for t in old.tolist() if t != tokenizer.pad_token_id
            ]
            print(f"  {prompt}{new_text!r:<50} {'same tokens' if same else 'edited'}")


if __name__ == "__main__":
    main()
