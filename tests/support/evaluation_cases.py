"""Cases about an invented country, and answerers for them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.models import LoadedModel
from memedit.types import EditDraft
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.evaluate import EvaluationConfig
from memedit.workflows.evaluate import run as workflow
from memedit.workflows.evaluate.stage import Workbench
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer

FACTS = [
    ("Orlanda", "The capital of Orlanda is", "Vessin", "Orlanda is governed from", "The capital of Brelland is"),
    ("Orlanda", "The anthem of Orlanda is", "Salt Road", "Orlanda's people sing", "The anthem of Brelland is"),
    ("Mount Kerre", "Mount Kerre rises in", "Tamoria", "The country of Mount Kerre is", "Lake Ysk lies in"),
    ("Ilda Ronn", "The mother tongue of Ilda Ronn is", "Marnish", "Ilda Ronn grew up speaking", "Per Olm speaks"),
    ("Fenwick Ferry", "Fenwick Ferry crosses the river", "Aune", "The river under Fenwick Ferry is", "Orlanda exports"),
    ("Tarn Opera", "Tarn Opera was built in", "1931", "The year of Tarn Opera's opening is", "Tarn Museum opened in"),
]


def written_cases() -> list[Case]:
    """One case for each fact; the fifth's locality prompt names a subject that the first two edit."""
    return [
        Case(
            line=i + 1,
            edits=(EditDraft(prompt, target, subject=subject, ground_truth="old"),),
            probes=(
                Probe(ProbeKind.EDIT, prompt, (target,), "old"),
                Probe(ProbeKind.PARAPHRASE, other, (target,), "old"),
                Probe(ProbeKind.LOCALITY, stranger, ("something",), target),
            ),
        )
        for i, (subject, prompt, target, other, stranger) in enumerate(FACTS)
    ]


def counterfact_rows() -> list[dict[str, Any]]:
    """The facts in CounterFact's published form."""
    return [
        {
            "case_id": i, "prompt": prompt, "target_new": target, "subject": subject, "ground_truth": "old",
            "rephrase_prompt": other, "locality_prompt": stranger, "locality_ground_truth": "something",
        }
        for i, (subject, prompt, target, other, stranger) in enumerate(FACTS)
    ]  # fmt: skip


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class ScriptedAnswerer:
    """Answers each prompt with the text told, "..." otherwise; one token a character."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.fingerprint = "scripted"

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        texts = [self.answers.get(prompt, "...")[:max_new_tokens] for prompt in prompts]
        return [Generation(text, tuple(map(ord, text))) for text in texts]

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        return [
            Scoring((-float(len(prompt) + len(target)),), (self.answers.get(prompt) == target.strip(),), (len(target),))
            for prompt, target in zip(prompts, targets, strict=True)
        ]


def tiny_loaded() -> LoadedModel:
    """A tiny random Llama."""
    return LoadedModel(tiny_model("llama"), tiny_tokenizer(), "tiny", "tiny-llama-0")


def run_on_tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run evaluations on a tiny random model and an encoder without a network; everything else is the real thing."""

    def bench(config: EvaluationConfig) -> Workbench:
        return Workbench(tiny_loaded(), HashingEncoder(), config.threshold, trained=config.trained)

    monkeypatch.setattr(workflow, "_workbench", bench)


class CountingAnswerer(BareAnswerer):
    """A tiny random Llama; ``batches`` lists the prompts of each call, ``fail_after`` breaks off after so many."""

    def __init__(self) -> None:
        super().__init__(tiny_loaded())
        self.batches: list[list[str]] = []
        self.fail_after: int | None = None

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        self._note(prompts)
        return super().generate(prompts, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline)

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        self._note(prompts)
        return super().score(prompts, targets)

    def _note(self, prompts: Sequence[str]) -> None:
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(list(prompts))
