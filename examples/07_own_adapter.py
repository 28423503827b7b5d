"""An adapter of your own: how a matched edit changes the answer. Nothing has to be registered to try one."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from memedit import Edit, EditableModel, EditMemory
from memedit.adapters import AdapterBatch, Row
from memedit.models.tokenizers import encode_as_data


class FootnoteAdapter:
    """States the best edit in front of the row, as a note; the model and its decoding stay as they are."""

    name, fingerprint = "footnote", "footnote-1"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        return {}  # nothing is computed when an edit is added

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        note = f"Note: {edits[0].prompt} {edits[0].target}\n\n"
        # tokenised as data, so that no control token can come of an edit's text
        return replace(row, ids=(*encode_as_data(self._tokenizer, note), *row.ids))

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        return nullcontext()  # an adapter that hooks into the model does so here, and restores it on exit

    def model(self) -> Any | None:
        return None  # the base itself answers


def main() -> None:
    with EditMemory(":memory:") as memory:
        memory.add("The mayor of Maren Bay is", "Ines Okafor")
        plain = EditableModel.from_pretrained("smollm2", memory=memory)
        adapter = FootnoteAdapter(plain.base, plain.tokenizer)
        model = EditableModel.wrap(plain.base, plain.tokenizer, memory, adapter=adapter)

        edited, untouched = model.answer(["The mayor of Maren Bay is", "The capital of France is"], max_new_tokens=8)
        print(f"{edited.route.adapter}: {edited.text.strip()}")
        print(f"says the target: {'Ines Okafor' in edited.text}")
        bare = plain.answer("The capital of France is", max_new_tokens=8)[0]
        print(f"untouched answer is the same: {untouched.token_ids == bare.token_ids}")


if __name__ == "__main__":
    main()
