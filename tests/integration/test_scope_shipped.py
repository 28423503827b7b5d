"""The shipped classifier on the real encoder."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from memedit.encoders import load_encoder
from memedit.evaluation.datasets.splits import is_training_row
from memedit.index.subjects import SubjectIndex
from memedit.memory import EditMemory
from memedit.scope import Scope, ScopeConflictScorer, load_scope
from memedit.scope.conflicts import trained_conflict_scorer
from memedit.types import EditDraft

pytestmark = pytest.mark.integration

FACTS = [
    ("The mayor of Tolburia is", "Ana Reyes", "Tolburia"),
    ("The river that flows through Tolburia is", "the Orven", "Tolburia"),
    ("Mirella Santoro's profession is", "glassblower", "Mirella Santoro"),
    ("Which city is the Halden Orchestra based in?", "Ghent", "Halden Orchestra"),
    ("Who wrote the novel The Copper Meridian?", "Ivo Lindqvist", "The Copper Meridian"),
    ("The Quillfeather bridge was opened in the year", "1911", "Quillfeather bridge"),
]


@pytest.fixture(scope="module")
def memory():
    with EditMemory(":memory:", encoder=load_encoder("minilm")) as opened:
        opened.add_many([EditDraft(prompt, target, subject=subject) for prompt, target, subject in FACTS])
        yield opened


@pytest.fixture(scope="module")
def scope(memory) -> Scope:
    return load_scope("classifier", memory.encoder)


def fired(memory, scope, *queries):
    encodings = memory.encoder.encode_tokens(list(queries))
    return [[hit.edit.target for hit in d.fired] for d in scope.decide(encodings, memory.candidates(encodings))]


def test_is_the_default_for_the_default_encoder(memory):
    assert load_scope("default", memory.encoder).name == "classifier"


def test_every_prompt_fires_its_own_edit(memory, scope):
    assert fired(memory, scope, *(prompt for prompt, _, _ in FACTS)) == [[target] for _, target, _ in FACTS]


def test_other_wordings_fire_the_right_edit(memory, scope):
    asked = {
        "Who is the mayor of Tolburia?": "Ana Reyes",
        "Which river flows through Tolburia?": "the Orven",
        "what does mirella santoro do for a living": "glassblower",
        "Lovely weather today. In which city is the Halden Orchestra based?": "Ghent",
        "The author of The Copper Meridian is": "Ivo Lindqvist",
        "In what year did the Quillfeather bridge open?": "1911",
    }
    found = fired(memory, scope, *asked)
    assert [row[:1] for row in found] == [[target] for target in asked.values()]


def test_rewordings_are_more_direct_than_questions_one_step_further(memory, scope):
    asked = {
        "Who is the mayor of Tolburia?": True,
        "The author of The Copper Meridian is": True,
        "What is the gender of the mayor of Tolburia?": False,
        "Which country is the author of the novel The Copper Meridian a citizen of?": False,
        "What is the population of the city which the Halden Orchestra is based in?": False,
    }
    encodings = memory.encoder.encode_tokens(list(asked))
    decisions = scope.decide(encodings, memory.candidates(encodings), threshold=0.0)
    found = {text: decision.considered[0].target_probability for text, decision in zip(asked, decisions, strict=True)}
    direct, further = ([found[text] for text, kind in asked.items() if kind is side] for side in (True, False))
    assert min(direct) > 0.9, found
    assert max(further) < 0.65, found
    assert sorted(further)[1] < 0.5, found
    (verbatim,) = memory.encoder.encode_tokens([FACTS[0][0]])
    (decision,) = scope.decide([verbatim], memory.candidates([verbatim]))
    assert decision.fired[0].target_probability == 1.0


def test_other_questions_are_left_alone(memory, scope):
    asked = [
        "The mayor of Portland is",
        "What is the population of Tolburia?",
        "Where was Mirella Santoro born?",
        "Who conducts the Vienna Philharmonic?",
        "Who wrote Moby-Dick?",
        "Write a poem about the sea.",
        "2 + 2 =",
        "東京の人口は",
    ]
    assert fired(memory, scope, *asked) == [[]] * len(asked)


def test_question_about_two_facts_fires_both(memory, scope):
    (targets,) = fired(memory, scope, "Who is the mayor of Tolburia? And who wrote The Copper Meridian?")
    assert sorted(targets) == ["Ana Reyes", "Ivo Lindqvist"]


def test_stored_token_vectors_give_the_same_decisions(memory, scope):
    edits = memory.list()
    other = load_scope("classifier", memory.encoder)
    assert other.accept(scope.prepare(edits)) == len(edits)
    assert other.missing(edits) == []
    queries = ["Who is the mayor of Tolburia?", "Who wrote Moby-Dick?"]
    assert fired(memory, other, *queries) == fired(memory, scope, *queries)


def test_contradictions_in_other_words_score_above_other_relations(memory, scope):
    mayor = memory.list()[0]
    pairs = [
        (replace(mayor, id="same", prompt="Tolburia's mayor is", content_hash="same"), mayor),
        (replace(mayor, id="other", prompt="The anthem of Tolburia is", content_hash="other"), mayor),
    ]
    same, other = ScopeConflictScorer(scope).scores(pairs, memory.encoder)
    assert other < scope.threshold <= same


@pytest.mark.data
@pytest.mark.slow
def test_published_paraphrases_and_neighbours(data_dir):
    """500 CounterFact edits: bars are the rule's; rows of the training half are left out of the questions."""
    with (data_dir / "counterfact_train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, 8000, 8500)]
    subjects = SubjectIndex()
    subjects.add_many((i, row["subject"]) for i, row in enumerate(rows))
    with EditMemory(":memory:", encoder=load_encoder("minilm")) as memory:
        drafts = [EditDraft(row["prompt"], row["target_new"], subject=row["subject"]) for row in rows]
        memory.add_many(drafts, on_conflict="supersede")
        in_force = {edit.prompt for edit in memory.list(state="active", limit=1000)}
        asked = [row for row in rows if not is_training_row(row["prompt"]) and row["prompt"] in in_force]
        scope = load_scope("classifier", memory.encoder)
        targets = fired(memory, scope, *(row["rephrase_prompt"] for row in asked))
        hits = np.mean([row["target_new"] in found[:1] for row, found in zip(asked, targets, strict=True)])
        outside = [row["locality_prompt"] for row in asked if not subjects.find(row["locality_prompt"])]
        silent = np.mean([not found for found in fired(memory, scope, *outside)])
    assert hits >= 0.97
    assert silent >= 0.98


def test_pairs_of_a_batch_score_as_they_do_alone(memory):
    scorer = trained_conflict_scorer(memory.encoder)
    mayor, river, *_ = memory.list()
    asked = replace(mayor, id="asked", prompt="Who is the mayor of Tolburia?", content_hash="asked")
    pairs = [(asked, mayor), (river, mayor), (asked, river)]
    together = scorer.scores(pairs, memory.encoder)
    alone = [scorer.scores([pair], memory.encoder)[0] for pair in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-3)
    assert together[0] > 0.9 > together[1]
