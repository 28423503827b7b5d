"""What tests of shipped adapters share: prompts that no edit bears on come out as the bare model's."""

from collections.abc import Sequence

from memedit.models import LoadedModel
from memedit.runtime import EditableModel


def assert_left_alone(model: EditableModel, base: LoadedModel, prompts: Sequence[str]) -> None:
    """Check that no edit fires on ``prompts`` and that answers are token for token those of ``base``."""
    for prompt in prompts:
        inputs = base.tokenizer(prompt, return_tensors="pt")
        bare = base.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        (found,) = model.answer(prompt, max_new_tokens=8, do_sample=False)
        assert not found.edits, prompt
        assert list(found.token_ids) == bare[0, -len(found.token_ids) :].tolist()
