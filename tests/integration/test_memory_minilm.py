"""The memory with the real sentence encoder: contradictions in other words, at the default threshold."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from memedit.encoders import Encoder, load_encoder
from memedit.errors import ConflictError
from memedit.memory import EditMemory, MaskedPromptScorer

pytestmark = pytest.mark.integration
Pair = tuple[str, str, str]


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return load_encoder("minilm")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def share(pairs: list[Pair], encoder: Encoder) -> float:
    """Share of (prompt, prompt, subject) taken for the same relation."""
    scorer = MaskedPromptScorer()
    subjects = [subject for _, _, subject in pairs]
    one = scorer.vectors([new for new, _, _ in pairs], subjects, encoder)
    other = scorer.vectors([old for _, old, _ in pairs], subjects, encoder)
    return float(((one * other).sum(1) >= scorer.threshold).mean())


@pytest.mark.data
def test_the_relation_threshold_reaches_what_its_docstring_says(data_dir: Path, minilm: Encoder) -> None:
    by_subject = defaultdict(list)
    for row in rows(data_dir / "counterfact_train.jsonl"):
        by_subject[row["subject"].casefold()].append(row)
    same: list[Pair] = []
    other: list[Pair] = []
    for group in by_subject.values():
        for i, new in enumerate(group):
            for old in group[:i]:
                if new["prompt"].casefold() == old["prompt"].casefold() or new["target_new"] == old["target_new"]:
                    continue
                twins = "twin" in new["prompt"] and "twin" in old["prompt"]
                alike = twins or new["ground_truth"] == old["ground_truth"]
                (same if alike else other).append((new["prompt"], old["prompt"], new["subject"]))
    elsewhere = [
        (row["prompt"], question["prompt"], row["subject"])
        for row in rows(data_dir / "knowedit_recent_dev.jsonl")
        for question in row["locality"].get("Relation_Specificity", [])
    ][:400]
    assert share(same, minilm) >= 0.80
    assert share(other, minilm) <= 0.04
    assert share(elsewhere, minilm) <= 0.005


def test_facts_in_other_words(minilm: Encoder) -> None:
    with EditMemory(encoder=minilm) as memory:
        old = memory.add("Who is the chief executive of Norvik Shipping?", "Ole Berg", subject="Norvik Shipping")
        memory.add("Where does Norvik Shipping have its headquarters?", "Tern", subject="Norvik Shipping")
        with pytest.raises(ConflictError, match="same question in other words") as caught:
            memory.add("The chief executive of Norvik Shipping is", "Ada Holm", subject="Norvik Shipping")
        assert caught.value.existing_id == old.id
        memory.add("What year was Norvik Shipping founded in?", "1911", subject="Norvik Shipping")
        best, _ = memory.search("who runs the company Norvik Shipping?", k=1, mode="semantic")[0]
        assert best.id == old.id
