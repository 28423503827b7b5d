"""The demonstration: the same questions before and after a dozen corrections, with the untouched ones beside them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from memedit.memory import EditMemory
from memedit.runtime import Answer, EditableModel
from memedit.types import EditDraft
from memedit.workflows.asking import as_prompt

NEW_TOKENS = 32
_BATCH = 9


@dataclass(frozen=True, slots=True)
class DemoRow:
    """One question, answered by the bare model and with the edits in force.

    ``target`` is the corrected answer, None for a question that no edit touches. ``identical`` says whether both
    answers have the same token ids. ``fired`` are the prompts of the edits that fired, ``score`` the best one's.
    """

    prompt: str
    target: str | None
    before: str
    after: str
    identical: bool
    fired: tuple[str, ...]
    score: float | None
    threshold: float

    @property
    def as_expected(self) -> bool:
        """Whether the answer holds the target, or is untouched where it should be."""
        if self.target is None:
            return self.identical and not self.fired
        return _plain(self.target) in _plain(self.after)


@dataclass(frozen=True, slots=True)
class DemoChain:
    """A question through two edits: answered by both, and once the second is withdrawn.

    ``hops`` and ``hops_left`` are what the chain says hop by hop, "" where the model answers.
    """

    question: str
    target: str
    after: str
    hops: tuple[str, ...]
    withdrawn: str
    left: str
    hops_left: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        """Whether the target was said as long as its edit was in force, and not afterwards."""
        wanted = _plain(self.target)
        return wanted in _plain(self.after) and wanted not in _plain(self.left)


@dataclass(frozen=True, slots=True)
class DemoReport:
    """All rows of the demonstration, and what they were made with."""

    model: str
    adapter: str
    scope: str
    edits: tuple[DemoRow, ...]
    paraphrases: tuple[DemoRow, ...]
    untouched: tuple[DemoRow, ...]
    chain: DemoChain


@dataclass(frozen=True, slots=True)
class DemoScript:
    """The corrections to write and the questions to ask."""

    edits: tuple[EditDraft, ...]
    paraphrases: tuple[tuple[str, str], ...]
    untouched: tuple[str, ...]
    chain: tuple[str, EditDraft]
    """A question through one of the corrections and one more edit, and that edit."""


def load_script() -> DemoScript:
    """Read the corrections and questions that ship with the package."""
    text = resources.files("memedit.workflows").joinpath("data/demo.json").read_text("utf-8")
    data = json.loads(text)
    return DemoScript(
        edits=tuple(EditDraft(**edit) for edit in data["edits"]),
        paraphrases=tuple((row["prompt"], row["target"]) for row in data["paraphrases"]),
        untouched=tuple(data["untouched"]),
        chain=(data["chain"]["question"], EditDraft(**data["chain"]["edit"])),
    )


def run_demo(
    model: EditableModel,
    script: DemoScript,
    *,
    name: str = "",
    max_new_tokens: int = NEW_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Ask every question, write the corrections into the model's memory, and ask again (greedy decoding).

    Args:
        model: its memory must be empty: the answers before are the bare model's.
        script: corrections and questions.
        name: what the report calls the model.
        max_new_tokens: length of each answer.
        progress: called with (questions answered, all).
    """
    asked: list[tuple[str, str | None]] = [(edit.prompt, edit.target) for edit in script.edits]
    asked += script.paraphrases
    asked += [(prompt, None) for prompt in script.untouched]
    total = 2 * len(asked) + 2

    def answers(done: int) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(asked), _BATCH):
            prompts = [as_prompt(model, prompt) for prompt, _ in asked[start : start + _BATCH]]
            found += model.answer(prompts, max_new_tokens=max_new_tokens, do_sample=False)
            if progress is not None:
                progress(done + len(found), total)
        return found

    def hop_by_hop(done: int) -> Answer:
        (found,) = model.answer([as_prompt(model, script.chain[0])], max_new_tokens=max_new_tokens, do_sample=False)
        if progress is not None:
            progress(done, total)
        return found

    before = answers(0)
    memory: EditMemory = model.memory
    memory.add_many(script.edits)
    after = answers(len(asked))
    chain = _chain(memory, script, hop_by_hop, total)
    rows = tuple(_row(*item) for item in zip(asked, before, after, strict=True))
    edits, paraphrases = len(script.edits), len(script.paraphrases)
    return DemoReport(
        model=name or type(model.base).__name__,
        adapter=next((a.route.adapter for a in after if a.route.adapter), "none"),
        scope=after[0].route.decision.scope,
        edits=rows[:edits],
        paraphrases=rows[edits : edits + paraphrases],
        untouched=rows[edits + paraphrases :],
        chain=chain,
    )


def _chain(memory: EditMemory, script: DemoScript, ask: Callable[[int], Answer], total: int) -> DemoChain:
    """Ask the question through two edits, and again once the second is withdrawn."""
    question, draft = script.chain
    edit = memory.add(draft.prompt, draft.target, subject=draft.subject, source=draft.source)
    after = ask(total - 1)
    memory.delete(edit.id)
    left = ask(total)
    hops, hops_left = (tuple(hop.value for hop in answer.chain) for answer in (after, left))
    texts = [answer.text.strip() for answer in (after, left)]
    return DemoChain(question, draft.target, texts[0], hops, draft.prompt, texts[1], hops_left)


def _row(asked: tuple[str, str | None], before: Answer, after: Answer) -> DemoRow:
    decision = after.route.decision
    return DemoRow(
        prompt=asked[0],
        target=asked[1],
        before=before.text.strip(),
        after=after.text.strip(),
        identical=tuple(before.token_ids) == tuple(after.token_ids),
        fired=tuple(hit.edit.prompt for hit in decision.fired),
        score=decision.fired[0].score if decision.fired else None,
        threshold=decision.threshold,
    )


def _plain(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
